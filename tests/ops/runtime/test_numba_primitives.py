"""Floats of 16 bits and bytes in compiled code: the numbers that torch makes of the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason='numba is not installed; it is the extra "cpu"')

from numba import njit

from diffcore_gpu.ops.runtime import numba_primitives as primitives

TO: list[tuple[Any, type, torch.dtype]] = [
    (primitives.to_float16, np.uint16, torch.float16),
    (primitives.to_float16_by_integers, np.uint16, torch.float16),
    (primitives.to_bfloat16, np.int16, torch.bfloat16),
]
FROM: list[tuple[Any, type, torch.dtype]] = [
    (primitives.from_float16, np.uint16, torch.float16),
    (primitives.from_float16_by_integers, np.uint16, torch.float16),
    (primitives.from_bfloat16, np.int16, torch.bfloat16),
]


def over(convert: Any) -> Callable[[Any, Any], None]:
    """A conversion of each value of an array into another."""

    @njit
    def loop(values: Any, out: Any) -> None:
        for i in range(values.size):
            out[i] = convert(values[i])

    return loop


TO_LOOPS = [(over(convert), bits, dtype) for convert, bits, dtype in TO]


def same_values(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Bit for bit, but for the bits of what is not a number."""
    bits = {2: torch.int16, 4: torch.int32}[theirs.element_size()]
    numbers = ~theirs.isnan()
    return torch.equal(ours.isnan(), ~numbers) and torch.equal(ours.view(bits)[numbers], theirs.view(bits)[numbers])


def converted(values: torch.Tensor, loop: Any, bits: type, dtype: torch.dtype) -> torch.Tensor:
    out = np.empty(values.shape, dtype=bits)
    loop(values.numpy(), out)
    return torch.from_numpy(out.view(np.int16)).view(dtype)


@pytest.mark.parametrize(("convert", "bits", "dtype"), FROM)
def test_all_sixteen_bits_widen_as_in_torch(convert: Any, bits: type, dtype: torch.dtype) -> None:
    raw = np.arange(1 << 16, dtype=np.uint16)
    out = np.empty(1 << 16, dtype=np.float32)
    over(convert)(raw.view(bits), out)
    assert same_values(torch.from_numpy(out), torch.from_numpy(raw.view(np.int16)).view(dtype).to(torch.float32))


@pytest.mark.parametrize(("loop", "bits", "dtype"), TO_LOOPS)
def test_halfway_and_next_to_it_round_as_in_torch(loop: Any, bits: type, dtype: torch.dtype) -> None:
    """Every value of 16 bits, the middle between it and the next, and their neighbours in float32."""
    coarse = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype).to(torch.float32)
    following = torch.arange(-(1 << 15) + 1, (1 << 15) + 1, dtype=torch.int32).to(torch.int16).view(dtype)
    middle = (coarse.double() + following.double()).div(2).to(torch.float32)
    near = torch.cat([coarse, middle]).view(torch.int32)
    values = torch.cat([near - 1, near, near + 1]).view(torch.float32)
    assert same_values(converted(values, loop, bits, dtype), values.to(dtype))


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=40))
def test_any_float_rounds_as_in_torch(raw: list[int]) -> None:
    values = torch.tensor(raw, dtype=torch.int32).view(torch.float32)
    for loop, bits, dtype in TO_LOOPS:
        assert same_values(converted(values, loop, bits, dtype), values.to(dtype))


def test_bytes_are_rounded_to_nearest_with_ties_to_even() -> None:
    values = torch.arange(-4, 2554, dtype=torch.float32) / 10
    values = torch.cat([values, torch.arange(0, 255) + 0.5])
    out = np.empty(values.shape, dtype=np.uint8)
    over(primitives.nearest_byte)(values.numpy(), out)
    assert torch.equal(torch.from_numpy(out), values.round().to(torch.uint8))
