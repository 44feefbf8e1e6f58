"""The rates that the suite computes and how they are shown; buffers that rotate, and tiles that are chosen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer

from diffcore_gpu import CounterpartStore, DiffCoreMix, draw_plan
from diffcore_gpu.benchmarks.harness import rotation
from diffcore_gpu.benchmarks.harness.random_data import random_images
from diffcore_gpu.benchmarks.harness.result_file import read_result
from diffcore_gpu.benchmarks.ops import bandwidth, kernel_tiles
from diffcore_gpu.benchmarks.ops.kernel_tiles import Tile
from diffcore_gpu.benchmarks.ops.peaks import data_sheet_peak, peak_of
from diffcore_gpu.benchmarks.suites import run_suite
from diffcore_gpu.errors import BenchmarkError

CPU = torch.device("cpu")


def test_rates_and_table() -> None:
    names = ("copy", "large copy", "pixel", "patch", "default")
    seconds = {name: [0.002, 0.001, 0.004] for name in names}
    moved = {name: [million * 10**6 * part for part in (2, 1, 4)] for million, name in zip((2, 4, 3, 1, 1), names)}  # noqa: B905
    moved["patch"] = [10**6, 10**6, 2 * 10**6]  # 0.5, 1 and 0.5 GB/s: each plan counts with its own bytes
    rates = bandwidth.rates_of(seconds, moved, 10.0)
    assert rates["pixel"] == pytest.approx({"gb_per_s": 3, "of_copy": 1.5, "of_large_copy": 0.75, "of_peak": 0.3})
    assert rates["patch"]["gb_per_s"] == pytest.approx(0.5)
    assert bandwidth.rates_of(seconds, moved, None)["pixel"]["of_peak"] is None
    case = {"dtype": "uint8", "memory_format": "contiguous", "size": 224, "batch": 16, "sets": 21, "cold_rates": rates}
    case["times"] = {name: {"median_ms": 2.0} for name in names}
    lines = bandwidth.report(case).split("\n")
    title = "16×3×224×224 uint8, 21 sets"
    assert lines[0].startswith(title)
    assert lines[0].removeprefix(title).split("  ")[-1] == "of peak"
    assert lines[3].split() == ["pixel", "2000.0", "3", "1.50", "0.75", "0.30"]
    assert bandwidth.overview({"results": [case]}).split("\n")[1].split()[-2:] == ["0.25", "(0.10)"]


def test_no_set_comes_up_before_the_cache_has_been_filled_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "cache_bytes", lambda device: 50 << 20)
    gpu = torch.device("cuda")
    small, large = 16 * 3 * 224 * 224, 512 * 3 * 256 * 256 * 4
    assert (rotation.sets_for(small, gpu) - 1) * 2 * small < 100 << 20 <= rotation.sets_for(small, gpu) * 2 * small
    assert rotation.sets_for(large, gpu) == 2
    assert rotation.sets_for(1, gpu) == rotation.MOST


def test_a_rotation_takes_the_sets_in_turn_and_keeps_what_they_returned() -> None:
    seen: list[int] = []
    kept = rotation.Rotation(lambda which: seen.append(which) or torch.zeros(1), 3)
    for _ in range(7):
        kept()
    assert seen == [0, 1, 2, 0, 1, 2, 0]
    assert len({held.data_ptr() for held in kept._kept}) == 3
    assert rotation.of_the_calls("abc", 4, 3) == ["b", "c", "a"]


def test_no_sample_is_twice_in_a_set() -> None:
    sets = rotation.index_sets(6, 5, rows=15)
    assert all(len(set(index.tolist())) == 6 for index in sets)
    assert not set(sets[0].tolist()) & set(sets[1].tolist())
    assert len({index.data_ptr() for index in sets}) == len(sets) == 5


def test_images_and_outputs_lie_apart_and_the_bytes_are_those_of_the_plans(small_store: CounterpartStore) -> None:
    first = random_images(4, 32, "uint8", "channels_last", CPU)
    other = bandwidth.shuffled(first, 1)
    assert other.stride() == first.stride()
    assert other.data_ptr() != first.data_ptr()
    assert not torch.equal(other, first)
    mix = DiffCoreMix(small_store, pixel_prob=0.5)
    mix.set_epoch(0)
    index = torch.tensor([5, 1, 7, 2])
    _, plan = mix(first, index, return_plan=True)
    drawn = draw_plan(index, small_store, height=32, width=32, pixel_prob=0.5)
    assert bandwidth.bytes_to_move(drawn, (3, 32, 32), 1) == bandwidth.bytes_to_move(plan, (3, 32, 32), 1)


def test_peaks_by_name_or_by_clock_and_bus() -> None:
    names = {
        "NVIDIA H100 80GB HBM3": 3350,
        "NVIDIA H100 PCIe": 2000,
        "NVIDIA H100 NVL": 3900,
        "NVIDIA H200": 4800,
        "NVIDIA A100-SXM4-80GB": 2039,
        "NVIDIA A100 80GB PCIe": 1935,
        "NVIDIA A100-PCIE-40GB": 1555,
        "NVIDIA L4": 300,
        "NVIDIA L40S": 864,
        "NVIDIA GeForce RTX 4090": 1008,
        "NVIDIA GeForce RTX 4090 Laptop GPU": None,
        "Tesla T4": 320,
        "Tesla V100-SXM2-16GB": 900,
        "NVIDIA GH200 480GB": None,
    }
    assert {name: data_sheet_peak(name) for name in names} == names
    unknown = SimpleNamespace(name="A GPU", memory_clock_rate=2_619_000, memory_bus_width=5120)
    assert peak_of(unknown) == (pytest.approx(3352, abs=1), "clock and bus")
    assert peak_of(SimpleNamespace(name="A GPU")) is None


@pytest.mark.parametrize("text", ["2048", "2048:", "1000:4", "2048:3", "512:8", "x:4", "0:0", "65536:64"])
def test_what_is_no_tile(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not PIXELS:WARPS"):
        kernel_tiles.tile(text)


def test_a_tile_holds_for_its_launches_only(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = pytest.importorskip("diffcore_gpu.kernels.mix")
    mine = kernel_tiles.own()
    with kernel_tiles.using(kernel_tiles.tile("4096:2")):
        assert kernel_tiles.own() == Tile(4096, 2)
    assert kernel_tiles.own() == mine
    monkeypatch.delattr(kernels, "BLOCKS")
    with pytest.raises(BenchmarkError, match="leave --tiles out"):
        kernel_tiles.own()


def test_another_tile_must_be_worth_it() -> None:
    def result(**ratios: float) -> dict[str, Any]:
        rates = {
            f"{kind} {written}": {"gb_per_s": 1000 * ratio}
            for kind in ("pixel", "patch")
            for written, ratio in (
                (str(kernel_tiles.own()), 1.0),
                *((name.replace("_", ":")[1:], value) for name, value in ratios.items()),
            )
        }
        return {"results": [{"cold_rates": {"copy": {"gb_per_s": 1.0}, **rates}}]}

    pytest.importorskip("triton")
    assert kernel_tiles.best(result(t4096_2=1.1, t4096_4=1.05)) == "4096:2"
    assert kernel_tiles.best(result(t4096_2=1.01)) == str(kernel_tiles.own())
    with pytest.raises(BenchmarkError, match="with --tiles"):
        kernel_tiles.best({"results": []})


def test_tiles_beside_the_kernels_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("triton")
    path, mine = tmp_path / "variants.json", str(kernel_tiles.own())
    some = ["--size", "16", "--batch", "2", "--repeats", "2", "--dtype", "uint8", "--format", "contiguous"]
    run_suite("bandwidth", ["--device", "cpu", *some, "--tiles", "4096:2", "--json", str(path)])
    (case,) = read_result(path)["results"]
    assert {f"pixel {mine}", "pixel 4096:2"} <= case["cold_rates"].keys()
    assert f"Rate over that of {mine}, the kernels' own: {mine} ×1.000, 4096:2 ×" in capsys.readouterr().out
    kernel_tiles.app(["best", str(path)], standalone_mode=False)
    assert capsys.readouterr().out.strip() in (mine, "4096:2")
    kernel_tiles.app(["run", "4096:2", "bandwidth", "--device", "cpu", *some], standalone_mode=False)
    assert "2×3×16×16 uint8, 3 sets" in capsys.readouterr().out


def test_a_tile_that_mixes_otherwise_is_not_measured(
    small_store: CounterpartStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    images = [random_images(2, 32, "uint8", "contiguous", CPU)]
    monkeypatch.setattr(
        bandwidth, "mixed", lambda mix, images, index, chosen, which: images[which] + (chosen.warps if chosen else 0)
    )
    mixes = dict.fromkeys((Tile(8192, 4), Tile(4096, 2)), DiffCoreMix(small_store))
    with pytest.raises(BenchmarkError, match="the tile 4096:2 gives other images than 8192:4, the kernels' own"):
        bandwidth.check_tiles(mixes, images, [torch.arange(2)])
    bandwidth.check_tiles({Tile(8192, 4): DiffCoreMix(small_store)}, images, [torch.arange(2)])
