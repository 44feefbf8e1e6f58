"""The progress of `diffcore generate` on stderr: counterparts, images per second, acceptance rate, time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from diffcore_gpu.cli.console import Progress, progress_bars, say

if TYPE_CHECKING:
    from diffcore_gpu.generation.loop import Standing


class Bars(NamedTuple):
    """What is told how far the parts of the work are."""

    embedded: Progress
    generated: Callable[[Standing], None]


@contextmanager
def generation_progress() -> Iterator[Bars]:
    """Bars on a terminal; elsewhere a line for each tenth of the work."""
    if not sys.stderr.isatty():
        with progress_bars() as bar:
            yield Bars(bar("Embedding", "real images"), _Lines())
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as RichProgress

    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        TextColumn("{task.fields[figures]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bars:
        embedding = bars.add_task("Embedding", total=None, visible=False, figures="real images")
        generating = bars.add_task("Generating", total=None, visible=False, figures="")

        def embedded(done: int, total: int) -> None:
            bars.update(embedding, completed=done, total=total, visible=done < total)

        def generated(standing: Standing) -> None:
            done, total = standing.settled, standing.total
            bars.update(generating, completed=done, total=total, visible=True, figures=figures(standing))

        yield Bars(embedded, generated)


def figures(standing: Standing) -> str:
    """``12.3 images/s, 91 % accepted, 4 min left``."""
    rate = standing.images_per_second
    texts = [f"{rate:.3g} images/s"]
    if standing.generated:
        texts.append(f"{100 * standing.accepted / standing.generated:.0f} % accepted")
    if rate > 0:
        texts.append(f"{_duration(standing.expected / rate)} left")
    return ", ".join(texts)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


class _Lines:
    def __init__(self) -> None:
        self._tenth = -1

    def __call__(self, standing: Standing) -> None:
        tenth = 10 * standing.settled // standing.total
        if tenth > self._tenth:
            self._tenth = tenth
            say(f"Generating: {standing.settled} of {standing.total} counterparts, {figures(standing)}")
