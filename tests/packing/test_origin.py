"""A pack knows what it was made from: digests are kept, and a file that changed under it is named, never mixed in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from diffcore_gpu import CounterpartStore, CounterpartWriter
from diffcore_gpu.errors import StoreError
from diffcore_gpu.packing import rows as rows_module
from diffcore_gpu.packing.findings import Journal
from diffcore_gpu.packing.options import Content, PackOptions
from diffcore_gpu.packing.origin import _first_difference
from diffcore_gpu.packing.pack import PackListener, pack
from diffcore_gpu.store.provenance import file_content
from tests.packing.test_packing import content, options

MakeTree = Callable[[str, Iterable[str]], Path]


def write(path: Path, colour: int) -> None:
    """An image whose file has the same size whatever the colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 12), (colour, 90, 30)).save(path, format="BMP")


@pytest.fixture
def birds(make_tree: MakeTree, tmp_path: Path) -> PackOptions:
    """Ten generated files of one size, of which a/3 and a/7 are broken."""
    for number in range(10):
        write(tmp_path / "gen" / "a" / f"{number}.bmp", number)
    for number in (3, 7):
        path = tmp_path / "gen" / "a" / f"{number}.bmp"
        path.write_bytes(bytes(path.stat().st_size))
    return options(make_tree("real", [f"a/{k}.png" for k in range(3)]), tmp_path / "gen", tmp_path / "store")


def interrupt(birds: PackOptions, done: int) -> PackOptions:
    """Pack so many files, and no further; what goes on with it."""

    def stop(now: int, total: int) -> None:
        if now == done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(birds, PackListener(packed=stop))
    return replace(birds, resume=True)


def swap(folder: Path, one: str, other: str) -> None:
    """Exchange two files; their names and sizes stay."""
    first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
    assert len(first) == len(second)
    (folder / one).write_bytes(second)
    (folder / other).write_bytes(first)


@pytest.mark.parametrize("save_seconds", [0.0, 1e9])
class TestInterrupted:
    @pytest.fixture(autouse=True)
    def _journal(self, monkeypatch: pytest.MonkeyPatch, save_seconds: float) -> None:
        monkeypatch.setattr(rows_module, "_SAVE_SECONDS", save_seconds)

    @pytest.mark.parametrize(("one", "other"), [("0", "1"), ("2", "9"), ("2", "3"), ("3", "4"), ("4", "8")])
    def test_swapped_images_are_noticed(self, birds: PackOptions, one: str, other: str) -> None:
        again = interrupt(birds, 7)
        swap(birds.generated / "a", f"{one}.bmp", f"{other}.bmp")
        with pytest.raises(StoreError, match=rf"a/{one}\.bmp: differs from the file that .* was begun with; put that"):
            pack(again)
        swap(birds.generated / "a", f"{one}.bmp", f"{other}.bmp")
        pack(again)
        pack(replace(birds, out=birds.out.with_name("undisturbed")))
        assert content(birds.out) == content(birds.out.with_name("undisturbed"))

    @pytest.mark.parametrize("number", [0, 4, 5])
    def test_a_changed_image_is_noticed(self, birds: PackOptions, number: int) -> None:
        again = interrupt(birds, 7)
        path = birds.generated / "a" / f"{number}.bmp"
        before = path.stat()
        write(path, 200)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(StoreError, match=rf"a/{number}\.bmp: differs"):
            pack(again)

    def test_an_image_that_broke_is_noticed(self, birds: PackOptions) -> None:
        again = interrupt(birds, 7)
        path = birds.generated / "a" / "4.bmp"
        path.write_bytes(bytes(path.stat().st_size))
        with pytest.raises(StoreError, match=r"a/4\.bmp: differs"):
            pack(again)

    def test_a_renamed_image_is_noticed(self, birds: PackOptions) -> None:
        again = interrupt(birds, 7)
        (birds.generated / "a" / "1.bmp").rename(birds.generated / "a" / "95.bmp")
        with pytest.raises(StoreError, match=r"a/2\.bmp: differs"):
            pack(again)

    def test_what_was_not_packed_yet_may_not_change_its_name_or_size(self, birds: PackOptions) -> None:
        again = interrupt(birds, 5)
        (birds.generated / "a" / "9.bmp").rename(birds.generated / "a" / "99.bmp")
        with pytest.raises(StoreError, match=r"gen: differs from what .* was begun with: it has lost or gained files"):
            pack(again)


def test_interrupted_while_it_saves(birds: PackOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the journal that is kept may be ahead of the rows."""
    monkeypatch.setattr(rows_module, "_SAVE_SECONDS", 0.0)
    save = rows_module._save

    def fail(writer: CounterpartWriter, journal: Journal) -> None:
        if journal.done != 6:
            save(writer, journal)
            return
        rows_module._note(writer, journal)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rows_module, "_save", fail)
        with pytest.raises(KeyboardInterrupt):
            pack(birds)
    again = interrupt(replace(birds, resume=True), 4)
    swap(birds.generated / "a", "2.bmp", "5.bmp")
    with pytest.raises(StoreError, match=r"a/2\.bmp: differs"):
        pack(again)
    swap(birds.generated / "a", "2.bmp", "5.bmp")
    pack(again)
    pack(replace(birds, out=birds.out.with_name("undisturbed")))
    assert content(birds.out) == content(birds.out.with_name("undisturbed"))


def test_many_skipped_images(birds: PackOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their digests are then not kept with every row, and those beyond the journal are told by their order."""
    monkeypatch.setattr(rows_module, "_MOST_DIGESTS", 0)
    again = interrupt(birds, 7)
    write(birds.generated / "a" / "1.bmp", 77)
    with pytest.raises(StoreError, match=r"a/1\.bmp: differs"):
        pack(again)
    write(birds.generated / "a" / "1.bmp", 1)
    pack(again)
    pack(replace(birds, out=birds.out.with_name("undisturbed")))
    assert content(birds.out) == content(birds.out.with_name("undisturbed"))


def test_a_skipped_image_that_was_mended_is_noticed(birds: PackOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_SAVE_SECONDS", 0.0)
    again = interrupt(birds, 7)
    write(birds.generated / "a" / "3.bmp", 3)
    with pytest.raises(StoreError, match=r"a/3\.bmp: differs"):
        pack(again)


@pytest.mark.parametrize("number", [0, 3, 5, 9])
def test_a_finished_store_is_not_taken_for_one_of_other_images(birds: PackOptions, number: int) -> None:
    pack(birds)
    before = content(birds.out)
    write(birds.generated / "a" / f"{number}.bmp", 200)
    with pytest.raises(StoreError, match=rf"a/{number}\.bmp: differs"):
        pack(replace(birds, resume=True))
    assert content(birds.out) == before


def test_a_finished_store_of_which_the_last_image_broke(birds: PackOptions) -> None:
    pack(birds)
    path = birds.generated / "a" / "9.bmp"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(StoreError, match=r"a/9\.bmp: differs"):
        pack(replace(birds, resume=True))


def test_rows_know_their_files(birds: PackOptions) -> None:
    pack(birds)
    sources = CounterpartStore.open(birds.out).row_column("source").tolist()
    assert sources == [file_content(birds.generated / "a" / f"{n}.bmp")[1] for n in range(10) if n not in (3, 7)]


@pytest.mark.parametrize(
    ("changes", "known"),
    [({}, 256), ({"content": Content.FULL}, 300), ({"check_real": True}, 300)],
)
def test_samples_know_their_files(tmp_path: Path, changes: dict[str, object], known: int) -> None:
    for number in range(300):
        write(tmp_path / "real" / "a" / f"{number:03d}.bmp", number % 256)
    write(tmp_path / "gen" / "a" / "0.bmp", 1)
    asked = replace(options(tmp_path / "real", tmp_path / "gen", tmp_path / "store"), **changes)
    pack(asked)
    contents = CounterpartStore.open(asked.out).file_contents
    assert len(contents.known) == known
    assert {0, 299} <= set(contents.known.tolist())
    for sample in contents.known[::50].tolist():
        content = file_content(tmp_path / "real" / "a" / f"{sample:03d}.bmp")
        assert (contents.size[sample], contents.digest[sample]) == content


def test_a_real_image_that_changed_is_noticed(birds: PackOptions) -> None:
    again = interrupt(birds, 7)
    path = birds.real / "a" / "1.png"
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(path)
    with pytest.raises(StoreError, match=r"the file of a/1\.png differs"):
        pack(again)


@given(
    st.lists(st.booleans(), min_size=1, max_size=12),
    st.integers(0, 12),
    st.integers(0, 11),
    st.sampled_from(["change", "break", "swap", "nothing"]),
    st.integers(0, 11),
)
def test_the_first_difference_by_brute_force(usable: list[bool], done: int, at: int, what: str, other: int) -> None:
    """Files are numbered; those that are not usable were skipped, and the journal knows the first `done`."""
    count = len(usable)
    done, at, other = min(done, count), at % count, other % count
    assume(what != "swap" or (usable[at] and usable[other]) or max(at, other) < done)
    was = [10 + place for place in range(count)]
    now = list(was)
    if what == "swap":
        now[at], now[other] = now[other], now[at]
    elif what in ("change", "break"):
        now[at] = 99
    exact = was[:done]
    others = [was[place] for place in range(done, count) if usable[place]]
    found = _first_difference(now, exact, others)
    last = max([done - 1, *(place for place in range(done, count) if usable[place])])  # beyond it nothing was packed
    changed = [place for place in range(last + 1) if now[place] != was[place] and (place < done or usable[place])]
    if not changed:
        assert found is None
    else:
        assert found is not None
        assert found <= changed[0]
        assert found == changed[0] or not usable[found]
