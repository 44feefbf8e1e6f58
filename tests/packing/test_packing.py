"""A whole pack on real files: the right store, the right report, and the same bytes however often it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffcore_gpu import CounterpartStore
from diffcore_gpu.errors import PackError, StoreError
from diffcore_gpu.packing import rows as rows_module
from diffcore_gpu.packing.findings import Effect, Kind
from diffcore_gpu.packing.options import Layout, PackOptions
from diffcore_gpu.packing.pack import PackListener, pack

MakeTree = Callable[[str, Iterable[str]], Path]
Picture = Callable[..., Image.Image]


def options(real: Path, generated: Path, out: Path) -> PackOptions:
    return PackOptions(real=real, generated=generated, out=out, height=20, width=24, workers=2)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def birds(make_tree: MakeTree, picture: Picture, tmp_path: Path) -> PackOptions:
    """Two covered classes and one without counterparts; among the generated files a broken, a grey and a small one."""
    real = make_tree("real", [*(f"a/{k}.png" for k in range(3)), *(f"b/{k}.png" for k in range(4)), "c/0.png"])
    generated = make_tree("gen", [*(f"a/{k}_gen.png" for k in "xyz"), *(f"b/gen{k}.png" for k in range(5))])
    (generated / "a" / "broken.png").write_text("nothing")
    picture(5).convert("L").save(generated / "b" / "gen1.png")
    picture(6, 12, 10).save(generated / "b" / "gen3.png")
    return options(real, generated, tmp_path / "store")


def test_class_layout(birds: PackOptions) -> None:
    report = pack(birds)
    store = CounterpartStore.open(birds.out)
    store.verify()
    assert (report.samples, report.rows, report.pairs, report.covered) == (8, 8, 3 * 3 + 4 * 5, 7)
    assert (store.num_samples, store.num_rows, store.num_pairs) == (8, 8, 29)
    assert store.coverage == report.coverage == 7 / 8
    assert store.image_shape == (3, 20, 24)
    assert store.class_names == ["a", "b", "c"]
    assert [store.rows(sample).tolist() for sample in range(8)] == [[0, 1, 2]] * 3 + [[3, 4, 5, 6, 7]] * 4 + [[]]
    with Image.open(birds.generated / "a" / "y_gen.png") as image:
        assert np.array_equal(store.images([1])[0].numpy(), np.asarray(image).transpose(2, 0, 1))
    assert [(f.effect, f.kind, f.name) for f in report.findings] == [
        (Effect.SKIPPED, Kind.BROKEN, "a/broken.png"),
        (Effect.CONVERTED, Kind.GREY, "b/gen1.png"),
        (Effect.CLASS, Kind.NO_COUNTERPARTS, "c"),
    ]
    assert report.rows_per_class == {"a": 3, "b": 5, "c": 0}
    assert (report.enlarged, report.unused_rows, report.skipped_files, report.converted_files) == (1, 0, 1, 1)


def test_says_how_it_was_made_without_paths(birds: PackOptions) -> None:
    pack(birds)
    metadata = CounterpartStore.open(birds.out).metadata
    assert metadata["made_by"] == "diffcore pack"
    assert (metadata["layout"], metadata["resize"], metadata["generated"]) == ("class", "crop", "gen")
    assert metadata["counts"]["skipped"] == {"broken": 1}
    assert str(birds.real.parent) not in (birds.out / "store.json").read_text()


def test_binds_to_torchvision(birds: PackOptions) -> None:
    datasets = pytest.importorskip("torchvision.datasets", exc_type=ImportError)
    pack(birds)
    store = CounterpartStore.open(birds.out)
    store.bind(datasets.ImageFolder(birds.real))
    (birds.real / "a" / "0.png").rename(birds.real / "a" / "00.png")
    with pytest.raises(StoreError, match="other file names"):
        store.bind(datasets.ImageFolder(birds.real))


def test_stem_layout(make_tree: MakeTree, tmp_path: Path) -> None:
    real = make_tree("real", ["a/n1.png", "a/n2.png", "b/n3.png"])
    generated = make_tree("gen", ["n1_snowy_0.png", "n1_snowy_1.png", "n3-x.png"])
    report = pack(options(real, generated, tmp_path / "store"))
    store = CounterpartStore.open(tmp_path / "store")
    assert report.layout == "stem"
    assert [store.rows(sample).tolist() for sample in range(3)] == [[0, 1], [], [2]]
    assert store.row_label().tolist() == [0, 0, 1]
    assert [f.name for f in report.findings] == []


def test_cap_spreads_the_rows_evenly(make_tree: MakeTree, tmp_path: Path) -> None:
    real = make_tree("real", [f"a/{k}.png" for k in range(10)])
    generated = make_tree("gen", [f"a/gen{k}.png" for k in range(7)])
    report = pack(replace(options(real, generated, tmp_path / "store"), max_per_sample=3))
    store = CounterpartStore.open(tmp_path / "store")
    assert report.pairs == 30
    assert sorted(np.bincount(store.pair_row.numpy()).tolist()) == [4] * 5 + [5] * 2
    assert all(len(set(store.rows(sample).tolist())) == 3 for sample in range(10))


def test_rows_that_serve_nobody_are_counted(make_tree: MakeTree, tmp_path: Path) -> None:
    real, generated = make_tree("real", ["a/0.png"]), make_tree("gen", [f"a/gen{k}.png" for k in range(5)])
    report = pack(replace(options(real, generated, tmp_path / "store"), max_per_sample=2))
    assert (report.rows, report.pairs, report.unused_rows) == (5, 2, 3)


def test_real_images_as_counterparts_never_serve_themselves(make_tree: MakeTree, tmp_path: Path) -> None:
    real = make_tree("real", [*(f"a/{k}.png" for k in range(3)), "b/0.png"])
    (tmp_path / "links").symlink_to(real, target_is_directory=True)
    report = pack(options(real, tmp_path / "links", tmp_path / "store"))
    store = CounterpartStore.open(tmp_path / "store")
    assert [store.rows(sample).tolist() for sample in range(4)] == [[1, 2], [0, 2], [0, 1], []]
    assert [f.name for f in report.findings] == ["b"]


def test_strict_lists_everything_and_writes_nothing(birds: PackOptions, picture: Picture) -> None:
    (birds.generated / "owl").mkdir()
    picture(0).save(birds.generated / "owl" / "1.png")
    with pytest.raises(PackError, match="nothing was written") as caught:
        pack(replace(birds, strict=True))
    assert [detail.split(":")[1].strip() for detail in caught.value.details] == ["owl", "a/broken.png", "b/gen1.png"]
    assert not birds.out.exists()


def test_strict_does_not_finish_the_store(birds: PackOptions) -> None:
    with pytest.raises(PackError, match="not finished") as caught:
        pack(replace(birds, strict=True))
    assert len(caught.value.details) == 3
    assert not (birds.out / "store.json").exists()
    report = pack(replace(birds, resume=True))
    assert (report.rows, report.resumed_rows) == (8, 8)


def test_strict_passes_where_all_is_well(make_tree: MakeTree, tmp_path: Path) -> None:
    real, generated = make_tree("real", ["a/0.png", "b/0.png"]), make_tree("gen", ["a/x.png", "b/y.png"])
    report = pack(replace(options(real, generated, tmp_path / "store"), strict=True, check_real=True))
    assert (report.findings, report.coverage) == ([], 1.0)


def test_check_real(birds: PackOptions) -> None:
    (birds.real / "b" / "2.png").write_bytes(b"")
    seen: list[tuple[int, int]] = []
    report = pack(replace(birds, check_real=True), PackListener(checked=lambda *counts: seen.append(counts)))
    assert [(f.kind, f.name) for f in report.findings if f.effect is Effect.REAL] == [(Kind.EMPTY_FILE, "b/2.png")]
    assert seen == [(done, 8) for done in range(1, 9)]


def test_the_same_bytes_with_any_number_of_workers(birds: PackOptions, tmp_path: Path) -> None:
    pack(birds)
    pack(replace(birds, out=tmp_path / "other", workers=7))
    assert content(birds.out) == content(tmp_path / "other")


@pytest.mark.parametrize("save_seconds", [0.0, 1e9])
def test_interrupted_anywhere_gives_the_same_bytes(
    birds: PackOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_seconds: float
) -> None:
    monkeypatch.setattr(rows_module, "_SAVE_SECONDS", save_seconds)
    undisturbed = pack(birds)
    for stop in range(1, 10):
        again = replace(birds, out=tmp_path / f"again{stop}", resume=True)

        def interrupt(done: int, total: int, stop: int = stop) -> None:
            if done == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pack(again, PackListener(packed=interrupt))
        report = pack(again)
        assert content(again.out) == content(birds.out)
        assert report.findings == undisturbed.findings
        assert replace(report, seconds=0, resumed_rows=0) == replace(undisturbed, seconds=0)


_KILLED = """
import os, signal, sys
from pathlib import Path
from diffcore_gpu.packing import rows
from diffcore_gpu.packing.options import PackOptions
from diffcore_gpu.packing.pack import PackListener, pack
rows._SAVE_SECONDS = 0.0
def die(done, total):
    if done == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
real, generated, out = map(Path, sys.argv[1:4])
pack(PackOptions(real=real, generated=generated, out=out, height=20, width=24), PackListener(packed=die))
"""


def test_killed_gives_the_same_bytes(birds: PackOptions, tmp_path: Path) -> None:
    pack(birds)
    again = replace(birds, out=tmp_path / "again")
    command = [sys.executable, "-c", _KILLED, str(birds.real), str(birds.generated), str(again.out), "6"]
    assert subprocess.run(command, check=False, env=os.environ).returncode == -signal.SIGKILL
    with pytest.raises(PackError, match="--resume to go on"):
        pack(again)
    report = pack(replace(again, resume=True))
    assert report.resumed_rows == 4
    assert content(again.out) == content(birds.out)


def test_resuming_a_finished_store_changes_nothing(birds: PackOptions) -> None:
    first = pack(birds)
    before = content(birds.out)
    second = pack(replace(birds, resume=True))
    assert content(birds.out) == before
    assert second.findings == first.findings


def test_resume_refuses_other_files(birds: PackOptions, picture: Picture) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(birds, PackListener(packed=interrupt))
    picture(99).save(birds.generated / "a" / "new.png")
    with pytest.raises(StoreError, match="differs"):
        pack(replace(birds, resume=True))


def test_refuses_early(birds: PackOptions, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"named after an image of .*try --layout class"):
        pack(replace(birds, layout=Layout.STEM))
    with pytest.raises(PackError, match="not a folder"):
        pack(replace(birds, real=tmp_path / "missing"))
    assert not birds.out.exists()
    pack(birds)
    with pytest.raises(PackError, match="holds a finished store; give --overwrite"):
        pack(birds)
    assert pack(replace(birds, overwrite=True)).rows == 8


@pytest.mark.parametrize("inside", ["real/store", "gen/a/store", "gen"])
def test_refuses_a_store_among_the_images(birds: PackOptions, inside: str) -> None:
    before = content(birds.real.parent)
    with pytest.raises(PackError, match="put the store outside"):
        pack(replace(birds, out=birds.real.parent / inside, overwrite=True))
    assert content(birds.real.parent) == before


def test_nothing_usable(make_tree: MakeTree, tmp_path: Path) -> None:
    real = make_tree("real", ["a/0.png"])
    (tmp_path / "gen" / "a").mkdir(parents=True)
    (tmp_path / "gen" / "a" / "x.png").touch()
    with pytest.raises(PackError, match=r"can serve a sample: a/x\.png: empty-file"):
        pack(options(real, tmp_path / "gen", tmp_path / "store"))
