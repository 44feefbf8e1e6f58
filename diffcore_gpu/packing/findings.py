"""What came of packing: counts, files left out and why, files converted, classes without images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Any

from diffcore_gpu.errors import clause


class Effect(StrEnum):
    """What a finding means for the store."""

    SKIPPED = "skipped"
    """The generated file is not in the store."""
    CONVERTED = "converted"
    """The generated file is in the store, but its pixels are not the file's as they stood."""
    CLASS = "class"
    """A class has no counterparts, or no real images."""
    REAL = "real"
    """A real image would trouble the training."""


class Kind(StrEnum):
    """What was found; the value is the category's name in reports."""

    EMPTY_FILE = "empty-file"
    BROKEN = "broken"
    TRUNCATED = "truncated"
    UNREADABLE = "unreadable"
    TOO_SMALL = "too-small"
    TOO_LARGE = "too-large"
    UNSUPPORTED = "unsupported-pixels"
    NOT_AN_IMAGE = "not-an-image"
    UNKNOWN_CLASS = "unknown-class"
    NO_REAL_IMAGE = "no-real-image"
    OTHER_CLASS = "real-image-of-another-class"
    AMBIGUOUS = "ambiguous-name"

    CMYK = "cmyk"
    COLOUR_SPACE = "colour-space"
    PALETTE = "palette"
    GREY = "grey"
    SIXTEEN_BIT = "16-bit"
    TRANSPARENCY = "transparency"
    ANIMATED = "animated"
    ORIENTATION = "exif-orientation"

    EMPTY_CLASS = "empty-class"
    NO_COUNTERPARTS = "class-without-counterparts"
    NO_REAL_IMAGES = "class-without-real-images"


@dataclass(frozen=True)
class Finding:
    """One thing to tell the user.

    Attributes:
        effect: what it means for the store.
        kind: the category.
        name: the file or class, relative to its folder.
        detail: one phrase; empty where the kind says it all.
    """

    effect: Effect
    kind: Kind
    name: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.kind}" + (f" ({self.detail})" if self.detail else "")


def count_kinds(findings: list[Finding], effect: Effect) -> dict[str, int]:
    """How many findings of each kind have that effect, sorted by kind."""
    return dict(sorted(Counter(finding.kind.value for finding in findings if finding.effect is effect).items()))


@dataclass
class PackReport:
    """What came of a pack.

    Attributes:
        samples: real images.
        rows: generated images in the store.
        pairs: pairs of a sample and a row.
        covered: samples with at least one pair.
        unused_rows: rows in no pair.
        skipped_files: generated files, and whole folders of unknown classes, that were left out.
        converted_files: rows whose pixels are not the file's as they stood.
        rows_per_class: for each class with real images, its name and rows.
        enlarged: rows whose file is smaller than the store's images.
        layout: "class" or "stem".
        layout_reason: why that one.
        notes: class folders that were recognized under another spelling.
        findings: everything that was left out, converted or missing.
        resumed_rows: rows that were there already when the work was resumed.
        discarded_files: files that the filter found not similar enough to any sample; None: there was no filter.
        refused_pairs: pairs of a sample and a file that it found not similar enough; None: there was no filter.
        seconds: wall-clock time.
    """

    samples: int
    rows: int
    pairs: int
    covered: int
    unused_rows: int
    skipped_files: int
    converted_files: int
    rows_per_class: dict[str, int]
    enlarged: int
    layout: str
    layout_reason: str
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    resumed_rows: int = 0
    discarded_files: int | None = None
    refused_pairs: int | None = None
    seconds: float = 0.0

    @property
    def coverage(self) -> float:
        """The share of samples with at least one counterpart."""
        return self.covered / self.samples

    def counts(self) -> dict[str, Any]:
        """What the store keeps of this report."""
        return {
            "covered": self.covered,
            "unused_rows": self.unused_rows,
            "skipped_files": self.skipped_files,
            "converted_files": self.converted_files,
            "enlarged": self.enlarged,
            **(
                {}
                if self.discarded_files is None
                else {"discarded_files": self.discarded_files, "refused_pairs": self.refused_pairs}
            ),
            **{effect.value: count_kinds(self.findings, effect) for effect in Effect if effect is not Effect.REAL},
        }

    def as_json(self) -> dict[str, Any]:
        """The whole report as JSON-able values."""
        return {
            "samples": self.samples,
            "rows": self.rows,
            "pairs": self.pairs,
            "coverage": self.coverage,
            **self.counts(),
            "real": count_kinds(self.findings, Effect.REAL),
            "rows_per_class": self.rows_per_class,
            "layout": self.layout,
            "layout_reason": self.layout_reason,
            "notes": self.notes,
            "findings": [asdict(finding) for finding in self.findings],
            "resumed_rows": self.resumed_rows,
            "seconds": round(self.seconds, 3),
        }


@dataclass
class Journal:
    """What happened to the first `done` generated files.

    Attributes:
        done: files looked at.
        enlarged: files that were smaller than the store's images.
        runs: for each (effect, kind, detail), the files it was found in, as [begin, end) ranges of their positions:
            a whole folder of grey images is one range.
        digests: of the content of each skipped file, in their order; 0 where nothing could be read.
        gapless: whether it was kept after every skipped file, so that rows beyond it are those of the very next files.
    """

    done: int = 0
    enlarged: int = 0
    runs: dict[tuple[Effect, Kind, str], list[list[int]]] = field(default_factory=dict)
    digests: list[int] = field(default_factory=list)
    gapless: bool = True

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
        return {
            "done": self.done,
            "enlarged": self.enlarged,
            "runs": runs,
            "digests": list(self.digests),
            "gapless": self.gapless,
        }

    @classmethod
    def decode(cls, value: Mapping[str, Any]) -> Journal:
        """The journal from `encode`'s values.

        Raises:
            ValueError: they are something else.
        """
        try:
            runs = {(Effect(effect), Kind(kind), str(detail)): ranges for effect, kind, detail, ranges in value["runs"]}
            digests = [int(digest) for digest in value["digests"]]
            return cls(int(value["done"]), int(value["enlarged"]), runs, digests, bool(value["gapless"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a pack's journal: {clause(error)}.") from error
