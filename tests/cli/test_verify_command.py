"""`diffcore verify`: an intact store, a damaged one, and one made for other images."""

from __future__ import annotations

import json

from tests.cli.conftest import Folders, Run


def test_intact(run: Run, packed: Folders) -> None:
    outcome = run("verify", packed.store, "--real", packed.real)
    assert "intact; 3 rows, 5 pairs" in outcome.out
    assert "4 samples, the same labels and file names" in outcome.out


def test_for_a_program(run: Run, packed: Folders) -> None:
    result = json.loads(run("verify", packed.store, "--json").out)
    assert (result["intact"], result["rows"], result["pairs"], result["made_for"]) == (True, 3, 5, None)
    assert result["bytes"] == sum(path.stat().st_size for path in packed.store.glob("*.safetensors"))


def test_flipped_bit(run: Run, packed: Folders) -> None:
    (shard,) = packed.store.glob("counterparts-*")
    data = bytearray(shard.read_bytes())
    data[-2000] ^= 1
    shard.write_bytes(data)
    outcome = run("verify", packed.store, code=1)
    assert outcome.out == ""
    assert shard.name in outcome.err.splitlines()[-1]


def test_other_images(run: Run, packed: Folders) -> None:
    (packed.real / "c" / "0.png").rename(packed.real / "b" / "1.png")
    outcome = run("verify", packed.store, "--real", packed.real, code=1)
    assert "other labels" in outcome.err
