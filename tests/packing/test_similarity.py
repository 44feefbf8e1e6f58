"""Packing with a similarity filter: which pairs are made, what is discarded, and that it resumes byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from diffcore_gpu import CounterpartStore
from diffcore_gpu.errors import PackError, StoreError
from diffcore_gpu.packing import rows as rows_module
from diffcore_gpu.packing.imagefolder import ImageFolderScan
from diffcore_gpu.packing.options import PackOptions
from diffcore_gpu.packing.pack import pack
from diffcore_gpu.packing.similarity import EmbeddedFiles, best_pairs
from diffcore_gpu.store.provenance import FileContents, file_content
from tests.packing.test_packing import content


class ByHue:
    """Embeds an image as the direction of its mean colour, so that tests can draw similar images."""

    model = "by hue"

    def __init__(self, threshold: float = 0.99) -> None:
        self._threshold = threshold

    def embed(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        return torch.nn.functional.normalize(images.float().mean(dim=(2, 3)), dim=1)

    def embed_real(self, real: ImageFolderScan, progress: Callable[[int, int], None]) -> EmbeddedFiles:
        embeddings = []
        for sample in range(len(real)):
            with Image.open(real.path(sample)) as image:
                embeddings.append(self.embed(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])[0])
            progress(sample + 1, len(real))
        contents = FileContents.unknown(len(real))
        contents.set(range(len(real)), [file_content(real.path(sample)) for sample in range(len(real))])
        return EmbeddedFiles(torch.stack(embeddings), contents)

    def thresholds(self, embeddings: Tensor, real: ImageFolderScan) -> Tensor:
        present = torch.bincount(torch.tensor(real.labels), minlength=len(real.class_names)) > 0
        return torch.where(present, torch.tensor(self._threshold, dtype=torch.float64), torch.nan)


COLOURS = {"red": (250, 20, 20), "pink": (250, 60, 60), "green": (20, 250, 20), "blue": (20, 20, 250)}


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, colour in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), COLOURS[colour]).save(root / name)
    return root


def options(real: Path, generated: Path, out: Path) -> PackOptions:
    return PackOptions(real=real, generated=generated, out=out, height=16, width=16, workers=2)


@pytest.fixture
def mixed(tmp_path: Path) -> PackOptions:
    real = tree(tmp_path / "real", {"a/0.png": "red", "a/1.png": "green", "b/0.png": "blue"})
    generated = tree(
        tmp_path / "gen",
        {"a/v.png": "pink", "a/w.png": "red", "a/x.png": "blue", "a/y.png": "green", "b/z.png": "red"},
    )
    (generated / "a" / "broken.png").write_text("nothing")
    return options(real, generated, tmp_path / "store")


def test_class_layout(mixed: PackOptions) -> None:
    report = pack(mixed, similarity=ByHue(0.9))
    store = CounterpartStore.open(mixed.out)
    store.verify()
    assert [store.rows(sample).tolist() for sample in range(3)] == [[1, 0], [2], []]  # the most similar first
    best, second = store.similarities(0).tolist()
    assert best == pytest.approx(1.0)
    assert 0.9 < second < 0.999
    assert (report.rows, report.pairs, report.covered) == (3, 3, 2)
    assert report.discarded_files == 2
    assert report.refused_pairs == 2 * 4 + 1 - 3
    assert report.skipped_files == 1
    assert store.metadata["filter"] == {"model": "by hue"}
    assert store.metadata["thresholds"] == [0.9, 0.9]
    assert store.metadata["counts"]["discarded_files"] == 2


def test_the_most_similar_serve_where_more_pass_than_are_wanted(mixed: PackOptions) -> None:
    pack(replace(mixed, max_per_sample=1), similarity=ByHue(0.9))
    store = CounterpartStore.open(mixed.out)
    assert [store.rows(sample).tolist() for sample in range(3)] == [[1], [2], []]


def test_stem_layout(tmp_path: Path) -> None:
    real = tree(tmp_path / "real", {"a/one.png": "red", "a/two.png": "green"})
    generated = tree(
        tmp_path / "gen", {"a/one_0.png": "pink", "a/one_1.png": "green", "a/two_0.png": "red", "a/two_1.png": "green"}
    )
    report = pack(options(real, generated, tmp_path / "store"), similarity=ByHue(0.9))
    store = CounterpartStore.open(tmp_path / "store")
    assert report.layout == "stem"
    assert [store.rows(sample).tolist() for sample in range(2)] == [[0], [1]]
    assert report.discarded_files == report.refused_pairs == 2


def test_equality_is_not_enough(tmp_path: Path) -> None:
    real = tree(tmp_path / "real", {"a/0.png": "red"})
    generated = tree(tmp_path / "gen", {"a/x.png": "green"})
    wanted = options(real, generated, tmp_path / "store")
    pack(wanted, similarity=ByHue(-1.0))
    stored = float(CounterpartStore.open(wanted.out).pair_similarity[0])
    with pytest.raises(PackError, match="is similar enough to a sample: all 1 were discarded; look at them, or give a"):
        pack(replace(wanted, overwrite=True), similarity=ByHue(stored))
    assert pack(replace(wanted, overwrite=True), similarity=ByHue(stored - 1e-6)).pairs == 1


def test_an_image_is_no_counterpart_of_itself(tmp_path: Path) -> None:
    real = tree(tmp_path / "real", {"a/0.png": "red", "a/1.png": "pink"})
    report = pack(options(real, real, tmp_path / "store"), similarity=ByHue(0.5))
    store = CounterpartStore.open(tmp_path / "store")
    assert [store.rows(sample).tolist() for sample in range(2)] == [[1], [0]]
    assert report.refused_pairs == 0


def test_interrupted_and_resumed(mixed: PackOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pack(mixed, similarity=ByHue(0.9))
    expected = content(mixed.out)
    monkeypatch.setattr(rows_module, "_SAVE_SECONDS", 0.0)
    again = replace(mixed, out=tmp_path / "again")

    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    from diffcore_gpu.packing.pack import PackListener

    with pytest.raises(KeyboardInterrupt):
        pack(again, PackListener(packed=interrupt), ByHue(0.9))
    with pytest.raises(StoreError, match="metadata differs"):
        pack(replace(again, resume=True), similarity=ByHue(0.8))
    with pytest.raises(StoreError, match="metadata differs"):
        pack(replace(again, resume=True))
    pack(replace(again, resume=True), similarity=ByHue(0.9))
    assert content(again.out) == expected


@given(
    pairs=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7), st.integers(0, 3)), unique_by=lambda p: p[:2]),
    without_row=st.sets(st.integers(0, 7)),
    limit=st.one_of(st.none(), st.integers(1, 4)),
)
@settings(max_examples=200)
def test_best_pairs(pairs: list[tuple[int, int, int]], without_row: set[int], limit: int | None) -> None:
    pairs = sorted(pairs)
    row_of = np.full(8, -1)
    kept = [position for position in range(8) if position not in without_row]
    row_of[kept] = range(len(kept))
    arrays = [np.array([pair[part] for pair in pairs], np.int64) for part in range(3)]
    samples, rows, values = best_pairs((arrays[0], arrays[1], arrays[2].astype(np.float32)), row_of, limit)
    expected = []
    for sample in range(6):
        mine = [(-value, row_of[position]) for s, position, value in pairs if s == sample and row_of[position] >= 0]
        expected += sorted((sample, row, -value) for value, row in sorted(mine)[:limit])
    assert list(zip(samples.tolist(), rows.tolist(), values.tolist(), strict=True)) == expected
