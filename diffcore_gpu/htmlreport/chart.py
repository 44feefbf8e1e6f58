"""Charts of the report's page as inline SVG.

Positions across are percentages and positions down are pixels, so a chart fills its place at any width while its text
keeps its size. Colours are classes of the page's style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from diffcore_gpu.generation.report.histogram import BIN_WIDTH, Histogram
from diffcore_gpu.generation.report.text import count, percent
from diffcore_gpu.htmlreport.page import escaped

_FACTORS = (1, 2, 4, 10, 20, 40)  # wide bins of 0.005, 0.01, 0.02, 0.05, 0.1, 0.2
_AXIS = 22  # pixels below the bars for the numbers
_HEAD = 18  # and above them for the threshold's name


@dataclass(frozen=True)
class Scale:
    """The horizontal scale of one or several histograms, in narrow bins.

    Attributes:
        begin: number of the first bin shown.
        end: number after the last.
        factor: narrow bins in a bar.
    """

    begin: int
    end: int
    factor: int

    def across(self, value: float) -> float:
        """Where a value lies, in percent of the width."""
        return 100 * (value / BIN_WIDTH - self.begin) / (self.end - self.begin)

    @property
    def low(self) -> float:
        """The value at the left edge."""
        return self.begin * BIN_WIDTH

    @property
    def high(self) -> float:
        """The value at the right edge."""
        return self.end * BIN_WIDTH


def common_scale(histograms: Iterable[Histogram], marks: Iterable[float], most_bars: int) -> Scale:
    """The scale that shows every value of the histograms and every mark with at most `most_bars` bars, if it can be."""
    filled = [histogram for histogram in histograms if histogram.total]
    edges = [round(mark / BIN_WIDTH) for mark in marks if not math.isnan(mark)]
    lows = [histogram.first for histogram in filled] + [edge - 2 for edge in edges]
    highs = [histogram.first + len(histogram.accepted) for histogram in filled] + [edge + 2 for edge in edges]
    low, high = min(lows, default=0), max(highs, default=200)
    for factor in _FACTORS:
        begin, end = low // factor * factor, -(-high // factor) * factor
        if (end - begin) // factor <= most_bars:
            break
    return Scale(begin, max(end, begin + 4 * factor), factor)


def histogram_chart(
    histogram: Histogram, scale: Scale, threshold: float, threshold_name: str, label: str, height: int = 220
) -> str:
    """Bars of accepted images on bars of discarded ones, and the threshold as a line.

    Args:
        histogram: what to draw.
        scale: the horizontal scale.
        threshold: where the line stands; NaN: none.
        threshold_name: what is written at it.
        label: one sentence for those who do not see it.
        height: of the chart in pixels.
    """
    accepted, discarded = histogram.merged(scale.factor, scale.begin, scale.end)
    tallest = max((a + d for a, d in zip(accepted, discarded, strict=True)), default=0)
    ground = height - _AXIS
    unit = (ground - _HEAD) / max(tallest, 1)
    width = 100 / len(accepted)
    parts = [f'<svg class="chart" role="img" aria-label="{escaped(label)}" width="100%" height="{height}">']
    parts += _grid(tallest, ground, unit, height)
    for position, (passed, failed) in enumerate(zip(accepted, discarded, strict=True)):
        if not passed + failed:
            continue
        left = position * width
        low = (scale.begin + position * scale.factor) * BIN_WIDTH
        span = f"{_number(low)} to {_number(low + scale.factor * BIN_WIDTH)}"
        parts.append(
            f'<g class="bar" data-accepted="{passed}" data-discarded="{failed}">'
            f"<title>{span}: {count(passed)} accepted, {count(failed)} discarded</title>"
        )
        top = float(ground)
        for number, name in ((failed, "discarded"), (passed, "accepted")):
            if number:
                size = max(number * unit, 1.0)
                top -= size
                parts.append(
                    f'<rect class="{name}" x="{left + width * 0.06:.3f}%" y="{top:.1f}" '
                    f'width="{width * 0.88:.3f}%" height="{size:.1f}"/>'
                )
        parts.append("</g>")
    parts.append(f'<line class="ground" x1="0" x2="100%" y1="{ground}" y2="{ground}"/>')
    parts += _ticks(scale, ground, 6 if height > 150 else 4)
    if not math.isnan(threshold):
        parts += _threshold(scale.across(threshold), threshold_name, ground)
    return "".join((*parts, "</svg>"))


def sparkline(histogram: Histogram, scale: Scale, threshold: float, label: str) -> str:
    """A histogram in the height of a line of text: two outlines and the threshold."""
    accepted, discarded = histogram.merged(scale.factor, scale.begin, scale.end)
    tallest = max((a + d for a, d in zip(accepted, discarded, strict=True)), default=0)
    parts = [
        f'<svg class="spark" role="img" aria-label="{escaped(label)}" viewBox="0 0 {len(accepted)} 24"'
        ' preserveAspectRatio="none">'
    ]
    both = [a + d for a, d in zip(accepted, discarded, strict=True)]
    for name, counts in (("accepted", both), ("discarded", discarded)):
        outline = _steps(counts, 24 / max(tallest, 1))
        if outline:
            parts.append(f'<path class="{name}" d="{outline}"/>')
    if not math.isnan(threshold):
        x = scale.across(threshold) / 100 * len(accepted)
        parts.append(f'<path class="threshold" d="M{x:.2f} 0V24"/>')
    return "".join((*parts, "</svg>"))


def stage_bar(shares: Mapping[str, float]) -> str:
    """One bar, as wide as its place, divided among the stages."""
    label = "; ".join(f"{stage} {percent(100 * share)}" for stage, share in shares.items())
    parts = [f'<svg class="stages" role="img" aria-label="{escaped(label)}" width="100%" height="28">']
    left = 0.0
    for number, (stage, share) in enumerate(shares.items()):
        parts.append(
            f'<rect class="stage-{number % 6}" x="{100 * left:.3f}%" y="0" width="{100 * share:.3f}%" height="28">'
            f"<title>{escaped(stage)}: {percent(100 * share)}</title></rect>"
        )
        left += share
    return "".join((*parts, "</svg>"))


def _steps(counts: list[int], unit: float) -> str:
    """The area under the counts as a path, one run of non-empty bins after another."""
    path = []
    for position, number in enumerate(counts):
        if number:
            size = max(number * unit, 1.0)
            path.append(f"M{position} 24v-{size:.1f}h1V24z")
    return "".join(path)


def _grid(tallest: int, ground: int, unit: float, height: int) -> list[str]:
    step = _nice_step(tallest, 4 if height > 150 else 2)
    parts = []
    for number in range(step, tallest + 1, step):
        y = ground - number * unit
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="2" y="{y - 3:.1f}">{count(number)}</text>')
    return parts


def _nice_step(most: int, lines: int) -> int:
    step = 1
    while most // step > lines:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return step


def _ticks(scale: Scale, ground: int, most: int) -> list[str]:
    steps = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    step = next((step for step in steps if (scale.high - scale.low) / step <= most), 1.0)
    parts = []
    for number in range(math.ceil(scale.low / step - 1e-9), math.floor(scale.high / step + 1e-9) + 1):
        value = number * step
        x = scale.across(value)
        anchor = "start" if x < 3 else "end" if x > 97 else "middle"
        parts.append(f'<line class="ground" x1="{x:.3f}%" x2="{x:.3f}%" y1="{ground}" y2="{ground + 4}"/>')
        parts.append(f'<text x="{x:.3f}%" y="{ground + 17}" text-anchor="{anchor}">{_number(value)}</text>')
    return parts


def _threshold(x: float, name: str, ground: int) -> list[str]:
    anchor = "start" if x < 50 else "end"
    return [
        f'<line class="threshold" x1="{x:.3f}%" x2="{x:.3f}%" y1="4" y2="{ground}"/>',
        f'<text class="threshold-name" x="{x:.3f}%" y="13" dx="{5 if x < 50 else -5}" text-anchor="{anchor}">'
        f"{escaped(name)}</text>",
    ]


def _number(value: float) -> str:
    text = f"{value:.3f}".rstrip("0")
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.ljust(2, '0')}".replace("-0.00", "0.00").replace("-", "−")
