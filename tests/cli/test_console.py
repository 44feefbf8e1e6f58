"""What the commands print."""

from __future__ import annotations

import sys

import pytest

from diffcore_gpu.cli.console import MAX_COLUMN, print_table, say


class Writes(list[str]):
    """A stream that remembers each write; a signal may come between any two."""

    write = list.append


def test_a_remark_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    writes = Writes()
    monkeypatch.setattr(sys, "stderr", writes)
    say("Packing: 1 of 3 images")
    say("a\x1b[2Jb\n")
    assert writes == ["Packing: 1 of 3 images\n", "a\\x1b[2Jb\\n\n"]


ROWS = [("class", "samples", "prompt"), ("a" * 255, "3", "b" * 255), ("crow", "12", "a crow")]


def test_a_long_cell_is_cut_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(ROWS)
    heading, long, short = capsys.readouterr().out.splitlines()
    assert long == "  " + "a" * (MAX_COLUMN - 1) + "…" + "        3  " + "b" * 255
    assert short == "  " + "crow".ljust(MAX_COLUMN) + "       12  a crow"
    assert heading == "  " + "class".ljust(MAX_COLUMN) + "  samples  prompt"


def test_elsewhere_it_is_whole_and_pads_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(ROWS)
    _, long, short = capsys.readouterr().out.splitlines()
    assert long == "  " + "a" * 255 + "        3  " + "b" * 255
    assert short == "  " + "crow".ljust(MAX_COLUMN) + "       12  a crow"
