"""The measurement behind `diffcore profile`, and the ranges that a user's own trace shows."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

import diffcore_gpu as dc
from diffcore_gpu.ops.mix.reference import real_weight
from diffcore_gpu.profiling import ProfileError, bytes_to_move, copy_speed, profile_training
from tests.pairs import pairs_of_counts
from tests.stores import write_store
from tests.test_transform import batch_of


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> dc.CounterpartStore:
    return write_store(tmp_path_factory.mktemp("stores") / "small", shape=(3, 32, 32))


@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    channels=st.integers(1, 4),
    itemsize=st.sampled_from([1, 2, 4]),
    lam=st.sampled_from([0.0, 1.0, (0.0, 1.0)]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_bytes_are_those_of_each_pixel(
    height: int, width: int, channels: int, itemsize: int, lam: Any, seed: int
) -> None:
    pairs = pairs_of_counts(torch.tensor([0, 1, 2, 1, 3, 0, 1]))
    plan = dc.draw_plan(torch.arange(7), pairs, height=height, width=width, seed=seed, lam=lam, p=0.8)
    weight = real_weight(plan, height, width)  # of the real image, at each pixel
    per_value = itemsize * (1 + (weight > 0)) + (weight < 1).to(torch.int64)
    assert bytes_to_move(plan, (channels, height, width), itemsize) == int(per_value.sum()) * channels


def test_bytes_of_a_known_batch() -> None:
    """256×3×224×224 in bfloat16, pixel-wise: 2 + 1 + 2 bytes for each value."""
    pairs = pairs_of_counts(torch.ones(256, dtype=torch.int64))
    plan = dc.draw_plan(torch.arange(256), pairs, height=224, width=224, pixel_prob=1)
    assert bytes_to_move(plan, (3, 224, 224), 2) == 256 * 3 * 224 * 224 * 5


def test_ranges_of_mix_and_prefetch_are_in_a_trace(store: dc.CounterpartStore) -> None:
    mix = dc.DiffCoreMix(store)
    batches = [batch_of(shape=(3, 32, 32))] * 3
    every_thread = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    with profile(activities=[ProfilerActivity.CPU], experimental_config=every_thread, acc_events=True) as profiler:
        for images, index in dc.PrefetchLoader(batches, mix):
            mix(images, index)
    counts = {event.key: event.count for event in profiler.key_averages()}
    assert counts["diffcore::mix"] == counts["diffcore::prefetch"] == 3


def test_copy_speed_is_a_rate() -> None:
    assert copy_speed(torch.device("cpu"), repeats=3) > 0


def test_a_profile_on_the_cpu(store: dc.CounterpartStore, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    trace = tmp_path / "trace.json"
    result = profile_training(store, model="squeezenet1_1", batch_size=4, steps=2, amp="bf16", trace=trace)
    assert (result.device, result.residency, result.steps, result.traced_steps) == ("cpu", "disk", 2, 2)
    assert 0 < result.mix_share < 1
    assert result.mix_share == result.mix_seconds / result.step_seconds
    assert 0 <= result.loader_share <= 1
    assert result.mix_kernels is None
    pixels = 4 * 3 * 32 * 32
    assert 5 * pixels <= result.mix_bytes <= 9 * pixels
    assert result.copy_fraction == pytest.approx(result.mix_bytes / result.mix_seconds / result.copy_bytes_per_second)
    events = json.loads(trace.read_text())["traceEvents"]
    names = [event.get("name") for event in events]
    assert names.count("diffcore::mix") == 2
    assert names.count("diffcore::prefetch") == 2


def test_what_cannot_be_profiled(store: dc.CounterpartStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(ValueError, match="batch_size and steps must be at least 1"):
        profile_training(store, steps=0)
    with pytest.raises(ProfileError, match="torchvision has no classifier named 'resnet19'"):
        profile_training(store, model="resnet19")
    with pytest.raises(
        ProfileError, match="cannot be trained on batches of 1×3×32×32 on cpu: Expected more than 1 value"
    ):
        profile_training(store, model="resnet18", batch_size=1)
    with pytest.raises(ProfileError, match="cannot be written: it is a folder"):
        profile_training(store, trace=tmp_path / "no" / "trace.json")
    with pytest.raises(ProfileError, match="not on meta"):
        profile_training(store, device="meta")
    grey = write_store(tmp_path / "grey", shape=(1, 32, 32))
    with pytest.raises(ProfileError, match=r"take 3 channels, but .*grey has 1"):
        profile_training(grey)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ProfileError, match="no GPU on this machine; use --device cpu"):
        profile_training(store, device="cuda")


def test_torchvision_is_asked_for(store: dc.CounterpartStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_torchvision(name: str, *arguments: Any) -> Any:
        if name.startswith("torchvision"):
            raise ImportError("No module named 'torchvision'")
        return real_import(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_torchvision)
    with pytest.raises(ProfileError, match=r"torchvision, which cannot be imported .*; pip install torchvision"):
        profile_training(store)
