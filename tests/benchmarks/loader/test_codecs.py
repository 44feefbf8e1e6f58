"""The suite `codecs`: measured on tiny stores, and the storage that it imitates."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from diffcore_gpu.benchmarks.harness.result_file import read_result
from diffcore_gpu.benchmarks.loader.throttle import throttled
from diffcore_gpu.benchmarks.suites import run_suite

pytest.importorskip("torchvision", reason="the suite `codecs` needs torchvision")

TINY = ["--images", "9", "--size", "24", "--batch", "4", "--batches", "2", "--workers", "1", "--repeats", "3"]


def test_all_of_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "codecs.json"
    run_suite("codecs", [*TINY, "--passes", "2", "--rate", "100", "--json", str(path)])
    *sizes, cached, slow, loader = read_result(path, "codecs")["results"]
    assert [part["codec"] for part in sizes] == ["raw", "jpeg", "jpeg:90", "webp"]
    assert sizes[0]["share"] == 1
    assert sizes[2]["share"] < sizes[1]["share"]
    assert [part["largest_error"] > 0 for part in sizes] == [False, True, True, False]
    assert (cached["mb_per_s"], slow["mb_per_s"]) == (None, 100)
    for part in (cached, slow):
        assert list(part["arms"]) == ["raw", "raw again", "jpeg", "webp"]
    for arm in [*cached["arms"].values(), *slow["arms"].values()]:
        assert len(arm["per_second"]) == len(arm["cpu_us"]) == 3
        assert arm["ratio"]["low"] <= arm["ratio"]["median"] <= arm["ratio"]["high"]
    assert cached["arms"]["raw"]["ratio"]["median"] == 1
    assert [len(arm["per_second"]) for arm in loader["arms"].values()] == [2] * 4
    shown = capsys.readouterr().out
    assert "Stores read from an imitated storage of 100 MB/s" in shown
    assert "jpeg, decoded by a PrefetchLoader" in shown


def test_reads_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(100)))
    slept = []
    monkeypatch.setattr(time, "perf_counter", lambda: 5.0)  # nothing but the reads takes time
    monkeypatch.setattr(time, "sleep", slept.append)
    before = os.pread, os.preadv
    fd = os.open(file, os.O_RDONLY)
    try:
        with throttled(10):
            assert os.pread(fd, 30, 10) == bytes(range(10, 40))
            buffer = bytearray(20)
            reader = threading.Thread(target=os.preadv, args=(fd, [buffer], 80))
            reader.start()
            reader.join(10)
            assert bytes(buffer) == bytes(range(80, 100))
            os.pread(fd, 10, 95)
        os.pread(fd, 10, 0)
    finally:
        os.close(fd)
    assert slept == [3.0, 5.0, 5.5]
    assert (os.pread, os.preadv) == before
