"""Seconds of a batch by stages, on random images and on a folder of real ones with its loader."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffcore_gpu.benchmarks.harness.random_data import random_store_for
from diffcore_gpu.benchmarks.harness.result_file import read_result
from diffcore_gpu.benchmarks.suites import run_suite
from diffcore_gpu.errors import BenchmarkError, StoreError
from tests.benchmarks.harness.batches import TINY_STEPS
from tests.images import write_noise

for package in ("torchvision", "timm"):
    pytest.importorskip(package, reason=f"the benchmark of batch times needs {package}")

TINY = [*TINY_STEPS, "--repeats", "2"]
CLASSES, EACH = 3, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"class {label:03d}/{number}.png" for label in range(CLASSES) for number in range(EACH)]
    return write_noise(tmp_path_factory.mktemp("data"), names, 40, 48)


def write_store(path: Path, size: int, samples: int) -> Path:
    labels = [min(sample // EACH, CLASSES - 1) for sample in range(samples)]
    return random_store_for(path, size, labels, CLASSES).path


def test_steps_are_told_by_stages_beside_the_papers_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "batch.json"
    run_suite("batch-time", [*TINY, "--batch", "16", "--methods", "mixup", "diffcore-mix", "--json", str(path)])
    (found,) = read_result(path, "batch-time")["results"]
    assert set(found["times"]) == {"vanilla", "vanilla again", "mixup", "diffcore-mix"}
    assert all(set(stages) == {"load_ms", "mix_ms", "train_ms"} for stages in found["stages"].values())
    assert "loader_share" not in found
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["batch", "16", "step,"]
    last = {line.split("  ")[0]: line.split()[-1] for line in lines if line}
    assert (last["mixup"], last["diffcore-mix"]) == ("0.39", "1.37")  # the paper's


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("own_store", [False, True])
def test_real_images_come_through_a_loader(data: Path, tmp_path: Path, workers: int, own_store: bool) -> None:
    path = tmp_path / "batch.json"
    store = ["--store", str(write_store(tmp_path / "store", 32, CLASSES * EACH))] if own_store else []
    arguments = [*TINY, "--batch", "4", "--data", str(data), *store, "--workers", str(workers)]
    run_suite("batch-time", [*arguments, "--methods", "diffcore-mix", "diffusemix", "--json", str(path)])
    result = read_result(path)
    assert result["setting"]["data"] == data.name
    for found, method in zip(result["results"], ("diffcore-mix", "diffusemix"), strict=True):
        assert found["failed"] == {}
        for name in ("vanilla", "vanilla again", method):
            assert found["stages"][name]["load_ms"] > 0
            assert 0 <= found["loader_share"][name] < 1


def test_real_images_and_their_counterparts_are_brought_ahead(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "batch.json"
    arguments = [*TINY, "--batch", "4", "--data", str(data), "--workers", "1", "--residency", "disk"]
    run_suite("batch-time", [*arguments, "--methods", "diffcore-mix", "--json", str(path)])
    (found,) = read_result(path)["results"]
    assert found["failed"] == {}
    assert found["residency"] == "disk"
    assert set(found["loader_share"]) == {"vanilla", "vanilla again", "diffcore-mix"}


def test_what_does_not_fit_the_folder_is_refused(data: Path, tmp_path: Path) -> None:
    arguments = [*TINY, "--batch", "4", "--workers", "0"]
    other = write_store(tmp_path / "a", 24, CLASSES * EACH)
    with pytest.raises(BenchmarkError, match=r"holds images of 24×24, but --size is 32; make them equal"):
        run_suite("batch-time", [*arguments, "--data", str(data), "--store", str(other)])
    with pytest.raises(StoreError, match="samples"):
        run_suite("batch-time", [*arguments, "--data", str(data), "--store", str(write_store(tmp_path / "b", 32, 5))])
    with pytest.raises(BenchmarkError, match="holds no folder for each class"):
        run_suite("batch-time", [*arguments, "--data", str(tmp_path / "none")])
    with pytest.raises(BenchmarkError, match="holds 12 images, too few for a batch of 13"):
        run_suite("batch-time", [*TINY, "--batch", "13", "--data", str(data), "--workers", "0"])
