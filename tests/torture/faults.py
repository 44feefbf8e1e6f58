"""One fault at one call: a kill, an error of the system, or a write that takes a part, at every call in turn.

| fault | what happens at the call | then |
|---|---|---|
| killed | SIGKILL before it | |
| killed amid | SIGKILL after the first half of a write | |
| ENOSPC, EIO, EINTR | it fails once, and does nothing | the next ones succeed |
| disk full | a write takes its first half | everything that needs room fails from then on |
| disk failed | it fails with EIO | so do all that change the disk or flush it |
| short | a write takes its first half, and says so | nothing else |
| unreadable | a read fails with EIO | the next ones succeed |

Flushes do nothing here, since what is written stays in the page cache when a process dies (what a power cut does is
`powerloss`'s), and nothing is killed at one for the same reason; but they fail like other calls.
"""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcore_gpu.errors import DiffcoreError
from tests.torture import oracle
from tests.torture.calls import CHANGES, READS, SYNCS, WRITES, Call, Run, watched
from tests.torture.forks import in_fork
from tests.torture.ledger import Ledger
from tests.torture.operations import Bench

PART = "faults"
AGAIN = "killed again and again"
_NEED_ROOM = (*WRITES, *SYNCS, "create", "mkdir", "replace", "link", "symlink")


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        name: in the table.
        calls: at which it may strike.
        error: the number that the call fails with; 0: it does not fail.
        half: whether a write takes its first half before.
        lasting: the calls that fail from then on, with the same error.
        kills: whether the process ends.
    """

    name: str
    calls: tuple[str, ...]
    error: int = 0
    half: bool = False
    lasting: tuple[str, ...] = ()
    kills: bool = False


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("killed", CHANGES, kills=True),
        Fault("killed amid", WRITES, half=True, kills=True),
        Fault("ENOSPC", _NEED_ROOM, errno.ENOSPC),
        Fault("EIO", (*CHANGES, *SYNCS), errno.EIO),
        Fault("EINTR", (*WRITES, *SYNCS, "create", "truncate"), errno.EINTR),
        Fault("disk full", _NEED_ROOM, errno.ENOSPC, half=True, lasting=_NEED_ROOM),
        Fault("disk failed", (*CHANGES, *SYNCS), errno.EIO, lasting=(*CHANGES, *SYNCS)),
        Fault("short", WRITES, half=True),
        Fault("unreadable", READS, errno.EIO),
    )
}


class _Striker:
    """Counts the calls that a fault may strike, and strikes at one."""

    def __init__(self, fault: Fault, step: int) -> None:
        self._fault, self._left, self.struck = fault, step, ""

    def __call__(self, call: Call, run: Run) -> Any:
        fault = self._fault
        if self.struck:
            if call.name in fault.lasting:
                raise OSError(fault.error, os.strerror(fault.error), call.path)
        elif call.name in fault.calls:
            if self._left == 0:
                self.struck = call.name
                return self._strike(call, run)
            self._left -= 1
        return None if call.name in SYNCS else run()

    def _strike(self, call: Call, run: Run) -> Any:
        fault = self._fault
        taken = run(len(call.data) // 2) if fault.half and call.name in WRITES else None
        if fault.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.error and not (taken and fault.lasting):
            raise OSError(fault.error, os.strerror(fault.error), call.path)
        return taken


def calls_of(bench: Bench, scratch: Path) -> list[str]:
    """The names of the watched calls of an undisturbed run, in their order."""
    names: list[str] = []

    def note(call: Call, run: Run) -> Any:
        names.append(call.name)
        return None if call.name in SYNCS else run()

    out = bench.fresh()
    with watched(scratch, note):
        bench.run(out)
    return names


def campaign(operation: str, scratch: Path, faults: Iterable[str] = tuple(FAULTS), most: int | None = None) -> Ledger:
    """Strike at every call, or at so many of them for each fault, drawn by a fixed seed."""
    ledger, bench, draw = Ledger(), Bench(operation, scratch), random.Random(0)
    names = calls_of(bench, scratch)
    for fault in (FAULTS[name] for name in faults):
        struck = [name for name in names if name in fault.calls]
        steps = list(range(len(struck)))
        if most is not None and most < len(steps):
            steps = sorted(draw.sample(steps, most))
        for step in steps:
            try:
                outcome = _case(bench, scratch, fault, step)
            except oracle.WrongError as error:
                ledger.fail(PART, operation, fault.name, f"{struck[step]} {step}", str(error))
            else:
                ledger.add(PART, operation, fault.name, struck[step], outcome)
    return ledger


def again(operation: str, scratch: Path, cases: int) -> Ledger:
    """Kill the same work again and again: each time a random number of calls, or of milliseconds, after the last."""
    ledger, bench, draw = Ledger(), Bench(operation, scratch), random.Random(0)
    changes = sum(name in CHANGES for name in calls_of(bench, scratch))
    for case in range(cases):
        out, by_time = bench.fresh(), case % 2 == 1
        kills, error = _kill_repeatedly(bench, out, scratch, draw, changes, by_time=by_time)
        try:
            if error:
                raise oracle.WrongError(error)
            oracle.check_standing(bench, out)
            outcome = f"killed, then {oracle.check_resumed(bench, out)}"
        except oracle.WrongError as error:
            ledger.fail(AGAIN, operation, "by the clock" if by_time else "at calls", f"case {case}", str(error))
        else:
            ledger.add(AGAIN, operation, "by the clock" if by_time else "at calls", f"{kills} times", outcome)
    return ledger


def _kill_repeatedly(
    bench: Bench, out: Path, scratch: Path, draw: random.Random, changes: int, *, by_time: bool
) -> tuple[int, str]:
    """How often it was killed before it ended, at most ten times, and the error that it ended with."""
    for kills in range(10):
        striker = _Striker(FAULTS["killed"], changes if by_time else draw.randrange(1, changes // 2 + 2))
        seconds = draw.uniform(0.002, 0.08) if by_time else 0.0
        ended = in_fork(lambda striker=striker, seconds=seconds: _run_under(bench, out, scratch, striker, seconds))
        if not ended.signal:
            return kills, ended.error
    return 10, ""


def _run_under(bench: Bench, out: Path, scratch: Path, striker: _Striker, seconds: float) -> None:
    if seconds:
        signal.setitimer(signal.ITIMER_REAL, seconds)  # nobody handles its signal, so that it kills
    with watched(scratch, striker):
        bench.run(out)


def _case(bench: Bench, scratch: Path, fault: Fault, step: int) -> str:
    out = bench.fresh()
    ended = in_fork(lambda: _run(bench, out, scratch, fault, step))
    if ended.error:
        raise oracle.WrongError(f"the run ended with {ended.error.strip().splitlines()[-1]}\n{ended.error}")
    if fault.kills:
        if ended.signal != "SIGKILL":
            raise oracle.WrongError(f"the run was not killed but {ended}")
        before = "killed"
    elif ended.signal:
        raise oracle.WrongError(f"the run ended by {ended.signal}")
    elif not ended.answer["struck"]:
        raise oracle.WrongError("the call did not come again")
    elif ended.answer["refusal"] is None:
        oracle.check_ended(bench, out)
        return "went on, identical"
    else:
        before = "refused"
    oracle.check_standing(bench, out)
    return f"{before}, then {oracle.check_resumed(bench, out)}"


def _run(bench: Bench, out: Path, scratch: Path, fault: Fault, step: int) -> dict[str, str | None]:
    striker, refusal = _Striker(fault, step), None
    with watched(scratch, striker):
        try:
            bench.run(out)
        except DiffcoreError as error:
            refusal = str(error)
            if not oracle.is_plain(error):
                raise AssertionError(f"not one plain sentence: {error!r}") from error
    return {"refusal": refusal, "struck": striker.struck}
