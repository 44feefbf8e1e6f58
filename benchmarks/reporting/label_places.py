"""Places for the labels of points, so that no label covers another label or a point."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle, x to the right and y upwards, in any unit."""

    left: float
    bottom: float
    right: float
    top: float

    def covers(self, other: Box) -> bool:
        """Whether the two have an area in common."""
        across = min(self.right, other.right) - max(self.left, other.left)
        up = min(self.top, other.top) - max(self.bottom, other.bottom)
        return across > 0 and up > 0

    def holds(self, other: Box) -> bool:
        """Whether the other lies within this one."""
        return (
            self.left <= other.left and self.bottom <= other.bottom
            and other.right <= self.right and other.top <= self.top
        )  # fmt: skip


def places(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    bounds: Box,
    *,
    radius: float,
    obstacles: Sequence[Box] = (),
) -> list[Box]:
    """A place for the label of each point: the nearest that is free, first to its right.

    Args:
        points: their centres.
        sizes: width and height of the label of each.
        bounds: that all labels must stay in.
        radius: of a point; labels keep as far from it.
        obstacles: what labels should not cover either, such as the lines of intervals; they do where there is no other
            place near the point.

    Returns:
        A rectangle for each label. None covers another, nor a point, as long as `bounds` has room for that.
    """
    marks = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    taken: list[Box] = []
    for (x, y), (width, height) in zip(points, sizes, strict=True):
        covered = [*taken, *marks]
        found = (
            _first(_around(x, y, width, height, 2 * radius, bounds), bounds, [*covered, *obstacles])
            or _first(_around(x, y, width, height, 2 * radius, bounds), bounds, covered)
            or _first(_anywhere(x, y, width, height, bounds), bounds, covered)
        )
        taken.append(found or Box(x + 2 * radius, y - height / 2, x + 2 * radius + width, y + height / 2))
    return taken


def _first(candidates: Iterable[Box], bounds: Box, covered: Sequence[Box]) -> Box | None:
    """The first that lies within the bounds and covers nothing."""
    free = (box for box in candidates if bounds.holds(box) and not any(box.covers(other) for other in covered))
    return next(free, None)


def _around(x: float, y: float, width: float, height: float, gap: float, bounds: Box) -> Iterator[Box]:
    """Rectangles in rings around a point, each ring further out, until the whole of the bounds is passed."""
    reach = max(bounds.right - bounds.left, bounds.top - bounds.bottom)
    step = height / 2
    for ring in range(int(reach / step) + 2):
        out = gap + ring * step
        # To the right, left, above, below, then the corners: the label's nearest side keeps `out` from the point.
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            left = x + out if dx > 0 else x - out - width if dx < 0 else x - width / 2
            bottom = y + out if dy > 0 else y - out - height if dy < 0 else y - height / 2
            yield Box(left, bottom, left + width, bottom + height)


def _anywhere(x: float, y: float, width: float, height: float, bounds: Box) -> list[Box]:
    """Rectangles all over the bounds, the nearest to a point first."""
    step = height / 2
    columns = int((bounds.right - bounds.left - width) / step) + 1
    rows = int((bounds.top - bounds.bottom - height) / step) + 1
    corners = [(bounds.left + i * step, bounds.bottom + j * step) for i in range(columns) for j in range(rows)]
    corners.sort(key=lambda corner: (corner[0] + width / 2 - x) ** 2 + (corner[1] + height / 2 - y) ** 2)
    return [Box(left, bottom, left + width, bottom + height) for left, bottom in corners]
