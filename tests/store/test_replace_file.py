"""A file is replaced whole or stays as it was, and nothing is left beside it, whatever fails on the way."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import durable
from diffcore_gpu.store.durable import replace_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("call", ["pwrite", "fsync", "replace"])
@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_file_alone(
    call: str, kind: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.html"
    replace_file(path, b"old")

    def fail(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if kind is OSError else kind()

    monkeypatch.setattr(durable.os, call, fail)  # type: ignore[attr-defined]
    if call == "replace":
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StoreError if kind is OSError else kind, match="No space left" if kind is OSError else None):
        replace_file(path, b"new")
    monkeypatch.undo()
    assert names(tmp_path) == ["r.html"]
    assert path.read_bytes() == b"old"
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_what_a_killed_process_or_anyone_left_beside_it_is_not_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "r.html", tmp_path / "other"
    other.write_bytes(b"mine")
    beside = tmp_path / "r.html.tmp"
    beside.symlink_to(other)
    replace_file(path, b"new")
    os.mkfifo(beside)
    replace_file(path, b"newer")
    beside.write_bytes(b"half of")
    replace_file(path, b"newest")
    assert (path.read_bytes(), other.read_bytes()) == (b"newest", b"mine")
    assert names(tmp_path) == ["other", "r.html"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"r\.html: cannot be written: No such file"):
        replace_file(tmp_path / "none" / "r.html", b"new")
