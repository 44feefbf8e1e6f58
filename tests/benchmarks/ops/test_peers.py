"""How the peers benchmark compares, and that all of it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from diffcore_gpu import CounterpartStore
from diffcore_gpu.benchmarks.ops import peers
from diffcore_gpu.benchmarks.ops.registry import PEERS
from diffcore_gpu.benchmarks.ops.runner import Case


def timing(median: float) -> dict[str, float]:
    return {"median_ms": median, "p10_ms": median * 0.9, "p90_ms": median * 1.1}


def test_each_of_ours_is_compared_with_the_fastest_of_its_group() -> None:
    medians = {
        "diffcore default": 2,
        "diffcore pixel": 3,
        "diffcore patch (in place)": 1.05,
        "torchvision mixup": 8,
        "torchvision cutmix": 4,
        "timm cutmix batch (in place)": 1,
    }
    rows = peers.comparisons({name: timing(median) for name, median in medians.items()})
    found = {(row["ours"], row["against"]): (row["fastest"], row["ratio"], row["within_noise"]) for row in rows}
    timm = "timm cutmix batch (in place)"
    assert found == {
        ("diffcore default", "all peers"): (timm, 2, False),
        ("diffcore default", "peers that return new images"): ("torchvision cutmix", 0.5, False),
        ("diffcore pixel", "all peers"): (timm, 3, False),
        ("diffcore pixel", "peers that return new images"): ("torchvision cutmix", 0.75, False),
        ("diffcore pixel", "mixup peers"): ("torchvision mixup", 0.375, False),
        ("diffcore patch (in place)", "all peers"): (timm, 1.05, True),
        ("diffcore patch (in place)", "cutmix peers"): (timm, 1.05, True),
    }


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_a_small_batch_is_measured_and_reported(
    small_store: CounterpartStore, dtype: str, memory_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_peer(batch: torch.Tensor, labels: torch.Tensor) -> dict[str, Callable[[], object]]:
        return {"flip cutmix": lambda: batch.flip(0)}

    monkeypatch.setattr(peers, "peer_actions", one_peer)
    op = replace(PEERS, repeats=3)
    result = peers.measure(Case(op, torch.device("cpu"), small_store, 4, 32, dtype, memory_format))
    assert len(result["times"]) == 7
    assert all(len(time["samples_ms"]) == 3 for time in result["times"].values())
    text = peers.report({"batch": 4, "dtype": dtype, "memory_format": memory_format, **result})
    assert text.splitlines()[0] == f"4×3×32×32 {dtype}{' channels_last' if memory_format == 'channels_last' else ''}"
    assert "diffcore patch (in place)" in text


def test_every_peer_runs(generator: torch.Generator) -> None:
    for package in ("kornia", "timm", "torchvision"):
        pytest.importorskip(package)
    images = torch.rand(4, 3, 16, 16, generator=generator)
    labels = torch.randint(0, peers.CLASSES, (4,), generator=generator)
    actions = peers.peer_actions(images, labels)
    assert len(actions) == 8
    for name, action in actions.items():
        mixed, _ = action()
        assert mixed.shape == images.shape, name
    of_bytes = peers.peer_actions(images.mul(255).to(torch.uint8), labels)
    assert set(of_bytes) == {"torchvision cutmix"}
    assert of_bytes["torchvision cutmix"]()[0].dtype == torch.uint8
