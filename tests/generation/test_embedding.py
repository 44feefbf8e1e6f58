"""Embeddings by open_clip: as the official path has them, kept where nothing changed, and what cannot be loaded."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from diffcore_gpu.errors import GenerationError, StoreError
from diffcore_gpu.generation import embedding
from diffcore_gpu.generation.embedding import OpenClipEmbedder, load_embedder, real_embeddings
from diffcore_gpu.packing.imagefolder import ImageFolderScan, scan_image_folder
from diffcore_gpu.packing.similarity import EmbeddedFiles
from diffcore_gpu.store.provenance import FileContents, digest_of, file_content
from tests.generation.clip_models import CONFIG, save_model
from tests.programs import run_python

open_clip = pytest.importorskip("open_clip", reason="the filter needs open_clip_torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture(scope="module")
def embedder(folder: Path) -> OpenClipEmbedder:
    return load_embedder(str(folder), batch_size=3)


def pictures(count: int = 7, height: int = 41, width: int = 60) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    small = torch.rand(count, 3, 6, 8, generator=generator)
    return torch.nn.functional.interpolate(small, (height, width), mode="bilinear").mul(255).to(torch.uint8)


def official(folder: Path, images: Tensor) -> Tensor:
    """What open_clip's own documentation does with PIL images."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    batch = torch.stack([preprocess(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    with torch.no_grad():
        return model.eval().encode_image(batch, normalize=True)


def test_equals_the_official_path(folder: Path, embedder: OpenClipEmbedder) -> None:
    images = pictures()
    found = embedder.embed(images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, official(folder, images), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(7))
    found += 0  # an ordinary tensor, not one of inference mode


def test_the_batch_does_not_matter(folder: Path, embedder: OpenClipEmbedder) -> None:
    images = pictures()
    one_by_one = torch.cat([embedder.embed(image[None]) for image in images])
    torch.testing.assert_close(embedder.embed(images), one_by_one, rtol=0, atol=1e-5)
    assert embedder.embed(images[:0]).shape == (0, CONFIG["embed_dim"])


def test_files_are_decoded_as_imagefolder_does(tmp_path: Path, folder: Path, embedder: OpenClipEmbedder) -> None:
    images = pictures(5)
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    Image.fromarray(images[4, 0].numpy()).save(paths[4])  # grey
    images[4] = images[4, :1]
    seen: list[tuple[int, int]] = []
    found = embedder.embed_files(paths, lambda done, total: seen.append((done, total)))
    torch.testing.assert_close(found.embeddings, embedder.embed(images), rtol=0, atol=1e-6)
    assert found.contents.size.tolist() == [path.stat().st_size for path in paths]
    assert found.contents.digest.tolist() == [digest_of(path.read_bytes()) for path in paths]
    assert seen == [(3, 5), (5, 5)]


def test_a_broken_file_is_named(tmp_path: Path, embedder: OpenClipEmbedder) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("RGB", (9, 9)).save(good)
    bad.write_bytes(good.read_bytes()[:40])
    with pytest.raises(GenerationError, match=r"bad\.png cannot be decoded"):
        embedder.embed_files([good, bad])
    with pytest.raises(GenerationError, match=r"missing\.png cannot be decoded"):
        embedder.embed_files([tmp_path / "missing.png"])


def test_the_name_tells_models_apart(tmp_path: Path, embedder: OpenClipEmbedder) -> None:
    assert embedder.name.startswith("open_clip tiny-clip ")
    other = load_embedder(str(save_model(tmp_path / "tiny-clip", seed=1)))
    assert other.name.startswith("open_clip tiny-clip ")
    assert other.name != embedder.name


@pytest.mark.parametrize("precision", ["bf16"])
def test_half_precision_is_close(folder: Path, embedder: OpenClipEmbedder, precision: str) -> None:
    half = load_embedder(str(folder), precision=precision).embed(pictures())
    assert half.dtype == torch.float32
    assert (half * embedder.embed(pictures())).sum(1).min() > 0.99


def test_a_file_of_weights(tmp_path: Path) -> None:
    """A model by name with weights of one's own, in full size: ViT-B-32."""
    from safetensors.torch import save_file

    torch.manual_seed(3)
    model = open_clip.create_model("ViT-B-32")
    weights = tmp_path / "vit.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, weights)
    embedder = load_embedder("ViT-B-32", str(weights))
    assert embedder.name.startswith("open_clip ViT-B-32 ")
    images = pictures(2)
    preprocess = open_clip.image_transform(224, is_train=False)
    batch = torch.stack([preprocess(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    with torch.no_grad():
        expected = model.eval().encode_image(batch, normalize=True)
    torch.testing.assert_close(embedder.embed(images), expected, rtol=0, atol=1e-5)


def test_weights_of_a_tag_get_the_activation_that_they_were_trained_with(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def create(name: str, **settings: object) -> tuple[object, None, object]:
        asked.update(settings, name=name)
        return torch.nn.Identity(), None, None

    monkeypatch.setattr(open_clip, "create_model_and_transforms", create)
    assert load_embedder().name == "open_clip ViT-B-32 openai"
    assert (asked["name"], asked["pretrained"], asked["force_quick_gelu"]) == ("ViT-B-32", "openai", True)
    load_embedder("ViT-B-32", "laion2b_s34b_b79k")
    assert asked["force_quick_gelu"] is False


def _without(folder: Path, name: str, target: Path) -> str:
    target.mkdir()
    for path in folder.iterdir():
        if path.name != name:
            (target / path.name).write_bytes(path.read_bytes())
    return str(target)


def test_what_cannot_be_loaded_is_said_in_one_sentence(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.pt").write_bytes(b"pickle")
    broken = Path(_without(folder, "", tmp_path / "broken"))
    (broken / "open_clip_model.safetensors").write_bytes(b"nonsense")
    other = Path(_without(folder, "", tmp_path / "other"))
    config = json.loads((other / "open_clip_config.json").read_text())
    config["model_cfg"]["embed_dim"] = 24
    (other / "open_clip_config.json").write_text(json.dumps(config))
    for arguments, message in (
        (("ViT-B-23",), r"no model 'ViT-B-23'; did you mean .*ViT-B-32"),
        (("./nowhere/model",), "is not a folder, and no model of open_clip"),
        ((str(tmp_path / "weights.pt"),), "is not a folder"),
        (("ViT-B-32", str(tmp_path / "weights.pt")), "is a pickle, which can run any code"),
        (("ViT-B-32", str(tmp_path / "none.safetensors")), "is not a file"),
        (("ViT-B-32", "openaii"), "has no weights 'openaii' for ViT-B-32; it has openai, "),
        ((str(folder), "openai"), "is a folder with weights of its own"),
        ((_without(folder, "open_clip_model.safetensors", tmp_path / "a"),), "has no open_clip_model.safetensors"),
        ((_without(folder, "open_clip_config.json", tmp_path / "b"),), "has no open_clip_config.json"),
        ((str(broken),), "broken cannot be loaded"),
        ((str(other),), "other cannot be loaded"),
    ):
        with pytest.raises(GenerationError, match=message) as caught:
            load_embedder(*arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(GenerationError, match="precision is 'fp8'"):
        load_embedder(str(folder), precision="fp8")

    def offline(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to download weights for tag 'openai': no route\nto host")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", offline)
    with pytest.raises(GenerationError, match=r"with weights openai cannot be loaded .*where there is no network"):
        load_embedder()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(GenerationError, match="needs the package open_clip_torch: pip install"):
        load_embedder()


def test_importing_it_imports_no_open_clip() -> None:
    code = f"import sys, {embedding.__name__}; print({{'open_clip', 'torchvision'}} & set(sys.modules))"
    assert run_python("-c", code).strip() == "set()"


class Counting:
    """Embeds a file as a direction that follows from its size, and counts how often it was asked."""

    def __init__(self, name: str = "model") -> None:
        self.name, self.calls = name, 0

    def embed_files(self, paths: Sequence[Path], progress: Callable[[int, int], None]) -> EmbeddedFiles:
        self.calls += 1
        progress(len(paths), len(paths))
        values = torch.tensor([[1.0, path.stat().st_size] for path in paths])
        contents = FileContents.unknown(len(paths))
        contents.set(range(len(paths)), [file_content(path) for path in paths])
        return EmbeddedFiles(torch.nn.functional.normalize(values, dim=1), contents)


@pytest.fixture
def real(tmp_path: Path) -> ImageFolderScan:
    for name, side in (("a/0.png", 9), ("a/1.png", 12), ("b/0.png", 30)):
        path = tmp_path / "real" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((side, side), 50).save(path)
    return scan_image_folder(tmp_path / "real")


def ask(model: Counting, real: ImageFolderScan, cache: Path | None, said: list[str] | None = None) -> Tensor:
    say = [].append if said is None else said.append
    embeddings, contents = real_embeddings(model, real, cache, lambda done, total: None, say)
    read = [file_content(real.path(sample)) for sample in range(len(real))]
    assert list(zip(contents.size.tolist(), contents.digest.tolist(), strict=True)) == read
    return embeddings


def test_it_is_computed_once(tmp_path: Path, real: ImageFolderScan) -> None:
    model, cache = Counting(), tmp_path / "new" / "folder" / "cache.safetensors"
    first = ask(model, real, cache)
    assert torch.equal(ask(model, real, cache), first)
    assert model.calls == 1
    assert not list(cache.parent.glob("*.tmp"))
    assert torch.equal(ask(model, real, None), first)
    assert model.calls == 2


@pytest.mark.parametrize("change", ["model", "content", "byte", "name", "new file", "fewer"])
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
    elif change == "byte":  # at the same size and time
        before, data = path.stat(), bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
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


def test_a_touch_is_no_change(tmp_path: Path, real: ImageFolderScan) -> None:
    model, cache = Counting(), tmp_path / "cache.safetensors"
    ask(model, real, cache)
    os.utime(real.path(1), (1, 1))
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
