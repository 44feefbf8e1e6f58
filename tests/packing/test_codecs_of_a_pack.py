"""Packing with a codec: the rows, the same bytes after an interruption, and what the filter looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diffcore_gpu import CounterpartStore
from diffcore_gpu.errors import PackError, StoreError
from diffcore_gpu.packing import rows as rows_module
from diffcore_gpu.packing.imagefolder import ImageFolderScan
from diffcore_gpu.packing.options import PackOptions
from diffcore_gpu.packing.pack import pack
from diffcore_gpu.packing.similarity import EmbeddedFiles
from diffcore_gpu.store.codecs import codec_named
from diffcore_gpu.store.provenance import FileContents
from tests.packing.test_packing import content

SETTINGS = ["jpeg", "jpeg:70", "webp"]


@pytest.fixture
def options(make_tree: Callable[[str, Iterable[str]], Path], tmp_path: Path) -> PackOptions:
    real = make_tree("real", ["a/0.png", "a/1.png", "b/0.png"])
    generated = make_tree("gen", [f"{name}/{number}.png" for name in "ab" for number in range(5)])
    return PackOptions(real=real, generated=generated, out=tmp_path / "store", height=20, width=24, workers=2)


@pytest.mark.parametrize("setting", SETTINGS)
def test_rows_are_those_of_a_raw_store_with_what_the_codec_loses(options: PackOptions, setting: str) -> None:
    pack(replace(options, codec=setting))
    store = CounterpartStore.open(options.out)
    store.verify()
    assert store.metadata["codec"] == setting
    assert {shard.codec for shard in store.manifest.shards} == {codec_named(setting).name}
    raw_options = replace(options, out=options.out.with_name("raw"))
    pack(raw_options)
    raw = CounterpartStore.open(raw_options.out)
    assert raw.metadata["codec"] == "raw"
    seen = [codec_named(setting).seen(image) for image in raw.images(range(raw.num_rows)).numpy()]
    assert np.array_equal(store.images(range(store.num_rows)), np.stack(seen))
    assert torch.equal(store.pair_row, raw.pair_row)


def test_interrupted_and_resumed(options: PackOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = replace(options, codec="jpeg")
    pack(replace(wanted, out=options.out.with_name("whole")))
    read_image = rows_module.read_image

    def failing(path: Path) -> bytes:
        if path.name == "3.png":
            raise PackError("the disk is gone")
        return read_image(path)

    with monkeypatch.context() as patch:
        patch.setattr(rows_module, "read_image", failing)
        with pytest.raises(PackError, match="the disk is gone"):
            pack(wanted)
    with pytest.raises(StoreError, match="the argument codec differs"):
        pack(replace(wanted, codec="webp", resume=True))
    pack(replace(wanted, resume=True))
    assert content(wanted.out) == content(options.out.with_name("whole"))


class Noted:
    """A filter that accepts everything and remembers the images that it was shown."""

    model = "noted"

    def __init__(self) -> None:
        self.images: list[Tensor] = []

    def embed_real(self, real: ImageFolderScan, progress: Callable[[int, int], None]) -> EmbeddedFiles:
        return EmbeddedFiles(torch.eye(2)[[0] * len(real)], FileContents.unknown(len(real)))

    def embed(self, images: Tensor) -> Tensor:
        self.images += list(images)
        return torch.eye(2)[[0] * len(images)]

    def thresholds(self, embeddings: Tensor, real: ImageFolderScan) -> Tensor:
        return torch.zeros(len(real.class_names))


@pytest.mark.parametrize("setting", ["raw", *SETTINGS])
def test_the_filter_judges_what_a_reader_will_see(options: PackOptions, setting: str) -> None:
    similarity = Noted()
    pack(replace(options, codec=setting), similarity=similarity)
    store = CounterpartStore.open(options.out)
    assert torch.equal(torch.stack(similarity.images), store.images(range(store.num_rows)))


def test_what_no_codec_holds_is_refused_before_anything_is_read(options: PackOptions) -> None:
    missing = replace(options, real=options.real / "nothing")
    with pytest.raises(StoreError, match=r"^codec must be raw, .* not 'gif'\.$"):
        pack(replace(missing, codec="gif"))
    with pytest.raises(StoreError, match="codec webp holds images of up to 8192 pixels a side"):
        pack(replace(missing, codec="webp", height=9000))
