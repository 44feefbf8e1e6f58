"""How far a pack has come and what it noticed, small enough to be kept in the unfinished store at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from diffcore_gpu.errors import clause
from diffcore_gpu.packing.findings import Effect, Finding, Kind


@dataclass
class Journal:
    """What happened to the first `done` generated files.

    Attributes:
        done: files looked at.
        enlarged: files that were smaller than the store's images.
        runs: for each (effect, kind, detail), the files it was found in, as [begin, end) ranges of their positions:
            a whole folder of grey images is one range.
    """

    done: int = 0
    enlarged: int = 0
    runs: dict[tuple[Effect, Kind, str], list[list[int]]] = field(default_factory=dict)

    def note(self, effect: Effect, kind: Kind, detail: str) -> None:
        """Something was found in the file that is being looked at; `done` counts those before it."""
        ranges = self.runs.setdefault((effect, kind, detail), [])
        if ranges and ranges[-1][1] == self.done:
            ranges[-1][1] += 1
        else:
            ranges.append([self.done, self.done + 1])

    def skipped(self) -> set[int]:
        """Positions of the files that have no row."""
        ranges = chain.from_iterable(found for (effect, _, _), found in self.runs.items() if effect is Effect.SKIPPED)
        return {position for begin, end in ranges for position in range(begin, end)}

    def findings(self, names: Sequence[str]) -> list[Finding]:
        """Everything noticed, in the order of the files; `names` are those of all files."""
        found = [
            (position, Finding(effect, kind, names[position], detail))
            for (effect, kind, detail), ranges in self.runs.items()
            for begin, end in ranges
            for position in range(begin, end)
        ]
        return [finding for _, finding in sorted(found, key=lambda item: item[0])]

    def encode(self) -> dict[str, Any]:
        """As JSON-able values."""
        runs = [[effect, kind, detail, ranges] for (effect, kind, detail), ranges in self.runs.items()]
        return {"done": self.done, "enlarged": self.enlarged, "runs": runs}

    @classmethod
    def decode(cls, value: Mapping[str, Any]) -> Journal:
        """The journal from `encode`'s values.

        Raises:
            ValueError: they are something else.
        """
        try:
            runs = {(Effect(effect), Kind(kind), str(detail)): ranges for effect, kind, detail, ranges in value["runs"]}
            return cls(int(value["done"]), int(value["enlarged"]), runs)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a pack's journal: {clause(error)}.") from error
