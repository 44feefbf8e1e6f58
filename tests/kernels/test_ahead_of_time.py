"""What the compiler makes of every kernel, for every GPU that we support; no GPU is needed.

It runs in a process of its own, because kernels that are imported for the interpreter cannot be compiled.
"""

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
    for other in ({"C": 1}, {"C": 4}, {"C": 5}, {"C": 9}, {**flags, "CHECK_LABELS": False}):
        compile_kernel(kernel, "sm_90", "u8", False, **other)
        print(kernel, other)
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


def test_registers_leave_room_for_three_blocks_of_128_threads(reports: list[dict[str, Any]]) -> None:
    assert [name_of(report) for report in reports if not 0 < report["registers"] <= 168] == []


def test_planar_images_and_store_are_read_in_wide_loads(reports: list[dict[str, Any]]) -> None:
    """Nothing but the plan's few scalars is read in less than 8 bytes; bytes are the two booleans of a given plan."""
    for report in (r for r in reports if r["planar"] and "crop" not in r["kernel"]):
        loads = {int(width): count for width, count in report["load_bytes"].items()}
        wide = loads.get(16, 0) + loads.get(8, 0)
        assert wide >= 15, name_of(report)  # 3 channels × (image, store) pixel-wise and patch-wise, 3 images unmixed
        booleans = 2 if report["kernel"] == "mix_plan" else 0
        assert loads.get(1, 0) == booleans, name_of(report)
        assert loads.get(2, 0) == 0, name_of(report)


def test_interleaved_images_are_read_in_wide_loads(reports: list[dict[str, Any]]) -> None:
    """channels_last: only the store, whose channels are planes, is read byte by byte: 16 a thread, in two branches."""
    for report in (r for r in reports if not r["planar"] and "crop" not in r["kernel"]):
        loads = {int(width): count for width, count in report["load_bytes"].items()}
        booleans = 2 if report["kernel"] == "mix_plan" else 0
        assert loads.get(1, 0) - booleans in (16, 32), name_of(report)
        assert loads.get(2, 0) == 0, name_of(report)
        assert loads.get(16, 0) + loads.get(8, 0) >= 3, name_of(report)


def test_all_stores_are_wide(reports: list[dict[str, Any]]) -> None:
    for report in (r for r in reports if "crop" not in r["kernel"]):
        assert set(report["store_bytes"]) <= {"16", "8"}, name_of(report)
        assert report["store_bytes"], name_of(report)


def test_planar_crops_are_written_in_whole_sectors(reports: list[dict[str, Any]]) -> None:
    """Taps are scattered bytes by nature; what is written is not: the lanes of a warp fill 64 bytes or more."""
    for report in (r for r in reports if "crop" in r["kernel"] and r["planar"]):
        lanes = 64 if report["target"].startswith("gfx") else 32
        assert min(int(width) for width in report["store_bytes"]) * lanes >= 64, name_of(report)
