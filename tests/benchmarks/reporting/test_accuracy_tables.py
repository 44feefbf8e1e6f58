"""Which methods no other beats, against looking at every pair; and the way into a file and back."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu.benchmarks.reporting.accuracy_tables import Point, from_json, pareto_optimal, to_json

FIGURES = st.integers(-3, 6).map(float) | st.floats(-50, 1000)
POINTS = st.lists(st.tuples(FIGURES, FIGURES), max_size=12)


def point(percent: float, accuracy: float) -> Point:
    return Point("arm", "method", percent, percent - 1, percent + 1, accuracy, None, None)


@given(POINTS)
def test_the_front_is_what_no_other_point_beats(drawn: list[tuple[float, float]]) -> None:
    def beaten(x: float, y: float) -> bool:
        return any(a <= x and b >= y and (a < x or b > y) for a, b in drawn)

    found = pareto_optimal([point(x, y) for x, y in drawn])
    assert found == [not beaten(x, y) for x, y in drawn]
    assert any(found) == bool(drawn)


@given(POINTS)
def test_points_survive_a_file(drawn: list[tuple[float, float]]) -> None:
    points = [point(x, y) for x, y in drawn]
    entries = json.loads(json.dumps(to_json(points, "measured")))
    assert from_json({"results": entries}) == points
    assert [entry["pareto_optimal"] for entry in entries] == pareto_optimal(points)
