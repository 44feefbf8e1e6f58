"""What the compiler makes of every kernel, for every GPU that we support; no GPU is needed.

It runs in a process of its own, because kernels that are imported for the interpreter cannot be compiled.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock  # torch depends on it

pytest.importorskip("triton", reason="Triton is not available on this platform")

REPORTS = ["-m", "diffcore_gpu.kernels.ahead_of_time", "--json"]
VARIANTS = """
from diffcore_gpu.kernels.ahead_of_time import KERNELS, compile_kernel

flags = dict.fromkeys(("INPLACE", "LAM_TABLE", "BOX_INSIDE", "BEST_ROW", "WRITE_PLAN", "SAME_CROP"), True)
for kernel in KERNELS:
    for other in ({"C": 1}, {"C": 4}, {"C": 5}, {"C": 9}, {"STORE_PLANAR": True}, {**flags, "CHECK_LABELS": False}):
        planar = other.get("C") in (1, 9)
        compile_kernel(kernel, "sm_90", "u8", planar, **other)
        print(kernel, planar, other)
"""


def run_side_by_side(programs: dict[str, list[str]], folder: Path) -> dict[str, dict[str, Any]]:
    """What each Python program says; together they leave fewer processors idle at their beginnings and ends."""
    folder.mkdir()
    running = {}
    for name, program in programs.items():
        environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(folder / f"{name}-cache")}
        with (folder / f"{name}.out").open("w") as out, (folder / f"{name}.err").open("w") as err:
            running[name] = subprocess.Popen([sys.executable, *program], env=environment, stdout=out, stderr=err)
    return {
        name: {
            "code": process.wait(),
            "out": (folder / f"{name}.out").read_text(),
            "err": (folder / f"{name}.err").read_text(),
        }
        for name, process in running.items()
    }


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What both programs said. Under pytest-xdist the first worker that asks compiles, and the others wait for it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    result = root / "ahead-of-time.json"
    with FileLock(root / "ahead-of-time.lock"):
        if not result.exists():
            programs = {"reports": REPORTS, "variants": ["-c", VARIANTS]}
            result.write_text(json.dumps(run_side_by_side(programs, root / "ahead-of-time")))
    return json.loads(result.read_text())


@pytest.fixture(scope="module")
def reports(said: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    assert said["reports"]["code"] == 0, said["reports"]["err"]
    return json.loads(said["reports"]["out"])


def test_any_number_of_channels_and_every_flag_compile(said: dict[str, dict[str, Any]]) -> None:
    """The interpreter takes more than the compiler does."""
    assert said["variants"]["code"] == 0, said["variants"]["out"] + said["variants"]["err"]


def name_of(report: dict[str, Any]) -> str:
    return "{kernel} {target} {dtype} planar={planar}".format(**report)


def test_every_combination_is_compiled(reports: list[dict[str, Any]]) -> None:
    assert len({name_of(report) for report in reports}) == (2 * 4 + 3 * 2) * 5 * 2


def test_nothing_is_spilled(reports: list[dict[str, Any]]) -> None:
    assert [name_of(report) for report in reports if report["spills"]] == []


def test_registers_leave_room_for_ten_warps_and_more(reports: list[dict[str, Any]]) -> None:
    """A multiprocessor has 65,536: 12 warps with 168 each, 10 of the fused crop with 200."""
    for report in reports:
        most = 200 if report["kernel"].startswith("crop_mix") else 168
        assert 0 < report["registers"] <= most, name_of(report)


def of_the_mix(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [report for report in reports if "crop" not in report["kernel"]]


def test_images_and_store_are_read_in_wide_loads(reports: list[dict[str, Any]]) -> None:
    """In each of two loops 16 bytes a thread of every image, and as many bytes of the store as there are values."""
    for report in of_the_mix(reports):
        loads = {int(width): count for width, count in report["load_bytes"].items()}
        planes = 3 if report["planar"] else 1
        assert loads.get(16, 0) >= (4 if report["dtype"] == "u8" else 2) * planes, name_of(report)
        store_width = {"fp32": 4, "fp16": 8, "bf16": 8, "u8": 16}[report["dtype"]]
        assert loads.get(store_width, 0) >= 2 * planes, name_of(report)
        booleans = 2 if report["kernel"] == "mix_plan" else 0
        assert loads.get(1, 0) == booleans, name_of(report)
        assert loads.get(2, 0) == 0, name_of(report)


def test_all_stores_are_wide(reports: list[dict[str, Any]]) -> None:
    """What is narrower is the next round (8 bytes) and the ticket (4)."""
    for report in of_the_mix(reports):
        stores = {int(width): count for width, count in report["store_bytes"].items()}
        advanced = {8: 1, 4: 1} if report["kernel"] == "mix_store" else {}
        assert stores == {16: 6 if report["planar"] else 2, **advanced}, name_of(report)


def test_no_warp_of_the_mix_waits_for_another(reports: list[dict[str, Any]]) -> None:
    assert [name_of(report) for report in of_the_mix(reports) if report["barriers"]] == []


# Instructions per value on sm_90, by pixel and by patch; contiguous, then channels_last.
MOST_INSTRUCTIONS = {
    "bf16": ((10, 14), (14, 24)),
    "fp16": ((10, 14), (14, 24)),
    "u8": ((12, 14), (16, 24)),
    "fp32": ((36, 36), (42, 42)),
}


def test_few_instructions_are_issued_for_a_value(reports: list[dict[str, Any]]) -> None:
    checked = [report for report in of_the_mix(reports) if report["target"] == "sm_90"]
    assert len(checked) == 2 * 4 * 2
    for report in checked:
        most = MOST_INSTRUCTIONS[report["dtype"]][0 if report["planar"] else 1]
        counts = report["instructions_per_value"]
        assert 4 < counts["pixel"] <= most[0], name_of(report)
        assert 4 < counts["patch"] <= most[1], name_of(report)


def test_the_mix_is_predicted_to_come_close_to_a_copy(reports: list[dict[str, Any]]) -> None:
    for report in of_the_mix(reports):
        predicted = report["predicted_of_copy"]
        if report["target"] == "sm_90":
            assert 0.9 <= predicted < 1, name_of(report)
        else:
            assert predicted is None, name_of(report)


def test_half_of_the_warps_fit_where_images_are_of_8_or_16_bits(reports: list[dict[str, Any]]) -> None:
    """A multiprocessor has 65,536 registers for 64 warps."""
    for report in of_the_mix(reports):
        if report["target"] == "sm_90" and report["dtype"] != "fp32":
            assert 0 < report["registers"] <= 64, name_of(report)


def test_what_is_not_counted_is_said_to_be_unknown(reports: list[dict[str, Any]]) -> None:
    for report in reports:
        kinds = {"crop"} if report["kernel"] == "resized_crop" else {"pixel", "patch"}
        counts, issue_us = report["instructions_per_value"], report["issue_us"]
        assert (None if counts is None else set(counts)) == (kinds if report["target"].startswith("sm") else None)
        assert (None if issue_us is None else set(issue_us)) == (kinds if report["target"] == "sm_90" else None)


# Instructions per value of an enlarged crop on sm_90, by kind.
MOST_INSTRUCTIONS_OF_A_CROP = {
    "crop_mix_store": {"pixel": 54, "patch": 34},
    "crop_mix_plan": {"pixel": 52, "patch": 32},
    "resized_crop": {"crop": 26},
}


def test_few_instructions_are_issued_for_a_value_of_a_crop(reports: list[dict[str, Any]]) -> None:
    checked = [report for report in reports if "crop" in report["kernel"] and report["target"] == "sm_90"]
    assert len(checked) == 3 * 2 * 2
    for report in checked:
        for kind, most in MOST_INSTRUCTIONS_OF_A_CROP[report["kernel"]].items():
            assert 15 < report["instructions_per_value"][kind] <= most, name_of(report)


def test_crops_are_issued_in_a_third_of_what_separate_taps_took(reports: list[dict[str, Any]]) -> None:
    """Resampled tap by tap, 256 images took 220 µs to issue in the fused kernel, and 119 µs in the other."""
    issue_us = {
        report["kernel"]: report["issue_us"]
        for report in reports
        if report["target"] == "sm_90" and report["dtype"] == "bf16" and not report["planar"]
    }
    assert max(issue_us["crop_mix_store"].values()) <= 220 / 3
    assert issue_us["resized_crop"]["crop"] <= 119 / 3


def test_planar_crops_are_written_in_whole_sectors(reports: list[dict[str, Any]]) -> None:
    """Taps are scattered bytes by nature; what is written is not: the lanes of a warp fill 64 bytes or more."""
    for report in (r for r in reports if "crop" in r["kernel"] and r["planar"]):
        lanes = 64 if report["target"].startswith("gfx") else 32
        assert min(int(width) for width in report["store_bytes"]) * lanes >= 64, name_of(report)
