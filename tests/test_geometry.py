"""`DiffCoreMix` with a geometry: from a loader's raw bytes to the mixed training batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import diffcore_gpu as dc
from tests.stores import COUNTS, NUM_SAMPLES, SHAPE
from tests.test_transform import FORMATS, MEAN, STD

GEOMETRY = dc.RandomResizedCropMirror((12, 16))


def raw_batch(height: int = SHAPE[1], width: int = SHAPE[2], channels: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (NUM_SAMPLES, channels, height, width), generator=generator, dtype=torch.uint8)
    return images, torch.arange(NUM_SAMPLES)


def mix_of(store: dc.CounterpartStore, **settings: Any) -> dc.DiffCoreMix:
    return dc.DiffCoreMix(store, **{"geometry": GEOMETRY, "mean": MEAN, "std": STD, **settings})


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("counterpart_crop", ["own", "same"])
def test_the_result_is_that_of_the_returned_plan(
    store: dc.CounterpartStore, source: torch.memory_format, target: torch.memory_format, counterpart_crop: str
) -> None:
    images, index = raw_batch()
    mix = mix_of(store, counterpart_crop=counterpart_crop, memory_format=target)
    mixed, plan = mix(images.to(memory_format=source), index, return_plan=True)
    assert mixed.shape == (NUM_SAMPLES, 3, 12, 16)
    assert mixed.dtype == torch.float32
    assert mixed.is_contiguous(memory_format=target)
    counterparts = store.images(plan.row.clamp(min=0))
    expected = dc.crop_mix_reference(images, counterparts, plan, (12, 16), mean=MEAN, std=STD)
    torch.testing.assert_close(mixed.double(), expected, rtol=0, atol=3e-5)
    again = dc.crop_mix(
        images, store.images(list(range(store.num_rows))), plan, (12, 16), mean=MEAN, std=STD, memory_format=target
    )
    assert torch.equal(again, mixed)
    assert torch.equal(plan.crop, plan.counterpart_crop) == (counterpart_crop == "same")
    assert torch.equal(plan.row >= 0, torch.tensor(COUNTS) > 0)


def test_plan_and_crops_are_those_drawn_alone(store: dc.CounterpartStore) -> None:
    images, index = raw_batch(33, 25)
    mix = mix_of(store, seed=11)
    for round in range(2):
        _, plan = mix(images, index, return_plan=True)
        common = {"seed": 11, "round": round}
        alone = dc.draw_plan(index, store, height=12, width=16, **common)
        for name in ("row", "pixel", "lam", "box", "inside_real"):
            assert torch.equal(getattr(plan, name), getattr(alone, name)), name
        real = dc.draw_crops(index, GEOMETRY, height=33, width=25, **common)
        other = dc.draw_crops(index, GEOMETRY, height=SHAPE[1], width=SHAPE[2], counterpart=True, **common)
        assert torch.equal(plan.crop, real.crop)
        assert torch.equal(plan.mirror, real.mirror)
        assert torch.equal(plan.counterpart_crop, other.crop)
        assert torch.equal(plan.counterpart_mirror, other.mirror)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8])
def test_other_dtypes(store: dc.CounterpartStore, dtype: torch.dtype) -> None:
    images, index = raw_batch()
    mixed = mix_of(store, dtype=dtype)(images, index)
    exact = mix_of(store)(images, index)
    assert mixed.dtype == dtype
    if dtype == torch.uint8:
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        exact = (exact * std + mean) * 255
    torch.testing.assert_close(mixed.float(), exact, rtol=0, atol=0.51 if dtype == torch.uint8 else 2e-2)


def test_eval_takes_the_central_crop(store: dc.CounterpartStore) -> None:
    images, index = raw_batch(40, 32)
    mix = mix_of(store, geometry=dc.RandomResizedCropMirror((12, 16), eval_share=1.0)).eval()
    crops = dc.center_crop(NUM_SAMPLES, height=40, width=32, size=(12, 16), share=1.0)
    expected = dc.resized_crop(images, crops.crop, (12, 16), mean=MEAN, std=STD)
    shown, plan = mix(images, index, return_plan=True)
    assert torch.equal(shown, expected)
    assert bool((plan.row == -1).all())
    assert mix.round == 0


def test_rounds_differ_and_resume(store: dc.CounterpartStore) -> None:
    images, index = raw_batch()
    mix = mix_of(store)
    first, second = mix(images, index), mix(images, index)
    assert not torch.equal(first, second)
    resumed = mix_of(store)
    resumed(images, index)
    state = resumed.state_dict()
    other = mix_of(store)
    other.load_state_dict(state)
    assert torch.equal(other(images, index), second)


def test_compiles_with_the_model_into_one_graph(store: dc.CounterpartStore) -> None:
    images, index = raw_batch()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    mix, eager = mix_of(store), mix_of(store)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def step(images: Tensor, index: Tensor) -> Tensor:
        return model(mix(images, index, labels=index % 2))

    for _ in range(3):
        torch.testing.assert_close(step(images, index), model(eager(images, index)))
    assert mix.round == eager.round == 3
    model.eval()
    mix.eval()
    eager.eval()
    torch.testing.assert_close(step(images, index), model(eager(images, index)))
    torch.compiler.reset()


@pytest.mark.parametrize("counterpart_crop", ["own", "same"])
def test_prefetched_batches_are_the_same(store: dc.CounterpartStore, counterpart_crop: str) -> None:
    images, index = raw_batch()
    dataset = dc.IndexedDataset(TensorDataset(images, index % 2))

    def loader() -> DataLoader:
        return DataLoader(dataset, 7, shuffle=True, generator=torch.Generator().manual_seed(5))

    plain = mix_of(store, counterpart_crop=counterpart_crop)
    expected = [plain(*batch[::2], labels=batch[1]) for batch in loader()]
    mix = mix_of(store, counterpart_crop=counterpart_crop, residency="disk")
    mix._resident.prefetched, mix._resident.shards = True, []  # as on a GPU
    got = [mix(batch[0], batch[2], labels=batch[1]) for batch in dc.PrefetchLoader(loader(), mix, "cpu")]
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


def test_a_prefetched_label_of_another_class_is_refused(store: dc.CounterpartStore) -> None:
    images, index = raw_batch()
    loader = DataLoader(dc.IndexedDataset(TensorDataset(images, index)), 8)
    mix = mix_of(store, residency="disk")
    mix._resident.prefetched, mix._resident.shards = True, []
    batch, labels, where = next(iter(dc.PrefetchLoader(loader, mix, "cpu")))
    with pytest.raises(ValueError, match=r"sample 2 has label 2, but its counterpart, row \d+ of the store"):
        mix(batch, where, labels=labels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"counterpart_crop": "other"}, 'counterpart_crop must be "own" or "same"'),
        ({"dtype": torch.float64}, "dtype must be float32"),
        ({"memory_format": torch.preserve_format}, "memory_format must be contiguous"),
        ({"inplace": True}, "inplace=True cannot go with geometry"),
        ({"geometry": None, "dtype": torch.float16}, "go with geometry="),
        ({"geometry": None, "counterpart_crop": "same"}, "go with geometry="),
    ],
)
def test_bad_settings_are_refused(store: dc.CounterpartStore, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mix_of(store, **settings)


@pytest.mark.parametrize(
    ("settings", "images", "message"),
    [
        ({}, lambda: raw_batch()[0].float(), "images must be uint8"),
        ({}, lambda: raw_batch(channels=1)[0], "images have 1 channels, but the store's have 3"),
        ({"counterpart_crop": "same"}, lambda: raw_batch(30, 30)[0], 'counterpart_crop="same" needs one size'),
    ],
)
def test_bad_batches_are_refused(
    store: dc.CounterpartStore, settings: dict[str, Any], images: Callable[[], Tensor], message: str
) -> None:
    for training in (True, False):
        with pytest.raises(ValueError, match=message):
            mix_of(store, **settings).train(training)(images(), torch.arange(NUM_SAMPLES))
