"""Bars hold the counts, stand on the ground, and lie where their values lie."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu.htmlreport.chart import Span, bar_chart, sparkline

COUNTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=40)


@given(COUNTS, st.sampled_from([120, 220]))
def test_bars_hold_the_counts_and_fill_the_place_above_the_ground(counts: list[tuple[int, int]], height: int) -> None:
    upper, lower = (list(part) for part in zip(*counts, strict=True))
    chart = bar_chart({"upper": upper, "lower": lower}, Span(0.0, 1.0), "a chart", height=height)
    assert [bar.counts for bar in chart.bars] == [{"upper": u, "lower": d} for u, d in counts if u + d]
    tallest = max(u + d for u, d in counts)
    for bar in chart.bars:
        names = [name for name, _, _ in bar.pieces]
        assert names == [name for name in ("lower", "upper") if bar.counts[name]]
        bottom = float(chart.ground)
        for name, top, size in bar.pieces:
            assert top + size == pytest.approx(bottom, abs=0.11)
            assert size == pytest.approx(max((chart.ground - 18) * bar.counts[name] / tallest, 1), abs=0.06)
            bottom = top
        assert 0 <= bar.left <= bar.left + bar.width <= 100
    assert all(0 < y < chart.ground for y, _ in chart.grid)


def test_values_lie_on_one_line() -> None:
    chart = bar_chart({"n": [1, 0, 3, 1]}, Span(-0.1, 0.1), "a chart", mark=0.05, mark_name="here")
    assert chart.mark is not None
    assert (chart.mark.x, chart.mark.anchor, chart.mark.name) == (75.0, "end", "here")
    assert [bar.title for bar in chart.bars] == [
        "−0.10 to −0.05: 1 n",
        "0.00 to 0.05: 3 n",
        "0.05 to 0.10: 1 n",
    ]
    assert chart.bars[1].left < 75 <= chart.bars[2].left
    assert {text: x for x, _, text in chart.ticks} == {"−0.10": 0, "−0.05": 25, "0.00": 50, "0.05": 75, "0.10": 100}
    assert [anchor for _, anchor, _ in chart.ticks] == ["start", "middle", "middle", "middle", "end"]


def test_nothing_to_show() -> None:
    chart = bar_chart({"n": [0, 0]}, Span(0.0, 1.0), "empty")
    assert (chart.bars, chart.grid, chart.mark) == ([], [], None)
    assert sparkline({"n": [0, 0]}, Span(0.0, 1.0), "empty").outlines == []


def test_a_sparkline_has_an_outline_of_all_behind_that_of_the_lower_piece() -> None:
    spark = sparkline({"upper": [1, 0, 3], "lower": [0, 0, 1]}, Span(0.0, 3.0), "a line", mark=1.5)
    assert spark.outlines == [("upper", "M0 24v-6.0h1V24zM2 24v-24.0h1V24z"), ("lower", "M2 24v-6.0h1V24z")]
    assert (spark.width, spark.mark) == (3, 1.5)
    assert sparkline({"n": [1]}, Span(0.0, 1.0), "a line", mark=math.nan).mark is None
