"""What the host-overhead benchmark compares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diffcore_gpu.benchmarks.harness.result_file import read_result
from diffcore_gpu.benchmarks.ops import host_overhead
from diffcore_gpu.benchmarks.suites import run_suite
from diffcore_gpu.errors import BenchmarkError
from tests.programs import run_python

pytest.importorskip("triton", reason="Triton is not available on this platform")

ARMS = {"call", "kept launch", "torch.empty_like", "bare launch", "launch of the mix through Triton", "library call"}


def test_ratios_compare_the_calls_of_a_round() -> None:
    seconds = {"call": [2.0, 6.0, 30.0, 4.0], "bare launch": [1.0, 2.0, 10.0, 4.0]}
    assert host_overhead.ratios(seconds)["median"] == 2.5
    low, high = host_overhead.ratios(seconds)["quartiles"]
    assert 1 <= low < 2.5 < high <= 3


def test_the_suite_runs_without_a_gpu(tmp_path: Path) -> None:
    """By the driver that stands in for one; in a process of its own, since nothing is compiled for the interpreter."""
    path = tmp_path / "host.json"
    options = ["--device", "cpu", "--batch", "2", "--size", "16", "--repeats", "3", "--json", str(path)]
    said = run_python("-m", "diffcore_gpu", "bench", "host-overhead", *options, TRITON_INTERPRET="0")
    (found,) = read_result(path, "host-overhead")["results"]
    assert (found["batch"], found["driver"], set(found["times"])) == (2, "stand-in", ARMS)
    assert len(found["times"]["call"]["samples_ms"]) == 3
    assert "of a bare launch" in said


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="Triton's interpreter is off")
def test_the_interpreter_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="unset TRITON_INTERPRET"):
        run_suite("host-overhead", ["--device", "cpu", "--batch", "2", "--size", "16", "--repeats", "1"])
