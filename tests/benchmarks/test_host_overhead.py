"""What the host-overhead benchmark takes apart."""

from pathlib import Path

import pytest
import torch

from diffcore_gpu import CounterpartStore, DiffCoreMix
from diffcore_gpu.benchmarks import host_overhead
from diffcore_gpu.benchmarks.result_file import read_result


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


def test_the_suite_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "host.json"
    host_overhead.main(
        ["--device", "cpu", "--batch", "2", "--size", "16", "--dtype", "float32", "--repeats", "3", "--json", str(path)]
    )
    (found,) = read_result(path, "host-overhead")["results"]
    assert found["batch"] == 2
    assert len(found["times"]["call"]["samples_ms"]) == 3
    assert "operator dispatch" in capsys.readouterr().out
