"""Every recipe of the package really trains: its own models, two steps each, at a tiny size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from diffcore_gpu.benchmarks.harness.result_file import read_result
from diffcore_gpu.benchmarks.suites import run_suite
from diffcore_gpu.benchmarks.training.recipe import built_in, load_recipe
from diffcore_gpu.cli import main
from tests.benchmarks.training.folders import SIZE, arguments, write_dataset, write_store


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and their store."""
    folder = tmp_path_factory.mktemp("recipes")
    write_store(write_dataset(folder / "data"), folder / "store")
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder whose weights are removed at once: those of the larger models take half a gigabyte."""
    yield tmp_path
    for path in tmp_path.rglob("*.pt"):
        path.unlink()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--lr", "-1"], "'--lr': it must be a number above 0, not -1.0."),
        (["--epochs", "ten"], "'--epochs': 'ten' is not a whole number"),
        (["--seeds", "0", "-1"], "'--seeds': it must be a whole number from 0, not -1."),
        (["--splits", "../x"], "'--splits': it must be a name of letters"),
        (["--allow-missing", "2"], "'--allow-missing': '2' is not a number from 0 to 1"),
    ],
)
def test_a_wrong_command_line_is_refused(
    more: list[str], message: str, trees: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_suite("train", arguments(trees, "table7", *more))
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_list_of_recipes_needs_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "train", "--list"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()] == list(built_in())
    assert "(cub, cars, caltech)" in shown


VARIANTS = [(name, variant) for name in built_in() for variant in load_recipe(name).variants]
FIRST = [(name, next(iter(load_recipe(name).variants))) for name in built_in()]
TWO_STEPS = (
    *("--epochs", 1, "--steps", 2, "--batch", 4, "--seeds", 0, "--images-per-class", 4),
    *("--no-pretrained", "--splits", "test"),
)


@pytest.mark.parametrize(("name", "variant"), FIRST)
def test_every_recipe_runs(name: str, variant: str, trees: Path, scratch: Path) -> None:
    chosen = [load_recipe(name).arms[-1].name]
    more = (*TWO_STEPS, "--size", SIZE, "--variant", variant, "--arms", *chosen, "--json", scratch / "r.json")
    run_suite("train", arguments(trees, name, *more))
    result = read_result(scratch / "r.json", "train")
    assert [found["arm"] for found in result["results"]] == chosen
    assert all(found["steps"] == 2 and set(found["splits"]) == {"test"} for found in result["results"])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_every_arm_of_every_variant_runs(name: str, variant: str, trees: Path, scratch: Path) -> None:
    pytest.importorskip("gco", reason="gco-wrapper is not installed")
    size = 64 if name == "table5" else SIZE  # SnapMix needs more than one feature of the last stage
    more: list[object] = [*TWO_STEPS, "--size", size, "--variant", variant, "--json", scratch / "r.json"]
    if size != SIZE:
        more += ["--store", write_store(trees / "data", scratch / "store", size)]
    run_suite("train", arguments(trees, name, *more))
    result = read_result(scratch / "r.json", "train")
    assert [found["arm"] for found in result["results"]] == [arm.name for arm in load_recipe(name).arms]
    assert [found.get("failed") for found in result["results"]] == [None] * len(result["results"])
