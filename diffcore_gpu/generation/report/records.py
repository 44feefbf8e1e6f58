"""What a generation run made, independent of how it was made: candidates, counts per class, and figures derived.

A report of a million samples in a thousand classes is about a megabyte of JSON: it holds counts, histograms and a
bounded choice of the samples that never passed, not a list of all candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, get_type_hints

from diffcore_gpu.errors import clause
from diffcore_gpu.generation.report.histogram import Histogram, summed

VERSION = 1
"""Of the report's JSON form."""
COUNTS = ("samples", "wanted", "covered", "generated", "discarded", "never_passed")
"""What is counted of a class, as `ClassReport` explains; of all classes it adds up."""


@dataclass(frozen=True)
class Candidate:
    """One generated image and what the filter said of it.

    Attributes:
        sample: dataset index of the real image that it was compared with.
        label: class number of both.
        attempt: 0 for the first image made for that sample, 1 for the next, …
        seed: that the image was generated from.
        prompt: the contextual prompt as the model got it.
        negative_prompt: the negative prompt as the model got it; empty where there is none.
        similarity: S in [−1, 1], the cosine similarity of both images' embeddings.
        accepted: S > τ of the class.
        prompt_id: position in the prompt set; −1 where it is not known.
    """

    sample: int
    label: int
    attempt: int
    seed: int
    prompt: str
    negative_prompt: str
    similarity: float
    accepted: bool
    prompt_id: int = -1

    def as_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Candidate:
        """The candidate from `as_json`'s values, which anyone may have written.

        Raises:
            KeyError, TypeError, ValueError: they are something else.
        """
        return cls(**_fields(cls, value))


@dataclass(frozen=True)
class ClassReport:
    """What came of one class, or of all classes as one.

    Attributes:
        name: the class folder's name.
        samples: real images.
        wanted: samples that were to get a counterpart.
        covered: samples that have one.
        generated: images generated, all attempts.
        discarded: those of them that the filter discarded.
        threshold: τ of the class; NaN where there is none.
        never_passed: samples whose every attempt was discarded.
        histogram: of the similarities S.
    """

    name: str
    samples: int
    wanted: int
    covered: int
    generated: int
    discarded: int
    threshold: float
    never_passed: int = 0
    histogram: Histogram = field(default_factory=Histogram)

    def __post_init__(self) -> None:
        if min(getattr(self, name) for name in COUNTS) < 0:
            raise ValueError(f"class {self.name!r} has a negative count.")
        if self.discarded > self.generated or self.covered > self.samples or self.wanted > self.samples:
            raise ValueError(f"the counts of class {self.name!r} contradict each other.")

    @property
    def accepted(self) -> int:
        """Generated images that passed."""
        return self.generated - self.discarded

    @property
    def acceptance_rate(self) -> float:
        """Accepted images over generated ones, in [0, 1]; NaN where none was generated."""
        return _share(self.accepted, self.generated)

    @property
    def discarded_percent(self) -> float:
        """Discarded images in percent of those generated; NaN where none was generated."""
        return _percent(self.discarded, self.generated)

    @property
    def coverage(self) -> float:
        """The share of the class's samples that have a counterpart, in [0, 1]; NaN where it has no samples."""
        return _share(self.covered, self.samples)

    @property
    def uncovered(self) -> int:
        """Samples that were to get a counterpart and have none: never passed, or not reached yet."""
        return max(self.wanted - self.covered, 0)

    def as_json(self) -> dict[str, Any]:
        """As JSON-able values; a threshold that is NaN becomes null."""
        return {
            "name": self.name,
            **{name: getattr(self, name) for name in COUNTS},
            "discarded_percent": _rounded(self.discarded_percent, 3),
            "threshold": None if math.isnan(self.threshold) else self.threshold,
            "histogram": self.histogram.as_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ClassReport:
        """The class from `as_json`'s values.

        Raises:
            KeyError, TypeError, ValueError: they are something else.
        """
        return cls(
            name=_checked("name", value["name"], str),
            threshold=math.nan if value["threshold"] is None else _similarity("threshold", value["threshold"]),
            histogram=Histogram.from_json(value["histogram"]),
            **{name: _checked(name, value[name], int) for name in COUNTS},
        )


@dataclass(frozen=True)
class PromptReport:
    """What came of one prompt of the set.

    Attributes:
        text: the prompt with its placeholders, as the set has it.
        generated: images generated from it.
        discarded: those of them that the filter discarded.
    """

    text: str
    generated: int
    discarded: int

    @property
    def discarded_percent(self) -> float:
        """Discarded images in percent of those generated; NaN where none was generated."""
        return _percent(self.discarded, self.generated)


@dataclass(frozen=True)
class NeverPassed:
    """A sample that has no counterpart because every attempt was discarded.

    Attributes:
        sample: its dataset index.
        label: its class number.
        name: its file, relative to the dataset's folder.
        attempts: images generated for it.
        best: the highest similarity S among them.
    """

    sample: int
    label: int
    name: str
    attempts: int
    best: float


@dataclass(frozen=True)
class GenerationReport:
    """What came of a generation run.

    Attributes:
        classes: one for each class, by number.
        model: what made the images, as `TextToImage.describe` says: model, scheduler, gamma, w, steps, dtype, size, …
        settings: how: prompt set, negative prompt, filter model, fraction, maximal attempts, seed, …
        seconds: seconds spent in each stage: "denoiser", "vae", "filter", "write", "wait".
        wall_seconds: wall-clock time of the run, or of its last part where it was resumed.
        timed_images: images generated in that time.
        margin: histogram of S − τ over all classes: above 0 is accepted.
        prompts: one for each prompt of the set, by id.
        never_passed: samples that never passed; at most `KEPT_NEVER_PASSED`, spread over the classes. The classes hold
            the full counts.
    """

    classes: Sequence[ClassReport]
    model: Mapping[str, Any]
    seconds: Mapping[str, float]
    wall_seconds: float = 0.0
    timed_images: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    margin: Histogram = field(default_factory=Histogram)
    prompts: Sequence[PromptReport] = ()
    never_passed: Sequence[NeverPassed] = ()

    @cached_property
    def total(self) -> ClassReport:
        """All classes as one; its τ is NaN where theirs differ, or where they have none."""
        thresholds = {part.threshold for part in self.classes if not math.isnan(part.threshold)}
        return ClassReport(
            name="all classes",
            threshold=thresholds.pop() if len(thresholds) == 1 else math.nan,
            histogram=summed(part.histogram for part in self.classes),
            **{name: sum(getattr(part, name) for part in self.classes) for name in COUNTS},
        )

    @property
    def images_per_second(self) -> float:
        """Images generated per second of wall-clock time; NaN where nothing was timed."""
        return _share(self.timed_images, self.wall_seconds)

    @property
    def seconds_per_image(self) -> float:
        """Wall-clock seconds per generated image; NaN where nothing was timed."""
        return _share(self.wall_seconds, self.timed_images)

    @property
    def seconds_per_counterpart(self) -> float:
        """Wall-clock seconds per accepted image, at the run's acceptance rate; NaN where nothing passed."""
        return _share(self.seconds_per_image, self.total.acceptance_rate)

    @property
    def stage_shares(self) -> dict[str, float]:
        """The share of each stage in the sum of `seconds`, in [0, 1], in their order; empty where nothing was timed."""
        total = math.fsum(self.seconds.values())
        return {stage: spent / total for stage, spent in self.seconds.items()} if total > 0 else {}

    def as_json(self) -> dict[str, Any]:
        """The whole report as JSON-able values, derived figures included; `from_json` reads it back."""
        total = self.total
        return {
            "version": VERSION,
            "samples": total.samples,
            "wanted": total.wanted,
            "covered": total.covered,
            "uncovered": total.uncovered,
            "without_counterpart": total.never_passed,
            "generated": total.generated,
            "accepted": total.accepted,
            "discarded": total.discarded,
            "discarded_percent": _rounded(total.discarded_percent, 3),
            "coverage": _rounded(total.coverage, 6),
            "images_per_second": _rounded(self.images_per_second, 4),
            "stage_shares": {stage: round(share, 6) for stage, share in self.stage_shares.items()},
            "seconds": dict(self.seconds),
            "wall_seconds": self.wall_seconds,
            "timed_images": self.timed_images,
            "model": dict(self.model),
            "settings": dict(self.settings),
            "margin": self.margin.as_json(),
            "prompts": [asdict(prompt) for prompt in self.prompts],
            "never_passed": [asdict(sample) for sample in self.never_passed],
            "classes": [part.as_json() for part in self.classes],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> GenerationReport:
        """The report from `as_json`'s values, which anyone may have written.

        Raises:
            ValueError: they are something else, or of another version.
        """
        if not isinstance(value, Mapping) or type(value.get("version")) is not int or value["version"] != VERSION:
            raise ValueError(f"not a generation report of version {VERSION}.")
        try:
            report = cls(
                classes=tuple(map(ClassReport.from_json, value["classes"])),
                model=_checked("model", value["model"], dict),
                seconds={stage: _seconds(stage, spent) for stage, spent in value["seconds"].items()},
                wall_seconds=_seconds("wall_seconds", value["wall_seconds"]),
                timed_images=_checked("timed_images", value["timed_images"], int),
                settings=_checked("settings", value["settings"], dict),
                margin=Histogram.from_json(value["margin"]),
                prompts=tuple(PromptReport(**_fields(PromptReport, prompt)) for prompt in value["prompts"]),
                never_passed=tuple(NeverPassed(**_fields(NeverPassed, sample)) for sample in value["never_passed"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a generation report: {type(error).__name__}: {clause(error)}.") from error
        counts = (report.timed_images, *(number for one in report.prompts for number in (one.generated, one.discarded)))
        if min(counts) < 0 or any(sample.attempts < 0 or sample.sample < 0 for sample in report.never_passed):
            raise ValueError("a count is negative.")
        if any(not 0 <= sample.label < len(report.classes) for sample in report.never_passed):
            raise ValueError("a sample is of a class that there is not.")
        return report


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _percent(part: float, whole: float) -> float:
    return 100 * _share(part, whole)


def _rounded(value: float, digits: int) -> float | None:
    return None if math.isnan(value) else round(value, digits)


def _fields(kind: type, value: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass of numbers and texts, from JSON-able values."""
    if not isinstance(value, dict):
        raise TypeError(f"{kind.__name__} is no object.")
    hints = get_type_hints(kind)
    return {
        name: _similarity(name, value[name]) if hint is float else _checked(name, value[name], hint)
        for name, hint in hints.items()
    }


def _checked(name: str, value: Any, kind: type) -> Any:
    """A value that is of exactly that type; whole numbers have 64 bits."""
    if type(value) is not kind:
        raise TypeError(f"{name} is of another kind.")
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise ValueError(f"{name} is too large.")
    return value


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{name} is no number.")
    if abs(value) >= 2**64:
        raise ValueError(f"{name} is too large.")
    return float(value)


def _seconds(name: str, value: Any) -> float:
    number = _number(name, value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} is no time.")
    return number


def _similarity(name: str, value: Any) -> float:
    """A cosine similarity or a threshold; rounding may bring it beyond 1."""
    number = _number(name, value)
    if not abs(number) <= 2:
        raise ValueError(f"{name} is no similarity.")
    return number
