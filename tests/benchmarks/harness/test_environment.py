"""What a result says about the machine."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import torch

from diffcore_gpu.benchmarks.harness import environment as module
from diffcore_gpu.benchmarks.harness.environment import clocks, environment, version_of

CPU = torch.device("cpu")


def test_environment_names_the_machine() -> None:
    found = environment(CPU, ["no-such-package"], command="diffcore bench peers")
    assert found["command"] == "diffcore bench peers"
    assert found["versions"]["torch"] == version_of("torch")
    assert found["versions"]["no-such-package"] is None
    assert found["cpu"]
    assert found["threads"] == torch.get_num_threads()
    assert found["gpu"] is None
    json.dumps(found)


def test_clocks_of_the_cpu_are_those_of_the_system() -> None:
    found = clocks(CPU)["cpu_mhz"]
    assert found is None or all(100 < mhz < 10_000 for mhz in found)


def test_clocks_of_a_gpu_are_what_the_drivers_tool_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def tool(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "1980 MHz, 1980 MHz, 2619 MHz, 2619 MHz, 700.00 W, 31\n", "")

    monkeypatch.setattr(module.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(module.subprocess, "run", tool)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: type("P", (), {"uuid": "abc"}))
    found = clocks(torch.device("cuda", 0))["gpu"]
    assert found["clocks.sm"] == "1980 MHz"
    assert found["power.limit"] == "700.00 W"
    assert "--id=GPU-abc" in asked[0]

    def broken(command: list[str], **_: Any) -> None:
        raise subprocess.CalledProcessError(9, command)

    monkeypatch.setattr(module.subprocess, "run", broken)
    assert clocks(torch.device("cuda", 0))["gpu"] is None
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    assert clocks(torch.device("cuda", 0))["gpu"] is None
