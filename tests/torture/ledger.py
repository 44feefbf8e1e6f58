"""What was tried and what happened: counts of cases, kept for the table of the site."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VARIABLE = "TORTURE_RESULTS"
"""Of the environment: the folder in which each process leaves its counts."""
FIELDS = ("part", "operation", "fault", "call", "outcome")
_SHOWN = 25
_HASH = re.compile(r"-[0-9a-f]{12}(?=\.)")


@dataclass
class Ledger:
    """Counts of cases by `FIELDS`, a sentence for each case that went wrong, and what the refusals said."""

    cases: Counter[tuple[str, ...]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def add(self, part: str, operation: str, fault: str, call: str, outcome: str, count: int = 1) -> None:
        """Count cases."""
        call = _HASH.sub("", call)  # of a file that is named by its content
        self.cases[part, operation, fault, call, outcome] += count

    def fail(self, part: str, operation: str, fault: str, call: str, sentence: str) -> None:
        """Count a case that went wrong."""
        self.add(part, operation, fault, call, "WRONG")
        self.wrong.append(f"{part}, {operation}, {fault} at {call}: {sentence}")

    def as_json(self) -> dict[str, Any]:
        """For `from_json`."""
        cases = [[*key, count] for key, count in sorted(self.cases.items())]
        return {"cases": cases, "wrong": self.wrong, "said": self.said}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Ledger:
        """From what `as_json` gave."""
        return cls(Counter({tuple(key): count for *key, count in content["cases"]}), content["wrong"], content["said"])

    def include(self, other: Ledger) -> None:
        """Add another's counts."""
        self.cases.update(other.cases)
        self.wrong += other.wrong
        self.said += other.said

    @property
    def total(self) -> int:
        """The number of cases."""
        return sum(self.cases.values())

    def outcomes(self) -> dict[str, int]:
        """How often each outcome was."""
        counts: Counter[str] = Counter()
        for key, count in self.cases.items():
            counts[key[-1]] += count
        return dict(counts)

    def report(self) -> str:
        """What went wrong, in full for the first cases."""
        shown = "\n".join(self.wrong[:_SHOWN])
        more = len(self.wrong) - _SHOWN
        return f"{len(self.wrong)} of {self.total} cases:\n{shown}" + (f"\n… and {more} more" if more > 0 else "")

    def save(self) -> None:
        """Leave the counts in the folder that the environment names, if it names one."""
        folder = os.environ.get(VARIABLE)
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            content = {**self.as_json(), "said": []}
            (Path(folder) / f"{os.getpid()}.json").write_text(json.dumps(content, ensure_ascii=False) + "\n")
