"""Threads over many items: in order, bounded, and an error in its place."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from diffcore_gpu.threads import default_workers, map_in_order


def test_order_and_bound() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(200):
            taken += 1
            yield item

    for done, result in enumerate(map_in_order(lambda item: item * item, items(), workers=3, ahead=2)):
        assert result == done * done
        assert taken - done <= 6
    assert taken == 200


def test_runs_in_other_threads() -> None:
    names = set(map_in_order(lambda item: threading.current_thread().name, range(8), workers=2))
    assert threading.current_thread().name not in names


def test_error_comes_in_order_and_stops() -> None:
    def function(item: int) -> int:
        if item == 5:
            raise KeyError(item)
        return item

    results = map_in_order(function, range(1000), workers=4)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(KeyError):
        next(results)


def test_workers() -> None:
    assert 1 <= default_workers() <= 16
    with pytest.raises(ValueError, match="at least 1"):
        next(map_in_order(abs, [1], workers=0))
