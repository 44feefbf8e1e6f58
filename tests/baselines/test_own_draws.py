"""Global draws that come from a generator of one's own."""

from __future__ import annotations

import pytest
import torch

from diffcore_gpu.baselines.own_draws import own_draws


def test_draws_continue_the_own_generator_and_spare_the_global_one() -> None:
    expected = torch.rand(4, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    drawn = []
    for _ in range(2):
        with own_draws(generator):
            drawn.append(torch.rand(2))
    assert torch.equal(torch.cat(drawn), expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_error_within_restores_the_global_generator_too() -> None:
    state = torch.get_rng_state()

    def fail() -> None:
        with own_draws(torch.Generator()):
            torch.rand(1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(torch.get_rng_state(), state)
