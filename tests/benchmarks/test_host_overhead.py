"""What the host-overhead benchmark takes apart."""

import host_overhead
import pytest
import torch

from diffcore_gpu import CounterpartStore, DiffCoreMix


def test_parts_do_what_the_call_does(small_store: CounterpartStore, generator: torch.Generator) -> None:
    mix = DiffCoreMix(small_store)
    mix.set_epoch(3)  # the round stays, so that every call gives the same
    images, index = torch.randn(4, 3, 32, 32, generator=generator), torch.arange(4)
    actions = host_overhead.parts(mix, images, index)
    expected = mix(images, index)
    for name in ("call", "operator", "implementation"):
        assert torch.equal(actions[name](), expected), name
    assert actions["allocation"]().shape == images.shape
    assert actions["checks"]() is None


@pytest.mark.parametrize("gpu", [False, True])
def test_breakdown_adds_up(gpu: bool) -> None:
    median = {"call": 40.0, "operator": 30.0, "checks": 4.0, "implementation": 24.0, "allocation": 2.0}
    if gpu:
        median |= {"launch": 15.0, "launch and state": 22.0}
    rows = host_overhead.breakdown(median)
    assert rows["module"] == 6
    assert rows["operator dispatch"] == 6
    assert rows.pop("call") == sum(rows.values()) == 40
