"""Philox4x32-10 against its published vectors and against an implementation in Python integers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu.plan.philox import philox4x32, split_words

word = st.integers(0, 2**32 - 1)


def words(*values: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor([value]) for value in values)


# The known-answer vectors that the authors publish with their Random123 library (kat_vectors, philox4x32 10).
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]) -> None:
    drawn = philox4x32(words(*counter), key[0] | key[1] << 32)
    assert tuple(int(value) for value in drawn) == expected


def philox_of_integers(counter: tuple[int, ...], key: int) -> tuple[int, ...]:
    """The definition, in Python's unbounded integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key % 2**32, key // 2**32 % 2**32
    for _ in range(10):
        product0, product1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = product1 // 2**32 ^ c1 ^ k0, product1 % 2**32, product0 // 2**32 ^ c3 ^ k1, product0 % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


@given(counter=st.tuples(word, word, word, word), key=st.integers(-(2**63), 2**64 - 1))
def test_equals_the_definition(counter: tuple[int, ...], key: int) -> None:
    drawn = philox4x32(words(*counter), key)
    assert tuple(int(value) for value in drawn) == philox_of_integers(counter, key % 2**64)


def test_counters_broadcast() -> None:
    zero = torch.zeros((), dtype=torch.int64)
    drawn = philox4x32((torch.arange(3)[:, None], torch.arange(2), zero, zero), 5)
    assert all(value.shape == (3, 2) for value in drawn)
    alone = philox4x32((*words(2, 1), zero, zero), 5)
    assert [int(value[2, 1]) for value in drawn] == [int(value) for value in alone]


@given(value=st.integers(-(2**63), 2**63 - 1))
def test_split_words(value: int) -> None:
    low, high = split_words(torch.tensor([value]))
    assert (int(high) << 32 | int(low)) == value % 2**64
