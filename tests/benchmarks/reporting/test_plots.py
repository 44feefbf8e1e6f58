"""Labels that cover neither each other nor a point."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from diffcore_gpu.benchmarks.reporting.plots import Box, places

BOUNDS = Box(0, 0, 900, 500)
POINTS = st.lists(st.tuples(st.floats(0, 900), st.floats(0, 500), st.floats(20, 130)), min_size=1, max_size=20)


def apart(one: Box, other: Box) -> bool:
    """Whether a line along an axis separates the two."""
    return (
        one.right <= other.left or other.right <= one.left or one.top <= other.bottom or other.top <= one.bottom
    )  # fmt: skip


@settings(max_examples=40)
@given(POINTS)
def test_no_label_covers_another_or_a_point(drawn: list[tuple[float, float, float]]) -> None:
    points = [(x, y) for x, y, _ in drawn]
    sizes = [(width, 14.0) for _, _, width in drawn]
    found = places(points, sizes, BOUNDS, radius=6)
    for box, (width, height) in zip(found, sizes, strict=True):
        assert abs(box.right - box.left - width) < 1e-6
        assert abs(box.top - box.bottom - height) < 1e-6
        assert BOUNDS.holds(box)
    assert all(apart(one, other) for one, other in itertools.combinations(found, 2))
    marks = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    assert all(apart(box, mark) for box in found for mark in marks)


def test_twenty_points_in_one_place_have_twenty_places() -> None:
    found = places([(450.0, 250.0)] * 20, [(80.0, 14.0)] * 20, BOUNDS, radius=6)
    assert all(apart(one, other) for one, other in itertools.combinations(found, 2))


def test_a_point_by_itself_is_named_at_its_right_and_at_the_edge_at_its_left() -> None:
    ((left, bottom, right, top),) = places([(100.0, 100.0)], [(50.0, 10.0)], BOUNDS, radius=5)
    assert (left, bottom, right, top) == (110, 95, 160, 105)
    (at_edge,) = places([(890.0, 100.0)], [(50.0, 10.0)], BOUNDS, radius=5)
    assert at_edge == Box(830, 95, 880, 105)


def test_an_obstacle_is_avoided_where_there_is_room() -> None:
    bar = Box(100, 98, 400, 102)
    (found,) = places([(100.0, 100.0)], [(50.0, 10.0)], BOUNDS, radius=5, obstacles=[bar])
    assert apart(found, bar)
    (covered,) = places([(100.0, 100.0)], [(50.0, 10.0)], BOUNDS, radius=5, obstacles=[BOUNDS])
    assert covered == Box(110, 95, 160, 105)
