"""The greedy pairing: one cycle, each step to the most distant that is left."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcore_gpu.baselines.one_cycle import greedy_cycle, squared_distances


def walk_by_the_definition(distances: list[list[float]]) -> list[int]:
    """Plain Python, on lists, with a set of what was visited."""
    size = len(distances)
    pairs = [(i, j) for i in range(size) for j in range(size) if i != j]
    start, current = max(pairs, key=lambda pair: distances[pair[0]][pair[1]])  # the first of equals
    visited, order = [start, current], [0] * size
    order[start] = current
    while len(visited) < size:
        left = [i for i in range(size) if i not in visited]
        following = max(left, key=lambda i: distances[current][i])
        order[current] = following
        visited.append(following)
        current = following
    order[current] = start
    return order


@given(st.integers(2, 64), st.integers(0, 2**31), st.booleans())
@settings(deadline=None)
def test_the_walk_is_the_definition_and_one_cycle(size: int, seed: int, ties: bool) -> None:
    maps = torch.rand(size, 5, generator=torch.Generator().manual_seed(seed))
    if ties:
        maps = (maps * 2).round()
    distances = squared_distances(maps)
    order = greedy_cycle(distances)
    assert order.dtype == torch.int64
    assert order.tolist() == walk_by_the_definition(distances.tolist())
    visited, current = [], 0
    for _ in range(size):
        visited.append(current)
        current = int(order[current])
    assert current == 0
    assert sorted(visited) == list(range(size))


def test_what_is_on_the_diagonal_does_not_matter_and_the_distances_are_not_changed() -> None:
    distances = squared_distances(torch.rand(7, 9, generator=torch.Generator().manual_seed(0)))
    other = distances.clone().fill_diagonal_(100.0)
    before = other.clone()
    assert torch.equal(greedy_cycle(other), greedy_cycle(distances))
    assert torch.equal(other, before)


def test_identical_images_still_give_one_cycle() -> None:
    order = greedy_cycle(torch.zeros(5, 5))
    assert sorted(order.tolist()) == list(range(5))
    assert all(int(order[i]) != i for i in range(5))


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_squared_distances_are_those_of_differences(offset: float) -> None:
    maps = torch.rand(9, 8, 8, generator=torch.Generator().manual_seed(1)) * 1e-4 + offset
    expected = torch.tensor(
        [[float((a.double() - b.double()).square().sum()) for a in maps] for b in maps], dtype=torch.float64
    )
    ours = squared_distances(maps)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9 * float(expected.max()))
    assert torch.equal(ours, ours.T)


def test_every_start_pair_is_the_farthest() -> None:
    for seed in range(5):
        distances = squared_distances(torch.rand(6, 4, generator=torch.Generator().manual_seed(seed)))
        order = greedy_cycle(distances)
        farthest = max(itertools.combinations(range(6), 2), key=lambda pair: float(distances[pair]))
        assert int(order[farthest[0]]) == farthest[1]
