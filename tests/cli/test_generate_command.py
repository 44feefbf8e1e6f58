"""`diffcore generate` as it is typed, with tiny genuine models of diffusers and open_clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from diffcore_gpu import CounterpartStore
from diffcore_gpu.generation.model_loading import quiet_libraries
from diffcore_gpu.generation.presets import PRESETS
from diffcore_gpu.generation.run import GenerationRequest
from diffcore_gpu.generation.text_to_image import DiffusersTextToImage
from tests.cli.conftest import Outcome, Run
from tests.generation import tiny_models
from tests.images import write_noise


class Models(NamedTuple):
    """Folders of models."""

    pipeline: Path
    clip: Path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    with quiet_libraries():
        tiny_models.stable_diffusion(folder).save_pretrained(folder / "sd")
    return Models(folder / "sd", tiny_models.image_text_model(folder / "clip"))


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return write_noise(tmp_path / "real", [f"{name}/{number}.png" for name in ("8", "[b]3") for number in range(4)])


def arguments(real: Path, out: Path, models: Models, *more: object) -> tuple[object, ...]:
    return (
        *("generate", "--real", real, "--out", out, "--model", models.pipeline, "--filter-model", models.clip),
        *("--type", "digit", "--size", 16, "--steps", 2, "--batch-size", 3, "--device", "cpu", *more),
    )


def test_report_for_a_person(run: Run, real: Path, models: Models, tmp_path: Path) -> None:
    outcome = run(*arguments(real, tmp_path / "out", models, "--threshold", -1, "--fraction", 0.5))
    store = CounterpartStore.open(tmp_path / "out")
    store.verify()
    assert (store.num_rows, store.image_shape, store.coverage) == (4, (3, 16, 16), 0.5)
    assert {prompt.split(",")[0] for prompt in store.prompts} == {"an 8", "a [b]3"}
    assert store.metadata["text_to_image"]["gamma"] == 6.5
    assert store.metadata["text_to_image"]["w"] == 7.5
    assert "about half of all pairs of real images lie below a measured τ too" in outcome.out
    assert "[b]3" in outcome.out
    page = tmp_path / "out.report" / "index.html"
    assert f"Report: {page}" in outcome.out
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert "Generating: 4 of 4 counterparts" in outcome.err
    assert "100 % accepted" in outcome.err
    assert "Embedding: 8 of 8 real images" in outcome.err


def test_report_for_a_program(run: Run, real: Path, models: Models, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    more = ("--json", "--max-attempts", 2, "--report", page, "--gamma", 2, "--generate-size", 8, "--per-sample", 2)
    outcome = run(*arguments(real, tmp_path / "out", models, *more))
    report = json.loads(outcome.out)
    assert report["page"] == str(page)
    assert page.exists()
    assert report["generated"] == report["accepted"] + report["discarded"]
    assert report["model"]["size"] == [8, 8]
    store = CounterpartStore.open(tmp_path / "out")
    assert store.num_pairs == report["accepted"]
    for sample in range(8):
        assert (store.similarities(sample) > report["classes"][sample // 4]["threshold"]).all()


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Ctrl-C in a later batch."""
    generate, calls = DiffusersTextToImage.generate, []

    def interrupted(self: DiffusersTextToImage, *arguments: object) -> object:
        calls.append(arguments)
        if len(calls) > after:
            raise KeyboardInterrupt
        return generate(self, *arguments)

    monkeypatch.setattr(DiffusersTextToImage, "generate", interrupted)


def store_files(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in out.iterdir()}


def test_interrupted_and_resumed(
    run: Run, real: Path, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = ("--max-attempts", 3)
    run(*arguments(real, tmp_path / "undisturbed", models, *how))
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt(patch, 2)
        outcome = run(*arguments(real, out, models, *how), code=130)
    assert "Interrupted. Run the same command with --resume to go on." in outcome.err
    again = run(*arguments(real, out, models, *how), code=1)
    assert "holds an unfinished store; give --resume to go on with it or --overwrite" in again.err
    other = run(*arguments(real, out, models, *how, "--resume", "--gamma", 5), code=1)
    assert "was begun with other settings: guidance gamma was 6.5, now 5.0. Give the same ones" in other.err
    resumed = run(*arguments(real, out, models, *how, "--resume"))
    assert "Resuming after 6 images" in resumed.err
    assert store_files(out) == store_files(tmp_path / "undisturbed")
    finished = run(*arguments(real, out, models, *how), code=1)
    assert "holds a finished store; give --overwrite" in finished.err


def counterparts(out: Path) -> list[tuple[object, ...]]:
    """Every counterpart of a store with all that is known of it, whatever its row."""
    store = CounterpartStore.open(out)
    store.verify()
    found = []
    for sample in range(store.num_samples):
        for row, similarity in zip(store.rows(sample).tolist(), store.similarities(sample).tolist(), strict=True):
            seed, attempt, prompt = (int(store.row_column(name, [row])) for name in ("seed", "attempt", "prompt"))
            found.append((sample, seed, store.prompts[prompt], attempt, similarity, store.image(row).numpy().tobytes()))
    return sorted(found)


def test_half_becomes_the_whole(run: Run, real: Path, models: Models, tmp_path: Path) -> None:
    # one image at a time: what a model's rounding makes of an image depends on the size of its batch
    how = ("--max-attempts", 2, "--batch-size", 1)
    run(*arguments(real, tmp_path / "out", models, *how, "--fraction", 0.5))
    half = counterparts(tmp_path / "out")
    seed = run(*arguments(real, tmp_path / "out", models, *how, "--append", "--seed", 1), code=1)
    assert "was made with other settings: seed was 0, now 1." in seed.err
    outcome = run(*arguments(real, tmp_path / "out", models, *how, "--append", "--json"))
    run(*arguments(real, tmp_path / "once", models, *how))
    assert counterparts(tmp_path / "out") == counterparts(tmp_path / "once")
    assert set(half) < set(counterparts(tmp_path / "out"))
    report = json.loads(outcome.out)
    assert report["accepted"] == CounterpartStore.open(tmp_path / "out").num_rows
    assert report["settings"]["fraction"] == 1.0
    lacking = run(*arguments(real, tmp_path / "none", models, "--append"), code=1)
    assert "holds no finished store to add to" in lacking.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--model", "x/y"), "give one of --preset and --model"),
        (("--preset", "dalle", "--type", "bird"), "'dalle' is none; there are cosxl, sdxl, sdxl-turbo, sd15"),
        (("--preset", "cosxl"), "give one of --type and --prompts"),
        (("--preset", "cosxl", "--type", "bigfoot"), "'bigfoot' is none; there are bird, car"),
        (("--preset", "cosxl", "--type", "bird", "--size", "big"), "'big' is no size"),
        (("--preset", "cosxl", "--type", "bird", "--generate-size", "0"), "Invalid value for --generate-size"),
        (
            ("--preset", "cosxl", "--type", "bird", "--report", "no/such/page.html"),
            "no/such is no folder; make it",
        ),
        (("--preset", "cosxl", "--type", "bird", "--dtype", "int8"), "--dtype"),
        (("--model", "x/y", "--type", "bird"), "give the size of the store's images, such as 256"),
    ],
)
def test_bad_usage(run: Run, real: Path, tmp_path: Path, changes: tuple[str, ...], message: str) -> None:
    more = ("--preset", "cosxl", "--type", "bird") if changes == ("--model", "x/y") else ()
    outcome = run("generate", "--real", real, "--out", tmp_path / "out", *more, *changes, code=2)
    assert message in " ".join(outcome.err.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--model", "no/such/model"), "no/such/model is no model: there is no such file or folder"),
        (("--model", "weights.ckpt"), "weights.ckpt: model weights in pickle format can run code"),
        (("--gamma", "0"), "the negative prompt has no effect; give a gamma above 0, or --no-negative-prompt"),
        (("--fraction", "1.5"), "fraction is 1.5; it must be above 0 and at most 1"),
        (("--max-attempts", "0"), "max_attempts is 0; it must lie in [1, 32768]"),
        (("--steps", "0"), "steps is 0"),
        (("--threshold", "2"), "threshold is 2; a cosine similarity lies in [-1, 1]"),
        (("--threshold", "0", "--sampled-threshold", "9"), "leave out one of the two"),
        (("--device", "tpu9"), "'tpu9' is no device"),
        (("--prompts", "none.toml"), "none.toml cannot be read as a file of prompts (No such file or directory)"),
    ],
)
def test_refused_before_a_model_is_loaded(
    run: Run,
    real: Path,
    models: Models,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr("diffcore_gpu.generation.filter.load_embedder", _no_loading)
    monkeypatch.setattr("diffcore_gpu.generation.run.load_text_to_image", _no_loading)
    typed = [str(word) for word in arguments(real, tmp_path / "out", models)]
    if changes[0] == "--prompts":
        del typed[typed.index("--type") : typed.index("--type") + 2]
    outcome = run(*typed, *changes, code=1)
    assert_refused(outcome, tmp_path / "out", message)


def _no_loading(*arguments: object, **more: object) -> None:
    pytest.fail("a model was loaded")


def assert_refused(outcome: Outcome, out: Path, message: str) -> None:
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not out.exists()


def test_presets_and_what_overrides_them(run: Run, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[GenerationRequest] = []

    def ask(request: GenerationRequest, *arguments: object) -> None:
        asked.append(request)
        raise KeyboardInterrupt

    monkeypatch.setattr("diffcore_gpu.generation.run.run_request", ask)
    given = ("generate", "--real", real, "--out", tmp_path / "out", "--type", "bird", "--no-negative-prompt")
    for name, preset in PRESETS.items():
        run(*given, "--preset", name, code=130)
        model, settings = asked[-1].model, asked[-1].settings
        for field in ("model", "gamma", "steps", "height", "width", "variant", "config", "vae", "scheduler"):
            assert getattr(model, field) == getattr(preset, field)
        assert (settings.height, settings.width) == (preset.height, preset.width)
    changes = ("--gamma", 2, "--steps", 9, "--vae", "a/b", "--size", "64x32", "--dtype", "bfloat16")
    run(*given, "--preset", "cosxl", *changes, code=130)
    model, settings = asked[-1].model, asked[-1].settings
    assert (model.gamma, model.w, model.steps, model.vae, model.dtype) == (2, 3, 9, "a/b", "bfloat16")
    assert (model.height, settings.height, settings.width) == (512, 64, 32)
    assert model.scheduler == PRESETS["cosxl"].scheduler


def test_turbo_knows_no_negative_prompt(run: Run, real: Path, tmp_path: Path) -> None:
    outcome = run(
        "generate", "--real", real, "--out", tmp_path / "out", "--preset", "sdxl-turbo", "--type", "bird", code=1
    )
    assert_refused(outcome, tmp_path / "out", "or --no-negative-prompt to generate without one")


def test_class_without_images(run: Run, real: Path, models: Models, tmp_path: Path) -> None:
    (real / "9").mkdir()
    outcome = run(*arguments(real, tmp_path / "out", models), code=1)
    assert_refused(outcome, tmp_path / "out", "The class '9' of")


def test_one_image_in_every_class(run: Run, real: Path, models: Models, tmp_path: Path) -> None:
    for file in real.glob("*/[123].png"):
        file.unlink()
    outcome = run(*arguments(real, tmp_path / "out", models), code=1)
    assert "has a single image, so there is no pair to take a threshold from; give --threshold" in outcome.err
    run(*arguments(real, tmp_path / "out", models, "--threshold", -1))


def test_the_model_is_loaded_before_the_store_is_begun(run: Run, real: Path, models: Models, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    outcome = run(*arguments(real, tmp_path / "out", models._replace(pipeline=broken)), code=1)
    assert "broken cannot be loaded as a text-to-image model" in outcome.err
    assert not (tmp_path / "out").exists()


def test_negative_prompt_off(run: Run, real: Path, models: Models, tmp_path: Path) -> None:
    more = ("--no-negative-prompt", "--gamma", 0, "--threshold", -1)
    run(*arguments(real, tmp_path / "out", models, *more))
    assert CounterpartStore.open(tmp_path / "out").metadata["text_to_image"]["negative_prompt"] is False


def test_help(run: Run) -> None:
    outcome = run("generate", "--help")
    for option in ("--preset", "--model", "--gamma", "--fraction", "--filter-model", "--resume", "--json"):
        assert option in outcome.out
