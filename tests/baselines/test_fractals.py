"""Fractals: coloured, different from each other, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcore_gpu.baselines.fractals import FractalSet, _maps, render_fractals


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_maps_contract_by_the_sampled_amount(seed: int, number: int) -> None:
    matrices, offsets = _maps(np.random.default_rng(seed), number)
    singular = np.linalg.svd(matrices, compute_uv=False)
    assert singular.max() < 1
    assert (5 + number) / 2 - 1e-4 <= (singular * (1, 2)).sum() <= (6 + number) / 2 + 1e-4
    assert np.abs(offsets).max() <= 1


def test_rendered_fractals_are_pictures() -> None:
    pictures = render_fractals(8, 64, 0)
    assert pictures.shape == (8, 3, 64, 64)
    assert pictures.dtype == torch.uint8
    bright = (pictures.amax(1) > 60).float().mean((1, 2))
    assert ((bright > 0.01) & (bright < 0.98)).all()
    flat = pictures.float().flatten(1)
    assert (torch.cdist(flat, flat) + 1e9 * torch.eye(8)).min() > 100
    # Detail at every scale: the structure is neither one blob nor noise alone.
    assert (pictures.float().std((2, 3)) > 1).all()
    assert torch.equal(render_fractals.__wrapped__(8, 64, 0), pictures)
    assert not torch.equal(render_fractals(8, 64, 1), pictures)


def test_parts_of_the_right_size_are_drawn() -> None:
    fractals = FractalSet(4, 0, margin=1.5)
    like = torch.zeros(5, 3, 20, 32)
    drawn = fractals.draw(np.random.default_rng(0), like)
    assert drawn.shape == like.shape
    assert drawn.dtype == torch.uint8
    whole = render_fractals(4, 48, 0)
    places = whole.unfold(2, 20, 1).unfold(3, 32, 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    assert all((places == part).flatten(1).all(1).any() for part in drawn)
    assert fractals.draw(np.random.default_rng(0), like[:, :1]).shape == (5, 1, 20, 32)
    with pytest.raises(ValueError, match="3 channels or 1"):
        fractals.draw(np.random.default_rng(0), torch.zeros(1, 4, 8, 8))
