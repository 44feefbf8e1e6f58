"""A run knows the real images that it was made from, and does not go on with others under the same names."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from diffcore_gpu import CounterpartStore
from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation import recorder
from diffcore_gpu.generation import run as run_module
from diffcore_gpu.generation.embedding import CACHE_NAME
from diffcore_gpu.generation.run import GenerationRequest, run_request
from diffcore_gpu.generation.settings import FilterOptions, ModelOptions
from diffcore_gpu.store.provenance import file_content
from tests.generation import fakes, tiny_models

pytest.importorskip("open_clip", reason="the filter needs open_clip_torch")


class Fake(fakes.FakeTextToImage):
    """Uses negative prompts, as the request says."""

    def describe(self) -> dict[str, object]:
        return {**super().describe(), "negative_prompt": True}


class Stopping(Fake):
    """Is interrupted at its third batch."""

    def generate(self, prompts: list[str], negative_prompts: list[str], seeds: list[int]) -> torch.Tensor:
        if self.calls == 2:
            raise KeyboardInterrupt
        return super().generate(prompts, negative_prompts, seeds)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.image_text_model(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture
def request_(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> GenerationRequest:
    monkeypatch.setattr(recorder, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(run_module, "check_model", lambda model: None)
    model(monkeypatch, Fake())
    return GenerationRequest(
        real=fakes.real_images(tmp_path / "real"),
        out=tmp_path / "out" / "store",
        settings=fakes.settings(),
        model=ModelOptions(model="fake", device="cpu", gamma=3.0, steps=1),
        similarity=FilterOptions(str(clip), threshold=-1.0),
    )


def model(monkeypatch: pytest.MonkeyPatch, makes: fakes.FakeTextToImage) -> None:
    monkeypatch.setattr(run_module, "load_text_to_image", lambda options, say: makes)


def replace_images(real: Path, *names: str) -> None:
    """Other images under the same names, at the same sizes and times."""
    for name in names:
        before = (real / name).stat()
        Image.new("RGB", (8, 8), "teal").save(real / name)
        os.truncate(real / name, before.st_size)  # zeros behind the image
        os.utime(real / name, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_every_real_image_is_known(request_: GenerationRequest) -> None:
    run_request(request_)
    contents = CounterpartStore.open(request_.out).file_contents
    paths = sorted(request_.real.rglob("*.png"))
    assert list(zip(contents.size.tolist(), contents.digest.tolist(), strict=True)) == list(map(file_content, paths))


@pytest.mark.parametrize("cached", [True, False])
def test_other_real_images_are_not_gone_on_with(
    request_: GenerationRequest, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    model(monkeypatch, Stopping())
    with pytest.raises(KeyboardInterrupt):
        run_request(request_)
    again = replace(request_, resume=True)
    if not cached:
        (request_.out.with_name("store.report") / CACHE_NAME).unlink()
    originals = {name: (request_.real / name).read_bytes() for name in ("002.Red_fox/1.png", "8/0.png")}
    replace_images(request_.real, *originals)
    untouched = Fake()
    model(monkeypatch, untouched)
    for _ in range(2):  # the second time with the cache that the first made
        with pytest.raises(GenerationError, match=r"002\.Red_fox/1\.png differs from the image that .* was begun with"):
            run_request(again)
    assert untouched.calls == 0
    for name, data in originals.items():
        (request_.real / name).write_bytes(data)
    run_request(again)
    model(monkeypatch, Fake())
    run_request(replace(request_, out=request_.out.with_name("undisturbed")))
    names = ("store.json", "*.safetensors")
    ours, theirs = (
        [path.read_bytes() for name in names for path in sorted(folder.glob(name))]
        for folder in (request_.out, request_.out.with_name("undisturbed"))
    )
    assert ours == theirs


def test_nor_is_a_finished_store(request_: GenerationRequest) -> None:
    run_request(request_)
    replace_images(request_.real, "8/1.png")
    with pytest.raises(GenerationError, match=r"8/1\.png differs"):
        run_request(replace(request_, resume=True))
