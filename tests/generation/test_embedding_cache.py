"""The cache of the real images' embeddings: it serves the same images and model, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from diffcore_gpu.errors import GenerationError, StoreError
from diffcore_gpu.generation.embedding_cache import real_embeddings
from diffcore_gpu.packing.imagefolder import ImageFolderScan, scan_image_folder


class Counting:
    """Embeds a file as a direction that follows from its size, and counts how often it was asked."""

    def __init__(self, name: str = "model") -> None:
        self.name, self.calls = name, 0

    def embed_files(self, paths: Sequence[Path], progress: Callable[[int, int], None]) -> Tensor:
        self.calls += 1
        progress(len(paths), len(paths))
        values = torch.tensor([[1.0, path.stat().st_size] for path in paths])
        return torch.nn.functional.normalize(values, dim=1)


@pytest.fixture
def real(tmp_path: Path) -> ImageFolderScan:
    for name, side in (("a/0.png", 9), ("a/1.png", 12), ("b/0.png", 30)):
        path = tmp_path / "real" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((side, side), 50).save(path)
    return scan_image_folder(tmp_path / "real")


def ask(model: Counting, real: ImageFolderScan, cache: Path | None, said: list[str] | None = None) -> Tensor:
    return real_embeddings(model, real, cache, lambda done, total: None, [].append if said is None else said.append)


def test_it_is_computed_once(tmp_path: Path, real: ImageFolderScan) -> None:
    model, cache = Counting(), tmp_path / "new" / "folder" / "cache.safetensors"
    first = ask(model, real, cache)
    assert torch.equal(ask(model, real, cache), first)
    assert model.calls == 1
    assert not list(cache.parent.glob("*.tmp"))
    assert torch.equal(ask(model, real, None), first)
    assert model.calls == 2


@pytest.mark.parametrize("change", ["model", "content", "name", "time", "new file", "fewer"])
def test_anything_else_is_computed_anew(tmp_path: Path, real: ImageFolderScan, change: str) -> None:
    cache, said = tmp_path / "cache.safetensors", []
    ask(Counting(), real, cache)
    model, path = Counting(), real.path(1)
    if change == "model":
        model.name = "another model"
    elif change == "content":
        Image.effect_noise((50, 50), 50).save(path)
    elif change == "name":
        path.rename(path.with_name("2.png"))
    elif change == "time":
        os.utime(path, (1, 1))
    elif change == "new file":
        Image.effect_noise((9, 9), 50).save(path.with_name("3.png"))
    else:
        path.unlink()
    real = scan_image_folder(real.root)
    assert len(ask(model, real, cache, said)) == len(real)
    assert model.calls == 1
    assert said == [f"{cache} is computed anew: it belongs to another model or to other images."]
    ask(model, real, cache)
    assert model.calls == 1


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_cache_is_replaced(tmp_path: Path, real: ImageFolderScan, damage: bytes | None) -> None:
    model, cache, said = Counting(), tmp_path / "cache.safetensors", []
    first = ask(model, real, cache)
    data = cache.read_bytes()
    cache.write_bytes(data[:-4] + b"\xff\xff\xff\x7f" if damage is None else damage)
    assert torch.equal(ask(model, real, cache, said), first)
    assert len(said) == 1
    assert torch.equal(ask(model, real, cache), first)
    assert model.calls == 2


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path, real: ImageFolderScan) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((StoreError, OSError)):
        ask(Counting(), real, tmp_path / "file" / "cache.safetensors")
    real.path(2).unlink()
    with pytest.raises(GenerationError, match=r"0\.png cannot be read: No such file"):
        ask(Counting(), real, None)
