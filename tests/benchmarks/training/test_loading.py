"""Order and augmentation depend on seed, epoch and sample alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch._utils import ExceptionWrapper

from diffcore_gpu.benchmarks.harness.random_data import MEAN, STD
from diffcore_gpu.benchmarks.training.data import Data, open_data
from diffcore_gpu.benchmarks.training.loading import (
    EpochBatches,
    EvaluationSet,
    TrainingSet,
    Use,
    augmentation,
    evaluation_loader,
    plain,
    preprocessing,
    seed_of,
    training_loader,
)
from diffcore_gpu.errors import BenchmarkError
from tests.benchmarks.training.folders import write_images

CPU = torch.device("cpu")


@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 5), st.none() | st.integers(1, 9))
def test_an_epoch_has_every_sample_at_most_once(count: int, batch: int, epoch: int, steps: int | None) -> None:
    part = np.arange(100, 100 + 2 * count, 2)
    batches = EpochBatches(part, batch, 3, steps)
    batches.epoch = epoch
    found = list(batches)
    assert len(found) == len(batches)
    assert batches.samples == sum(map(len, found))
    keys = [key for of in found for key in of]
    assert {key[0] for key in keys} == {epoch}
    samples = [key[1] for key in keys]
    assert len(set(samples)) == len(samples)
    assert set(samples) <= set(part.tolist())
    sizes = {len(of) for of in found}
    assert sizes == {min(batch, count)}
    if steps is None:
        assert len(samples) > count - batch or len(samples) == count
    assert list(batches) == found


def test_the_order_is_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        batches = EpochBatches(np.arange(40), 8, seed)
        batches.epoch = epoch
        return [index for of in batches for _, index in of]

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_seeds_differ_by_use_run_and_numbers() -> None:
    seeds = [seed_of(use, seed, number) for use in Use for seed in range(3) for number in range(5)]
    seeds += [seed_of(use, seed) for use in Use for seed in range(3)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def epochs_of(data: Data, workers: int, epochs: int = 2, seed: int = 5) -> list[list[torch.Tensor]]:
    batches = EpochBatches(data.part, 4, seed)
    loader = training_loader(TrainingSet(data.train, augmentation("imagenet", 16), seed), batches, workers, CPU)
    found = []
    for epoch in range(epochs):
        batches.epoch = epoch
        found += list(loader)
    return found


def test_workers_change_nothing(data: Data) -> None:
    state = torch.get_rng_state()
    alone, together = epochs_of(data, 0), epochs_of(data, 2)
    assert torch.equal(state, torch.get_rng_state())  # nor do the global draws move
    assert len(alone) == len(together) == 8
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_sample_is_augmented_alike_wherever_it_stands(data: Data) -> None:
    samples = TrainingSet(data.train, augmentation("small", 32), 1)
    image, label, index = samples[3, 7]
    assert (image.shape, image.dtype, label, index) == ((3, 32, 32), torch.float32, 1, 7)
    torch.rand(5)
    assert torch.equal(image, samples[3, 7][0])
    assert not torch.equal(image, samples[4, 7][0])
    assert not torch.equal(image, TrainingSet(data.train, augmentation("small", 32), 2)[3, 7][0])


def test_images_are_normalized_and_cut_from_the_middle(tmp_path: Path) -> None:
    pixels = np.zeros((64, 128, 3), dtype=np.uint8)
    pixels[:, 32:96] = 255  # the central square
    image = Image.fromarray(pixels)
    white = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
    for name in ("imagenet", "small"):
        shown = preprocessing(name, 56)(image)
        assert shown.shape == (3, 56, 56)
        inner = shown[:, 2:-2, 2:-2]  # at its border the resizing sees beyond the square
        assert torch.allclose(inner, white.reshape(3, 1, 1).expand_as(inner), atol=1e-5)
    whole = preprocessing("small", 64)(image.crop((32, 0, 96, 64)))
    assert torch.allclose(whole, white.reshape(3, 1, 1).expand_as(whole))
    edge = Image.fromarray(np.pad(np.zeros((60, 60, 3), np.uint8), ((2, 2), (2, 2), (0, 0)), constant_values=255))
    assert preprocessing("imagenet", 56)(edge).max() < 0  # 64 · 7/8: the border of 2 of 64 is cut off


@pytest.mark.parametrize("in_worker", [False, True])
def test_a_broken_file_is_named(tmp_path: Path, in_worker: bool) -> None:
    folder = write_images(tmp_path, {"train": 1, "test": 1})
    broken = folder / "test/birch/0.png"
    broken.write_bytes(broken.read_bytes()[:200])
    data = open_data(folder, ["test"], None)
    images = EvaluationSet(data.splits["test"], preprocessing("small", 8))
    with pytest.raises(BenchmarkError) as error:
        list(evaluation_loader(images, 2, 0, CPU))
    if in_worker:
        wrapped = ExceptionWrapper((error.type, error.value, error.tb), "in DataLoader worker process 0")
        with pytest.raises(BenchmarkError, match=r"^Caught BenchmarkError in DataLoader worker") as error:
            wrapped.reraise()
    message = str(plain(error.value))
    assert message.startswith(f"{broken}: cannot be decoded (")
    assert message.endswith("); mend or remove it.")
    assert "\n" not in message
