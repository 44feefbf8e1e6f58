"""A warm process that runs campaigns, each in a fork: `python -m tests.torture.server [CAMPAIGN ARGUMENTS-AS-JSON]`.

Without arguments jobs and answers are lines of JSON on its standard input and output. With them it runs one campaign
and prints what happened, to look into a case by hand.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.torture.ledger import Ledger

CAMPAIGNS = ("faults", "powerloss", "damage", "in_use", "fuzzing", "soak")
"""Modules of this package whose functions take a scratch folder and give a `Ledger`: MODULE:FUNCTION, or `campaign`."""


def scratch_folder() -> str:
    """Where cases lie: in memory, where a system has such a place with some room."""
    memory = Path("/dev/shm")
    fits = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 256 << 20
    return tempfile.mkdtemp(prefix="torture-", dir=memory if fits else None)


def run_campaign(name: str, arguments: dict[str, Any]) -> Ledger:
    """Run a campaign in a scratch folder of its own."""
    module_name, _, function = name.partition(":")
    module = importlib.import_module(f"tests.torture.{module_name}")
    scratch = Path(scratch_folder())
    try:
        return getattr(module, function or "campaign")(scratch=scratch, **arguments)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def serving() -> Iterator[Callable[..., Ledger]]:
    """A function that runs a campaign in the server and gives its counts."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    # Processes that end by os._exit leave what loaders share with their workers to be tidied up.
    environment["PYTHONWARNINGS"] = "ignore:resource_tracker:UserWarning"
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:

        def run(campaign: str, **arguments: object) -> Ledger:
            process.stdin.write(json.dumps([campaign, arguments]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise AssertionError("the server has ended.")
            ended = json.loads(line)
            if ended["error"] or ended["signal"]:
                raise AssertionError(f"{ended['error']}{ended['signal']}")
            return Ledger.from_json(ended["answer"])

        yield run
        process.stdin.close()


def _prepare() -> None:
    """Import what the forks need."""
    import torch

    torch.set_num_threads(1)  # threads are lost in a fork
    for name in CAMPAIGNS:
        importlib.import_module(f"tests.torture.{name}")


def main() -> None:
    """Answer jobs, or run the one that is named."""
    from tests.torture.forks import end_with_parent, in_fork

    end_with_parent()
    _prepare()
    if len(sys.argv) > 1:
        began = time.perf_counter()
        ledger = run_campaign(sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {})
        for key, count in sorted(ledger.cases.items()):
            print(*key, count, sep=" | ")
        print(ledger.outcomes(), f"{time.perf_counter() - began:.1f} s")
        print(*Counter(ledger.said).most_common(10), sep="\n")
        print(ledger.report())
        return
    for line in sys.stdin:
        name, arguments = json.loads(line)
        ended = in_fork(lambda name=name, arguments=arguments: run_campaign(name, arguments).as_json(), seconds=1800)
        print(json.dumps(vars(ended)), flush=True)


if __name__ == "__main__":
    main()
