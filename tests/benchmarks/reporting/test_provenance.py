"""How a result came about, in words."""

from __future__ import annotations

from diffcore_gpu.benchmarks.reporting.provenance import clocks, facts, where
from tests.benchmarks.reporting.samples import ENVIRONMENT, sample


def gpu(sm: str, **more: str) -> dict[str, object]:
    return {"cpu_mhz": None, "gpu": {"clocks.sm": sm, **more}}


def test_clocks_of_several_parts_are_ranges() -> None:
    assert clocks([{"cpu_mhz": [2400.2, 2500.0]}, {"cpu_mhz": [2399.6]}]) == "CPU 2400–2500 MHz"
    assert clocks([gpu("1980 MHz"), gpu("1755 MHz")]) == "GPU cores 1755–1980 MHz"
    assert clocks([gpu("1980 MHz"), gpu("[N/A]")]) == "GPU cores 1980 MHz, [N/A]"
    assert clocks([gpu("1980 MHz", **{"temperature.gpu": "42"})]) == "GPU cores 1980 MHz, GPU temperature in °C 42"
    assert clocks([None, {"cpu_mhz": None, "gpu": None}]) == "not told"
    assert clocks([]) == "not told"


def test_everything_is_told() -> None:
    result = sample(
        "overhead", gpu="Some GPU", gpu_memory_bytes=80 * 2**30, cuda="13.2", clocks_at_start=gpu("1980 MHz")
    )
    result["setting"] = {"amp": True, "methods": ["mixup", "cutmix"], "data": None, "arms": {"a": {"p": 0.5}}}
    assert dict(facts(result)) == {
        "command": "diffcore bench something --json something.json",
        "GPU": "Some GPU, 80 GiB, CUDA 13.2",
        "processor": "Some CPU, 8 CPUs, 2 threads",
        "load at start": "0.5",
        "clocks at start": "GPU cores 1980 MHz",
        "clocks at the end of its 3 parts": "CPU 2300 MHz",
        "versions": "Python 3.12, torch 2.11",
        "setting": "amp: yes; methods: mixup cutmix; data: –; arms: {a: {p: 0.5}}",
    }
    assert where(ENVIRONMENT) == "Some CPU, 2 threads; Python 3.12, torch 2.11."
    assert where({**ENVIRONMENT, "gpu": "Some GPU"}) == "Some GPU; Python 3.12, torch 2.11."
