"""Runs that consist of parts, such as one for each batch size: written after each, cut by a budget, and resumed.

A part that takes long may also keep what it has so far, with `Run.keep`. Then it stands among the results, marked as
unfinished, and goes on from there when the run does, however that was cut off.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from diffcore_gpu.benchmarks.harness.command import Output
from diffcore_gpu.benchmarks.harness.environment import BUSY, clocks, environment, is_busy
from diffcore_gpu.benchmarks.harness.result_file import complete, new_result, read_result, write_result
from diffcore_gpu.errors import BenchmarkError

Part = dict[str, Any]
"""What tells one part of a run from the others, such as {"batch": 16}."""


class Run:
    """A run of a suite, begun or resumed.

    Args:
        suite: its name.
        output: where the result goes, and when nothing more is begun.
        device: that is measured.
        setting: the options that every part depends on, by name.
        packages: whose versions the result names.
        timed: the samples are times, so that a busy machine is warned of.

    Attributes:
        device: that is measured.
        result: what the file holds, or will hold.

    Raises:
        BenchmarkError: the JSON file is there and holds something else than an earlier part of this run.
    """

    def __init__(
        self,
        suite: str,
        output: Output,
        device: torch.device,
        setting: Mapping[str, Any],
        packages: Sequence[str] = (),
        *,
        timed: bool = True,
    ) -> None:
        self._setting = json.loads(
            json.dumps(setting, default=str, ensure_ascii=False).encode(errors="replace")  # as it is written
        )
        self.device = device
        self._resumed = False
        self._path, budget = output.json, output.budget_minutes
        self._end = None if budget is None else time.monotonic() + 60 * budget
        self.result = new_result(suite, environment(device, packages, command=output.command), self._setting)
        if timed:
            _warn_of_load(self.result["environment"])
        if self._path is not None and self._path.exists():
            with complete(self._path, suite):
                self._resume(suite, self._path)
            self._resumed = True

    def _resume(self, suite: str, path: Path) -> None:
        before = read_result(path, suite)
        differs = [
            f"{name} is {self._setting.get(name)!r} here and {before['setting'].get(name)!r} there"
            for name in sorted({*self._setting, *before["setting"]})
            if self._setting.get(name) != before["setting"].get(name)
        ]
        names = ("gpu", "cpu", "versions")
        differs += [
            f"{name} is not the same"
            for name in names
            if self.result["environment"][name] != before["environment"][name]
        ]
        if differs:
            raise BenchmarkError(
                f"{path}: holds another run ({'; '.join(differs)}); remove it or write to another file."
            )
        before["environment"].setdefault("load_when_resumed", []).append(self.result["environment"]["load_at_start"])
        self.result = before

    @property
    def spent(self) -> bool:
        """Whether the budget is spent."""
        return self._end is not None and time.monotonic() > self._end

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """To be entered around what reads the parts of the result, which an earlier process or anyone else wrote.

        Raises:
            BenchmarkError: the file that the run goes on from does not hold what the block looks for.
        """
        if self._resumed and self._path is not None:
            with complete(self._path, self.result["suite"]):
                yield
        else:
            yield

    def kept(self, part: Part) -> dict[str, Any] | None:
        """What an unfinished part has kept, or None."""
        place = self._place(part)
        return None if place is None else self.result["results"][place]

    def keep(self, part: Part, figures: Mapping[str, Any]) -> None:
        """Keep what a part has so far; it is written at once.

        Args:
            part: that is measured.
            figures: that it could go on from.
        """
        self._put(part, {**part, **figures, "unfinished": True})

    def _put(self, part: Part, entry: dict[str, Any]) -> None:
        place = self._place(part)
        if place is None:
            self.result["results"].append(entry)
        else:
            self.result["results"][place] = entry
        if self._path is not None:
            write_result(self._path, self.result)

    def _place(self, part: Part) -> int | None:
        places = (
            place
            for place, entry in enumerate(self.result["results"])
            if all(entry.get(key) == value for key, value in part.items())
        )
        return next(places, None)

    def do(
        self,
        parts: Sequence[Part],
        measure: Callable[[Part], Mapping[str, Any] | None],
        report: Callable[[dict[str, Any]], str] | None = None,
    ) -> dict[str, Any]:
        """Measure the parts that are not done yet.

        Args:
            parts: in order.
            measure: the figures of a part; None: it stopped before its end, and so does the run.
            report: the text that is printed about a part, from its figures and what tells it apart.

        Returns:
            The result with every part that is done, and with what an unfinished one has kept.
        """
        for part in parts:
            before = self.kept(part)
            if before is not None and not before.get("unfinished"):
                continue
            figures = None if self.spent else measure(part)
            if figures is None:
                what = ", ".join(f"{key} {value}" for key, value in part.items())
                so_far = self.kept(part)
                if report is not None and so_far is not None:
                    self._tell(report, so_far)
                print(f"The budget is spent before the end of {what}; run the same command again to go on.")
                break
            measured = {**part, **figures, "clocks_at_end": clocks(self.device)}
            self._put(part, measured)
            if report is not None:
                self._tell(report, measured)
        return self.result

    def _tell(self, report: Callable[[dict[str, Any]], str], figures: dict[str, Any]) -> None:
        with self.reading():  # some reports show all parts
            text = report(figures)
        print(text, end="\n\n", flush=True)


def _warn_of_load(found: Mapping[str, Any]) -> None:
    load, cpus = found["load_at_start"], found["cpus"]
    if is_busy(load, cpus):
        print(
            f"Warning: the load of this machine is {load:.2f} on {cpus} processors. Other programs run beside this, or "
            "did so a minute ago, and what is measured holds their share too; begin when the load is below "
            f"{BUSY * (cpus or 1):.2f}.",
            file=sys.stderr,
            flush=True,
        )
