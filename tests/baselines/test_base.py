"""What the methods have from their base: checks, permutations, targets, own draws, packages that are missing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from diffcore_gpu.baselines import Baseline, Batch, Mixed, Need, own_draws
from diffcore_gpu.baselines._base import check_count, check_number, library, mixed_targets
from tests.baselines.small_models import normalized_batch


class Method(Baseline):
    """Changes nothing."""

    name, title, needs, on_pixels = "method", "Method", Need.NOTHING, True

    def mix(self, batch: Batch, model: nn.Module) -> Mixed:
        return self._relabeled(batch.images, batch.labels)


class Partners(Method):
    """Needs partners."""

    needs = Need.PARTNERS


def make(maker: type[Baseline] = Method, channels: int = 3) -> Baseline:
    return maker(5, mean=(0.5,) * channels, std=(0.5,) * channels)


def test_numbers() -> None:
    check_number("x", 0, 0)
    check_number("x", 0.5, 0, 1, above=True)
    for value in (-1, 2, math.nan, math.inf, True, "1", None):
        with pytest.raises(ValueError, match=r"x must be a number of at least 0 up to 1"):
            check_number("x", value, 0, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="above 0"):
        check_number("x", 0, 0, above=True)


def test_counts() -> None:
    check_count("x", 3, 1)
    for value in (0, 5, 1.0, True, None):
        with pytest.raises(ValueError, match=r"x must be an integer in \[1, 4\]"):
            check_count("x", value, 1, 4)  # type: ignore[arg-type]


def test_images() -> None:
    batch = normalized_batch(1)
    assert make()(batch, nn.Identity()).images is batch.images
    for wrong, channels, message in (
        (Batch(batch.images[0], batch.labels, batch.index), 3, "float dtype"),
        (Batch(batch.images.to(torch.uint8), batch.labels, batch.index), 3, "float dtype"),
        (Batch(batch.images, batch.labels.int(), batch.index), 3, "int64"),
        (Batch(batch.images, batch.labels[:0], batch.index), 3, "int64"),
        (batch, 1, "channels"),
    ):
        with pytest.raises(ValueError, match=f"Method.*{message}"):
            make(channels=channels)(wrong, nn.Identity())


def test_targets_are_weighted_one_hots_and_equal_classes_add_up() -> None:
    labels, permutation = torch.tensor([0, 2, 2]), torch.tensor([1, 2, 0])
    own, partner = torch.tensor([0.5, 0.25, 1.0]), torch.tensor([0.125, 0.5, 0.0])
    expected = torch.tensor([[0.5, 0.0, 0.125], [0.0, 0.0, 0.75], [0.0, 0.0, 1.0]])
    assert torch.equal(mixed_targets(labels, permutation, own, partner, 3), expected)
    assert torch.equal(mixed_targets(labels, permutation, 0.75, 0.25, 3)[0], torch.tensor([0.75, 0.0, 0.25]))


def test_permutations_are_permutations_and_differ() -> None:
    method = make()
    drawn = [method._draw_permutation(16) for _ in range(20)]
    assert all(torch.equal(p.sort().values, torch.arange(16)) for p in drawn)
    assert all(p.dtype == torch.int64 for p in drawn)
    assert len({tuple(p.tolist()) for p in drawn}) == 20


def test_a_missing_package_gets_the_pip_command() -> None:
    with pytest.raises(ImportError, match=r"Mixup needs nowhere_to_be_found.*pip install 'diffcore-gpu\[bench\]'"):
        library("nowhere_to_be_found.part", "Mixup")


def test_labels_elsewhere_than_the_images_are_refused() -> None:
    batch = normalized_batch()
    batch = replace(batch, labels=batch.labels.to("meta"))
    with pytest.raises(ValueError, match="on one device"):
        make(Partners)(batch, nn.Identity())


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
