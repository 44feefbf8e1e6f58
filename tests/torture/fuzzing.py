"""Files of every format that is read, each in thousands of damaged and hostile variants.

A variant must be read, or refused in one plain sentence, in bounded time and memory. What is read of a store must be
right, unless the variant carries the checksums of a sound file ("resealed"): then it is another store, and must be one
that can be read whole. `corpus/FORMAT/` holds files that failed once, or would without a check; they are tried first.
"""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcore_gpu.benchmarks.reporting.collection import collect
from diffcore_gpu.errors import DiffcoreError
from diffcore_gpu.generation.prompts import load_prompt_set
from diffcore_gpu.generation.report.folder import ReportFolder
from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.store.manifest import content_checksum
from tests import fuzz
from tests.torture import oracle
from tests.torture.damage import reading, snapshots
from tests.torture.ledger import Ledger
from tests.torture.operations import STORE, Bench, contents

PART = "fuzzed files"
CORPUS = Path(__file__).parent / "corpus"
SECONDS = 30
"""After which a variant counts as hung."""
_MORE_MEMORY = 4 << 30

_PROMPTS = b"""
name = "mushroom"
contextual = ["{a} {label}, on a mossy floor", "{a} {label}, {{among}} leaves"]
negative = ["people", "text"]
"""
_RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "amd-epyc-2-cores"


class HungError(BaseException):
    """A variant took too long; no reader catches it."""


@dataclass(frozen=True)
class Format:
    """A format, a sound file of it, and what is to be done with a variant.

    Attributes:
        name: in the table.
        sound: a sound file.
        kind: its structure, for `fuzz.mutated`.
        read: puts the variant in place and reads it; "read", "right" or "identical".
        sealed: whether it is JSON with a checksum over itself.
    """

    name: str
    sound: bytes
    kind: fuzz.Kind
    read: Callable[[bytes], str]
    sealed: bool = False


def _store_formats(scratch: Path) -> Iterator[Format]:
    bench = Bench("write", scratch / "store")
    whole = bench.fresh() / STORE
    bench.run(whole.parent)
    whole = Path(shutil.copytree(whole, scratch / "whole"))
    right = reading(CounterpartStore.open(whole))
    manifest = CounterpartStore.open(whole).manifest

    def reader(name: str) -> Callable[[bytes], str]:
        def read(raw: bytes) -> str:
            (whole / name).write_bytes(raw)
            try:
                opened = CounterpartStore.open(whole)
                opened.verify()
                found = reading(opened)
            finally:
                (whole / name).write_bytes(sound[name])
            return "right" if found == right else "another store"

        return read

    names = {"store.json": "json", manifest.shards[0].name: "safetensors"}
    names |= {table.name: "safetensors" for table in manifest.tables}
    sound = {name: (whole / name).read_bytes() for name in names}
    for name, kind in names.items():
        label = name.split("-")[0] + (".safetensors" if kind == "safetensors" else "")
        yield Format(label, sound[name], kind, reader(name), sealed=name == "store.json")


def _work_formats(operation: str, names: dict[str, fuzz.Kind], scratch: Path) -> Iterator[Format]:
    bench = Bench(operation, scratch)
    begun = snapshots(bench, scratch, 2)[1]

    def reader(name: str, sealed: bool) -> Callable[[bytes], str]:
        def read(raw: bytes) -> str:
            out = Path(shutil.copytree(begun, bench.clear()))
            (out / name).write_bytes(raw)
            if not sealed:
                return oracle.check_resumed(bench, out, refusals=[])
            bench.run(out)
            CounterpartStore.open(out / STORE).verify()
            return "identical" if contents(out) == bench.expected else "another store"

        return read

    for name, kind in names.items():
        sound = (begun / name).read_bytes()
        yield Format(Path(name).name, sound, kind, reader(name, kind == "json"), sealed=kind == "json")


_WRITER_FILES: dict[str, fuzz.Kind] = {
    f"{STORE}/unfinished/settings.json": "json",
    f"{STORE}/unfinished/progress.json": "json",
    f"{STORE}/unfinished/rows.bin": "bytes",
    f"{STORE}/unfinished/pairs.bin": "bytes",
    f"{STORE}/unfinished/prompts.jsonl": "bytes",
}


def _other_formats(scratch: Path) -> Iterator[Format]:
    path, folder = scratch / "file", ReportFolder(scratch / "report")
    bench = Bench("generate", scratch / "run")
    bench.run(bench.fresh())
    report = (bench.fresh().parent / "after" / f"{STORE}.report" / "report.json").read_bytes()
    folder.path.mkdir()

    def read_prompts(raw: bytes) -> str:
        path.write_bytes(raw)
        load_prompt_set(path).render(0, "owl")
        return "read"

    def read_report(raw: bytes) -> str:
        (folder.path / "report.json").write_bytes(raw)
        folder.read()
        return "read"

    def read_result(raw: bytes) -> str:
        path.write_bytes(raw)
        collect([path])
        return "read"

    yield Format("prompts.toml", _PROMPTS, "toml", read_prompts)
    yield Format("report.json", report, "json", read_report)
    yield Format("bench.json", (_RESULTS / "generation.json").read_bytes(), "json", read_result)


def formats(scratch: Path) -> Iterator[Format]:
    """Every format, with its sound file."""
    yield from _store_formats(scratch)
    yield from _work_formats("write", _WRITER_FILES, scratch / "writer")
    yield from _work_formats("generate", {f"{STORE}.report/verdicts.bin": "bytes"}, scratch / "generate")
    yield from _other_formats(scratch / "others")


def campaign(scratch: Path, cases: int, first: int = 0) -> Ledger:
    """So many variants of each format, after those of the corpus."""
    ledger = Ledger()
    (scratch / "others").mkdir()
    _bound_memory()
    for form in formats(scratch):
        for path in sorted((CORPUS / form.name).glob("*")):
            _try(ledger, form, "from the corpus", path.name, path.read_bytes())
        for seed in range(first, first + cases):
            raw = fuzz.mutated(form.sound, seed, form.kind)
            resealed = form.sealed and seed % 2
            _try(ledger, form, "resealed" if resealed else "changed", f"seed {seed}", _reseal(raw) if resealed else raw)
    return ledger


def _try(ledger: Ledger, form: Format, how: str, which: str, raw: bytes) -> None:
    try:
        with _in_time():
            outcome = form.read(raw)
    except DiffcoreError as error:
        ledger.said.append(str(error))
        if oracle.is_plain(error):
            ledger.add(PART, form.name, how, "any", "refused")
        else:
            ledger.fail(PART, form.name, how, which, f"not one plain sentence: {str(error)!r}")
    except oracle.WrongError as error:
        ledger.fail(PART, form.name, how, which, str(error))
    except (Exception, HungError) as error:  # noqa: BLE001  any other is what is looked for
        frame = traceback.extract_tb(error.__traceback__)[-1]
        ledger.fail(PART, form.name, how, which, f"{error!r:.200} ({Path(frame.filename).name}:{frame.lineno})")
    else:
        if outcome == "another store" and how != "resealed":
            ledger.fail(PART, form.name, how, which, "other bytes were read, or written")
        else:
            ledger.add(PART, form.name, how, "any", outcome)


def _reseal(raw: bytes) -> bytes:
    """With the checksum of its content, where it still is an object."""
    try:
        content = json.loads(raw)
        content["checksum"] = content_checksum(content)
        return json.dumps(content).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return raw


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    def hang(number: int, frame: Any) -> None:
        raise HungError(f"nothing after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, hang)
    left = signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.alarm(left)


def _bound_memory() -> None:
    """Of this process, so that a variant which asks for too much raises MemoryError."""
    with Path("/proc/self/statm").open() as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + _MORE_MEMORY, most))
