"""What the commands print."""

from __future__ import annotations

import sys

import pytest

from diffcore_gpu.cli.console import say


class Writes(list[str]):
    """A stream that remembers each write; a signal may come between any two."""

    write = list.append


def test_a_remark_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    writes = Writes()
    monkeypatch.setattr(sys, "stderr", writes)
    say("Packing: 1 of 3 images")
    say("a\x1b[2Jb\n")
    assert writes == ["Packing: 1 of 3 images\n", "a\\x1b[2Jb\\n\n"]
