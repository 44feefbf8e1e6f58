"""`diffcore verify`: an intact store, a damaged one, and one made for other images."""

from __future__ import annotations

import json
from pathlib import Path

from diffcore_gpu import CounterpartWriter
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


def change(packed: Folders) -> None:
    """Another image under the same name."""
    path = packed.real / "a" / "0.png"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_other_content(run: Run, packed: Folders) -> None:
    outcome = run("verify", packed.store, "--real", packed.real)
    assert "\n4 of the files were compared and hold what they held then.\n" in outcome.out
    assert "Comparing: 4 of 4 real images" in outcome.err
    change(packed)
    for content in ((), ("--content", "full"), ("--content", "sample")):
        outcome = run("verify", packed.store, "--real", packed.real, *content, code=1)
        assert "a/0.png: is not the file that" in outcome.err.splitlines()[-1]
    outcome = run("verify", packed.store, "--real", packed.real, "--content", "none")
    assert "\n0 of the files were compared" in outcome.out


def test_files_that_nothing_is_known_of(run: Run, packed: Folders, tmp_path: Path) -> None:
    with CounterpartWriter(
        tmp_path / "other",
        num_samples=4,
        image_shape=(3, 4, 4),
        class_names=["a", "b", "c"],
        labels=[0, 0, 1, 2],
        file_names=["a/0.png", "a/1.png", "b/0.png", "c/0.png"],
    ):
        pass
    outcome = run("verify", tmp_path / "other", "--real", packed.real)
    assert "0 of the files were compared and hold what they held then; it does not know what 4 held." in outcome.out
    result = json.loads(run("verify", tmp_path / "other", "--real", packed.real, "--json").out)
    assert (result["compared_files"], result["unknown_files"]) == (0, 4)
