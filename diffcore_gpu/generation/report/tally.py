"""Counts a run's candidates as they come, keeps a bounded choice of some, and gives the report at any time."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from diffcore_gpu.generation.report.histogram import HistogramCounter
from diffcore_gpu.generation.report.records import (
    COUNTS,
    Candidate,
    ClassReport,
    GenerationReport,
    NeverPassed,
    PromptReport,
)

KEPT_NEVER_PASSED = 500
"""How many samples that never passed the report lists; it counts all of them."""
T = TypeVar("T")


class ReportTally:
    """Counts candidates; its memory is one byte per sample, and the histograms of the classes.

    A resumed run makes a new tally and adds the candidates of its journal again.

    Args:
        class_names: the name of each class, by number.
        labels: class number of every sample of the dataset.
        wanted: the samples that are to get a counterpart.
        thresholds: τ of each class; NaN where there is none.
        prompts: the texts of the prompt set, by prompt id; empty: not counted by prompt.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        labels: Sequence[int],
        wanted: Iterable[int],
        thresholds: Sequence[float],
        prompts: Sequence[str] = (),
    ) -> None:
        if len(thresholds) != len(class_names):
            raise ValueError(f"{len(class_names)} classes have {len(thresholds)} thresholds.")
        self._names = tuple(class_names)
        self._thresholds = tuple(float(threshold) for threshold in thresholds)
        self._prompts = tuple(prompts)
        self._counts = [dict.fromkeys(COUNTS, 0) for _ in class_names]
        self._by_prompt = [[0, 0] for _ in self._prompts]
        self._has_counterpart = bytearray(len(labels))
        self._histograms = [HistogramCounter() for _ in class_names]
        self._margin = HistogramCounter()
        self._kept: StratifiedChoice[NeverPassed] = StratifiedChoice(KEPT_NEVER_PASSED)
        for label in labels:
            self._counts[label]["samples"] += 1
        for sample in set(wanted):
            self._counts[labels[sample]]["wanted"] += 1

    def add(self, candidate: Candidate) -> None:
        """Count one generated image.

        Raises:
            ValueError: its similarity is not a finite number.
        """
        label = candidate.label
        counts = self._counts[label]
        self._histograms[label].add(candidate.similarity, candidate.accepted)
        if self._thresholds[label] == self._thresholds[label]:
            self._margin.add(candidate.similarity - self._thresholds[label], candidate.accepted)
        counts["generated"] += 1
        counts["discarded"] += not candidate.accepted
        if 0 <= candidate.prompt_id < len(self._by_prompt):
            self._by_prompt[candidate.prompt_id][0] += 1
            self._by_prompt[candidate.prompt_id][1] += not candidate.accepted
        if candidate.accepted and not self._has_counterpart[candidate.sample]:
            self._has_counterpart[candidate.sample] = 1
            counts["covered"] += 1

    def give_up(self, sample: NeverPassed) -> None:
        """Every attempt for that sample was discarded; call it once for a sample."""
        self._counts[sample.label]["never_passed"] += 1
        self._kept.add(sample.label, str(sample.sample), sample)

    def report(
        self,
        *,
        model: Mapping[str, Any],
        settings: Mapping[str, Any],
        seconds: Mapping[str, float],
        wall_seconds: float,
        timed_images: int,
    ) -> GenerationReport:
        """The report of what was counted so far; the arguments are the fields of the same name."""
        return GenerationReport(
            classes=tuple(
                ClassReport(
                    name=name,
                    threshold=self._thresholds[label],
                    histogram=self._histograms[label].histogram(),
                    **self._counts[label],
                )
                for label, name in enumerate(self._names)
            ),
            model=dict(model),
            settings=dict(settings),
            seconds=dict(seconds),
            wall_seconds=wall_seconds,
            timed_images=timed_images,
            margin=self._margin.histogram(),
            prompts=tuple(PromptReport(text, *self._by_prompt[k]) for k, text in enumerate(self._prompts)),
            never_passed=tuple(self._kept),
        )


class StratifiedChoice(Generic[T]):
    """Keeps at most `limit` of the items offered: the first of every class before the second of any, and so on.

    Which item of a class comes first is decided by a hash of its key, so every item has the same chance. What is kept
    is a function of the set of items offered: their order does not matter, and an item offered twice counts once. So a
    run that was interrupted and offers some items again ends with the same choice as one that was not.

    Args:
        limit: how many are kept at most; 0: none.
    """

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"limit is {limit}; it must be 0 or more.")
        self.limit = limit
        self._classes: dict[int, list[tuple[bytes, str]]] = {}  # of each class, what is kept, by (hash, key)
        self._order: list[tuple[int, bytes, int, str]] = []  # all that is kept, by (rank in its class, hash, …)
        self._items: dict[tuple[int, str], T] = {}

    def wants(self, label: int, key: str) -> bool:
        """Whether `add` would keep that item as a new one. Keeps nothing."""
        digest = _digest(label, key)
        members = self._classes.get(label, [])
        rank = bisect.bisect_left(members, (digest, key))
        if (label, key) in self._items:
            return False
        return len(self._items) < self.limit or (bool(self._order) and (rank, digest, label, key) < self._order[-1])

    def add(self, label: int, key: str, item: T) -> T | None:
        """Offer an item.

        Args:
            label: its class.
            key: distinguishes it from every other item of its class.
            item: what to keep.

        Returns:
            The item that was pushed out by it, or `item` itself where it was not kept or is there already; None: it was
            kept and nothing was pushed out.
        """
        if not self.wants(label, key):
            return item
        members = self._classes.setdefault(label, [])
        self._forget(label)
        bisect.insort(members, (_digest(label, key), key))
        self._items[label, key] = item
        self._rank(label)
        if len(self._items) <= self.limit:
            return None
        _, _, loser_label, loser_key = self._order.pop()
        self._classes[loser_label].pop()  # the last in the order is the last of its class
        return self._items.pop((loser_label, loser_key))

    def _forget(self, label: int) -> None:
        for rank, (digest, key) in enumerate(self._classes[label]):
            del self._order[bisect.bisect_left(self._order, (rank, digest, label, key))]

    def _rank(self, label: int) -> None:
        for rank, (digest, key) in enumerate(self._classes[label]):
            bisect.insort(self._order, (rank, digest, label, key))

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        """The items kept, by class, then by key."""
        return (self._items[place] for place in sorted(self._items))


def _digest(label: int, key: str) -> bytes:
    return hashlib.blake2b(f"{label}/{key}".encode(), digest_size=8).digest()
