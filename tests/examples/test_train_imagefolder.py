"""The example script as a newcomer runs it: trained, interrupted, resumed; on made images and on real ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from diffcore_gpu.packing.options import PackOptions
from diffcore_gpu.packing.pack import pack
from tests.images import write_noise
from tests.programs import run_python

pytest.importorskip("torchvision", reason="the example needs torchvision")

SCRIPT = Path(__file__).parents[2] / "examples" / "train_imagefolder.py"
REAL_DATA = Path(__file__).parents[3] / "shared" / "data"


def run(*arguments: object) -> str:
    return run_python(SCRIPT, *arguments, OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "2"))


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def assert_same_state(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same_state(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same_state(x, y)
    else:
        assert a == b


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of six real images with one counterpart each, and their store."""
    folder = tmp_path_factory.mktemp("data")
    stems = [f"{name}/{name}{k}" for name in ("ant", "bee", "fly") for k in range(6)]
    write_noise(folder / "real", [f"{stem}.png" for stem in stems], 40, 48)
    write_noise(folder / "generated", [f"{stem}_generated_0.png" for stem in stems], 40, 48, seed=1)
    pack(PackOptions(folder / "real", folder / "generated", folder / "store", 32, 32))
    return folder


def test_an_interrupted_run_ends_like_an_undisturbed_one(data: Path, tmp_path: Path) -> None:
    common = "--real", data / "real", "--store", data / "store", "--epochs", 2, "--batch-size", 5, "--amp", "bf16"
    whole = run(*common, "--out", tmp_path / "whole")
    assert "epoch 2/2: loss" in whole
    first = run(*common, "--out", tmp_path / "parts", "--stop-after", 1)
    assert "epoch 1/2: loss" in first
    assert "epoch 2/2" not in first
    second = run(*common, "--out", tmp_path / "parts")
    assert "resumed after epoch 1" in second
    assert_same_state(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))
    assert checkpoint(tmp_path / "whole")["mix"]["round"] > 0


def test_without_a_store_it_is_the_plain_loop(data: Path, tmp_path: Path) -> None:
    printed = run("--real", data / "real", "--size", 32, "--epochs", 1, "--workers", 0, "--out", tmp_path)
    assert "epoch 1/1: loss" in printed
    assert "mix" not in checkpoint(tmp_path)


def test_three_lines_are_marked() -> None:
    marks = [line for line in SCRIPT.read_text().splitlines() if "# diffcore-gpu " in line]
    assert [mark.partition("# diffcore-gpu ")[2] for mark in marks] == ["1 of 3", "2 of 3", "3 of 3"]


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the real images (CUB-200 and CosXL) are not beside the repository")
def test_real_birds_with_one_class_of_fifteen_covered(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    import diffcore_gpu as dc

    report = pack(PackOptions(REAL_DATA / "cub200", REAL_DATA / "cosxl", tmp_path / "store", 64, 64))
    assert report.rows == 5
    dataset = dc.IndexedDataset(ImageFolder(REAL_DATA / "cub200"))
    store = dc.CounterpartStore.open(tmp_path / "store").bind(dataset)
    covered = torch.tensor(dataset.targets) == dataset.classes.index("024.Red_faced_Cormorant")
    assert store.coverage == pytest.approx(covered.float().mean().item())
    images = torch.rand(len(dataset), 3, 64, 64)
    mixed = dc.DiffCoreMix(store)(images, torch.arange(len(dataset)))
    assert torch.equal(mixed[~covered], images[~covered])
    assert bool((mixed[covered] != images[covered]).flatten(1).any(1).all())

    common = "--real", REAL_DATA / "cub200", "--store", tmp_path / "store", "--epochs", 1, "--batch-size", 32
    assert "epoch 1/1: loss" in run(*common, "--out", tmp_path / "run")
