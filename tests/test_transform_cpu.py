"""`DiffCoreMix` on the CPU: compiled code mixes, and the operators are left out where nothing is lost by it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import diffcore_gpu as dc
from tests.test_transform import DTYPES, MEAN, STD, batch_of
from tests.ulp import ulps_apart


def results_of(mix: dc.DiffCoreMix, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Some batches, the last with labels."""
    images, index = batch_of(dtype=dtype)
    results = [mix(images.clone(), index) for _ in range(3)]
    return [*results, mix(images.clone(), index, labels=index % 2)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("lam", [(0.0, 1.0), dc.Beta(0.5)])
def test_every_way_on_the_cpu_gives_the_same(
    store: dc.CounterpartStore, dtype: torch.dtype, inplace: bool, lam: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directly; by the operators; and in torch, as without numba."""
    from diffcore_gpu.ops.mix import op as mixing
    from diffcore_gpu.ops.runtime import eager

    def mix() -> dc.DiffCoreMix:
        return dc.DiffCoreMix(store, mean=MEAN, std=STD, inplace=inplace, lam=lam, seed=5)

    directly, round = results_of(mix(), dtype), 4
    monkeypatch.setattr(eager, "may_bypass", lambda images: False)
    by_operators = results_of(mix(), dtype)
    monkeypatch.setattr(mixing, "cpu_backend", lambda dtype: "torch")
    in_torch = mix()
    for one, other, third in zip(directly, by_operators, results_of(in_torch, dtype), strict=True):
        assert torch.equal(one, other)
        assert ulps_apart(one, third) <= (0 if dtype == torch.uint8 else 1)
    assert int(in_torch.round) == round


def test_modes_and_profilers_still_see_the_operator(store: dc.CounterpartStore) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Seen(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.names: set[str] = set()

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            self.names.add(str(func))
            return func(*args, **(kwargs or {}))

    images, index = batch_of()
    mix = dc.DiffCoreMix(store)
    with Seen() as seen:
        mix(images, index)
    assert "diffcore.mix_store.default" in seen.names
    with torch.autograd.profiler.profile() as profiler:
        mix(images, index)
    assert {"diffcore::mix", "diffcore::mix_store"} <= {event.name for event in profiler.function_events}
    assert int(mix.round) == 2


@pytest.mark.parametrize("directly", [True, False])
def test_autograd_notices_a_mix_in_place(
    store: dc.CounterpartStore, directly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not directly:
        monkeypatch.setattr("diffcore_gpu.ops.runtime.eager.may_bypass", lambda images: False)
    images, index = batch_of()
    mix, weight = dc.DiffCoreMix(store, inplace=True), torch.ones(1, requires_grad=True)
    loss = (weight * images).sum()  # keeps the images for its gradient
    mix(images, index)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_another_default_device_does_not_matter(store: dc.CounterpartStore) -> None:
    images, index = batch_of()
    expected = dc.DiffCoreMix(store)(images, index)
    mix = dc.DiffCoreMix(store)
    with torch.device("meta"):
        assert torch.equal(mix(images, index), expected)


def test_workers_of_a_loader_mix(store: dc.CounterpartStore) -> None:
    """After a fork, where torch has one thread."""
    images, index = batch_of()
    mix = dc.DiffCoreMix(store, mean=MEAN, std=STD).train()
    mix.set_epoch(3)
    expected = mix(images, index)

    def collate(samples: list[int]) -> Tensor:
        return mix(images[samples], index[samples])

    loader = torch.utils.data.DataLoader(range(12), batch_size=4, num_workers=2, collate_fn=collate)
    assert torch.equal(torch.cat(list(loader)), expected)
