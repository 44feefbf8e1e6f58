"""A packed store grows by the images that are new."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diffcore_gpu import CounterpartStore
from diffcore_gpu.errors import PackError
from diffcore_gpu.packing import rows as rows_module
from diffcore_gpu.packing.decode import read_image
from diffcore_gpu.packing.options import Fit, Layout, PackOptions
from diffcore_gpu.packing.pack import PackListener, pack
from diffcore_gpu.store.provenance import digest_of
from tests.images import write_noise
from tests.packing.test_packing import content
from tests.packing.test_similarity import ByHue, tree

MakeTree = Callable[[str, Iterable[str]], Path]


@pytest.fixture
def birds(make_tree: MakeTree, tmp_path: Path) -> PackOptions:
    """Three samples of one class and two of another, with two generated images of each."""
    real = make_tree("real", [*(f"a/{k}.png" for k in range(3)), *(f"b/{k}.png" for k in range(2))])
    generated = make_tree("gen", [f"{name}/{k}.png" for name in "ab" for k in "xy"])
    options = PackOptions(real=real, generated=generated, out=tmp_path / "store", height=20, width=24, workers=2)
    return replace(options, layout=Layout.CLASS)


def sources(options: PackOptions, names: Iterable[str]) -> list[int]:
    return [digest_of(read_image(options.generated / name)) for name in names]


def test_new_images_get_rows_and_pairs(birds: PackOptions) -> None:
    pack(birds)
    before = CounterpartStore.open(birds.out)
    more = ["a/1.png", "a/z.png", "b/0.png"]  # also between the names that are there
    write_noise(birds.generated, more, seed=99)
    said: list[str] = []
    report = pack(replace(birds, append=True), PackListener(say=said.append))
    after = CounterpartStore.open(birds.out)
    after.verify()
    assert "4 of 7 images are in" in said[1]
    assert (report.rows, report.resumed_rows, report.pairs, report.covered) == (7, 4, 3 * 4 + 2 * 3, 5)
    assert report.rows_per_class == {"a": 4, "b": 3}
    assert after.manifest.shards[: len(before.manifest.shards)] == before.manifest.shards
    assert after.row_column("source")[4:].tolist() == sources(birds, more)
    assert torch.equal(after.images(range(4)), before.images(range(4)))
    assert [sorted(after.rows(sample).tolist()) for sample in range(5)] == [[0, 1, 4, 5]] * 3 + [[2, 3, 6]] * 2
    assert after.manifest.history[0]["metadata"] == before.metadata
    assert after.metadata["generated_files"] == 3
    fresh = replace(birds, out=birds.out.with_name("fresh"))
    pack(fresh)
    whole = CounterpartStore.open(fresh.out)
    assert sorted(whole.row_column("source").tolist()) == sorted(after.row_column("source").tolist())


def test_images_are_known_whatever_their_names(birds: PackOptions) -> None:
    pack(birds)
    before = content(birds.out)
    (birds.generated / "a" / "x.png").rename(birds.generated / "a" / "renamed.png")
    report = pack(replace(birds, append=True))
    assert (report.rows, report.resumed_rows) == (4, 4)
    assert content(birds.out) == before


def test_an_image_of_another_class_or_twice_is_new(birds: PackOptions) -> None:
    pack(birds)
    shutil.copy(birds.generated / "a" / "x.png", birds.generated / "b" / "from-a.png")
    shutil.copy(birds.generated / "a" / "x.png", birds.generated / "a" / "again.png")
    assert pack(replace(birds, append=True)).rows == 6
    assert pack(replace(birds, append=True)).rows == 6


def test_another_folder_with_new_images_alone(birds: PackOptions, make_tree: MakeTree) -> None:
    pack(birds)
    other = make_tree("other", ["a/new.png"])
    report = pack(replace(birds, generated=other, append=True))
    assert (report.rows, report.pairs) == (5, 3 * 2 + 2 * 2 + 3)


def test_samples_get_no_more_than_they_may_have(birds: PackOptions) -> None:
    pack(replace(birds, max_per_sample=1))
    write_noise(birds.generated, [f"a/more{k}.png" for k in range(4)], seed=99)
    full = pack(replace(birds, max_per_sample=1, append=True))
    assert (full.rows, full.pairs, full.unused_rows) == (8, 5, 4)
    write_noise(birds.generated, ["a/yet.png"], seed=7)
    report = pack(replace(birds, max_per_sample=2, append=True))
    store = CounterpartStore.open(birds.out)
    store.verify()
    assert report.pairs == 5 + 3
    assert [len(store.rows(sample)) for sample in range(5)] == [2, 2, 2, 1, 1]


def test_stems(make_tree: MakeTree, tmp_path: Path) -> None:
    real = make_tree("real", [f"a/{k}.png" for k in range(3)])
    generated = make_tree("gen", ["0_x.png", "1_x.png"])
    options = PackOptions(real=real, generated=generated, out=tmp_path / "store", height=20, width=24, workers=2)
    assert pack(options).covered == 2
    write_noise(generated, ["0_a.png", "2_x.png"], seed=99)
    report = pack(replace(options, append=True))
    store = CounterpartStore.open(options.out)
    assert (report.covered, report.layout) == (3, "stem")
    assert [sorted(store.rows(sample).tolist()) for sample in range(3)] == [[0, 2], [1], [3]]


@pytest.mark.parametrize("after", range(4))
def test_interrupted_and_resumed(birds: PackOptions, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    monkeypatch.setattr(rows_module, "_SAVE_SECONDS", 0.0)
    pack(birds)
    (birds.generated / "a" / "broken.png").write_text("nothing")
    write_noise(birds.generated, ["a/1.png", "a/z.png", "b/0.png"], seed=99)
    undisturbed = replace(birds, out=birds.out.with_name("undisturbed"))
    shutil.copytree(birds.out, undisturbed.out)
    pack(replace(undisturbed, append=True))

    def interrupt(done: int, total: int) -> None:
        if done == after + 1:
            raise KeyboardInterrupt

    old = CounterpartStore.open(birds.out)
    with pytest.raises(KeyboardInterrupt):
        pack(replace(birds, append=True), PackListener(packed=interrupt))
    assert CounterpartStore.open(birds.out).checksum == old.checksum
    with pytest.raises(PackError, match="holds an unfinished store; give --resume"):
        pack(replace(birds, append=True))
    report = pack(replace(birds, append=True, resume=True))
    assert report.rows == 7
    assert content(birds.out) == content(undisturbed.out)


def test_filtered(tmp_path: Path) -> None:
    real = tree(tmp_path / "real", {"a/0.png": "red", "a/1.png": "green", "b/0.png": "blue"})
    generated = tree(tmp_path / "gen", {"a/v.png": "pink", "a/x.png": "blue"})
    options = PackOptions(real, generated, tmp_path / "store", 16, 16, Layout.CLASS, workers=2)
    pack(options, similarity=ByHue(0.9))
    tree(generated, {"a/u.png": "red", "a/y.png": "green", "b/z.png": "red", "b/zz.png": "blue"})
    report = pack(replace(options, append=True), similarity=ByHue(0.9))
    store = CounterpartStore.open(options.out)
    store.verify()
    assert [store.rows(sample).tolist() for sample in range(3)] == [[1, 0], [2], [3]]
    assert (report.rows, report.pairs, report.discarded_files) == (4, 4, 2)
    assert store.similarities(0).tolist() == sorted(store.similarities(0).tolist(), reverse=True)
    with pytest.raises(PackError, match=r"was made with filter .'model': 'by hue'., now it is None"):
        pack(replace(options, append=True))


def test_stores_that_a_pack_cannot_add_to(birds: PackOptions, tmp_path: Path) -> None:
    grown = replace(birds, append=True)
    with pytest.raises(PackError, match="holds no finished store to add to; pack one without --append first"):
        pack(grown)
    pack(birds)
    before = content(birds.out)
    write_noise(birds.generated, ["a/new.png"], seed=99)
    with pytest.raises(PackError, match="Give one of --append"):
        pack(replace(grown, overwrite=True))
    with pytest.raises(PackError, match=r"has images of 20x24; give --size 20x24 to add to it"):
        pack(replace(grown, width=20))
    with pytest.raises(PackError, match="was made with resize 'crop', now it is 'stretch'; pack another store"):
        pack(replace(grown, fit=Fit.STRETCH))
    assert content(birds.out) == before
    with pytest.raises(PackError, match="holds a finished store; give --overwrite to replace it, or --append"):
        pack(birds)


def test_rows_of_unknown_files(birds: PackOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(rows_module, "digest_of", lambda data: 0)
        pack(birds)
    assert not CounterpartStore.open(birds.out).row_column("source").any()
    with pytest.raises(PackError, match="does not know from which files its rows were made"):
        pack(replace(birds, append=True))
    assert np.array_equal(CounterpartStore.open(birds.out).row_seed(), [-1] * 4)
