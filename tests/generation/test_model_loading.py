"""Models from folders and files, and what is refused before or while they are loaded."""

from __future__ import annotations

import json
import re
import shutil

import huggingface_hub
import pytest
import torch

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation.model_loading import check_model, load_text_to_image, quiet_libraries
from diffcore_gpu.generation.presets import PRESETS
from diffcore_gpu.generation.settings import ModelOptions, SchedulerOptions
from tests.generation import tiny_models
from tests.generation.single_file import save_single_file, single_file_utils


@pytest.fixture(autouse=True)
def quiet():
    with quiet_libraries():
        yield


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    with quiet_libraries():
        tiny_models.stable_diffusion(folder).save_pretrained(folder / "sd")
    return folder / "sd"


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "sd")


def options(model, **changes):
    return ModelOptions(**{"model": str(model), "gamma": 3.0, "steps": 2, "device": "cpu", **changes})


def make(model):
    return model.generate(["a bird"], ["text"], [3])


def test_a_folder(saved, capfd):
    model = load_text_to_image(options(saved))
    images = make(model)
    assert images.shape == (1, 3, 16, 16)
    assert torch.equal(images, make(load_text_to_image(options(saved, dtype="float32"))))
    assert capfd.readouterr().err == "", "neither bars nor warnings"


@pytest.mark.parametrize("named", [True, False])
def test_a_single_file(saved, tmp_path, monkeypatch, capfd, named):
    """The pipeline's class comes from its configuration; where none is named, from what diffusers recognizes."""
    pipeline = load_text_to_image(options(saved)).pipeline
    file = save_single_file(pipeline, tmp_path / "checkpoint.safetensors")
    default = {"pretrained_model_name_or_path": str(saved)}  # on the hub, where a test cannot go
    monkeypatch.setitem(single_file_utils.DIFFUSERS_DEFAULT_PIPELINE_PATHS, "v1", default)
    model = load_text_to_image(options(file, config=str(saved) if named else None, height=16, width=16))
    assert torch.equal(make(model), make(load_text_to_image(options(saved))))
    assert model.describe()["model"] == "checkpoint.safetensors"
    assert capfd.readouterr().err == ""


def test_options(saved):
    scheduler = SchedulerOptions("EulerDiscreteScheduler", {"timestep_spacing": "trailing"})
    how = {"vae_slicing": True, "vae_tiling": True, "attention_slicing": True, "dtype": "bfloat16"}
    model = load_text_to_image(options(saved, scheduler=scheduler, height=8, width=8, **how))
    described = model.describe()
    assert (described["scheduler"], described["dtype"]) == ("EulerDiscreteScheduler", "bfloat16")
    assert described["scheduler_config"]["timestep_spacing"] == "trailing"
    assert model.pipeline.vae.use_slicing
    assert model.pipeline.vae.use_tiling
    assert make(model).shape == (1, 3, 8, 8)


def test_another_vae(saved, tmp_path):
    torch.manual_seed(5)
    tiny_models.vae().save_pretrained(tmp_path / "other")
    assert not torch.equal(
        make(load_text_to_image(options(saved))), make(load_text_to_image(options(saved, vae=str(tmp_path / "other"))))
    )
    described = load_text_to_image(options(saved, vae=str(saved / "vae"))).describe()
    assert described["vae"] == "vae"
    assert torch.equal(
        make(load_text_to_image(options(saved))), make(load_text_to_image(options(saved, vae=str(saved))))
    )


def test_the_description_knows_other_weights(saved, copy):
    assert load_text_to_image(options(copy)).describe() == load_text_to_image(options(saved)).describe()
    tiny_models.unet().save_pretrained(copy / "unet")
    one, other = (load_text_to_image(options(folder)).describe() for folder in (copy, saved))
    assert one.pop("files_sha256") != other.pop("files_sha256")
    assert one == other


def test_compile(saved, monkeypatch):
    """The denoiser is what is compiled, and the clock still sees it."""
    compiled = []

    def compiling(function):
        compiled.append(function.__self__)
        return function

    monkeypatch.setattr(torch, "compile", compiling)
    model = load_text_to_image(options(saved, compile=True))
    make(model)
    assert compiled == [model.pipeline.unet]
    assert model.seconds["denoiser"] > 0


@pytest.mark.parametrize("name", ["model.ckpt", "model.bin", "model.pt", "MODEL.PTH"])
@pytest.mark.parametrize("what", ["model", "vae"])
def test_pickle_is_refused_by_name(saved, tmp_path, name, what):
    (tmp_path / name).touch()
    asked = options(tmp_path / name) if what == "model" else options(saved, vae=str(tmp_path / name))
    with pytest.raises(GenerationError, match=rf"{name}: .* pickle format can run code .*\.safetensors file"):
        check_model(asked)


def test_pickle_in_a_folder(copy):
    unet = copy / "unet"
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, unet / "diffusion_pytorch_model.bin")
    with pytest.raises(
        GenerationError, match=r"unet/diffusion_pytorch_model.bin: weights in pickle .*safe_serialization"
    ):
        check_model(options(copy))


def test_pickle_beside_safetensors_is_not_read(copy):
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"no pickle")
    assert make(load_text_to_image(options(copy))).shape == (1, 3, 16, 16)


def test_code_in_a_folder_is_not_run(copy):
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "evil.py").write_text(f"open({str(copy / 'ran')!r}, 'w')")
    for changes, message in (
        ({"_class_name": ["evil", "Evil"]}, "brings a pipeline in code of its own, which is never run"),
        ({"unet": ["evil", "Evil"]}, "sd cannot be loaded as a text-to-image model"),
    ):
        (copy / "model_index.json").write_text(json.dumps({**index, **changes}))
        with pytest.raises(GenerationError, match=message):
            load_text_to_image(options(copy))
    assert not (copy / "ran").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such/folder", "is no model: there is no such file or folder, and it is no hub id such as owner/name"),
        ("nothing", "is no model: there is no such file"),
        ("./owner/name.safetensors", "is no model: there is no such file"),
        ("", "is no model"),
    ],
)
def test_no_model(source, message):
    with pytest.raises(GenerationError, match=message):
        check_model(options(source))


def test_a_folder_that_is_no_model(tmp_path, copy):
    with pytest.raises(GenerationError, match=r"is no model: it has no model_index.json"):
        check_model(options(tmp_path))
    (tmp_path / "model.txt").touch()
    with pytest.raises(GenerationError, match=r"model.txt is no model: give a .safetensors file"):
        check_model(options(tmp_path / "model.txt"))
    (copy / "model_index.json").write_text("{")
    with pytest.raises(GenerationError, match=r"model_index.json cannot be read"):
        check_model(options(copy))


def test_a_pipeline_that_makes_no_images_from_text(copy):
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps({**index, "_class_name": "DDPMPipeline"}))
    with pytest.raises(GenerationError, match=r"sd cannot be loaded as a text-to-image model: .*DDPMPipeline"):
        load_text_to_image(options(copy))


def test_the_hub_cannot_be_reached(saved, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    reason = "the hub cannot be reached, and it was not downloaded before; give a local folder or file\\.$"
    for source in ("no-owner/no-model", "no-owner/no-model/file.safetensors"):
        with pytest.raises(GenerationError, match=f"{source} cannot be loaded as a text-to-image model: {reason}"):
            load_text_to_image(options(source))
    with pytest.raises(GenerationError, match=f"no-owner/no-vae cannot be loaded as a VAE: {reason}"):
        load_text_to_image(options(saved, vae="no-owner/no-vae"))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GatedRepoError", "accept its licence on its page on the hub"),
        ("RepositoryNotFoundError", "the hub has no such model, or it is private"),
        ("RevisionNotFoundError", "the hub has no such revision of it"),
    ],
)
def test_the_hub_refuses(monkeypatch, kind, message):
    kind = getattr(huggingface_hub.errors, kind)

    def refuse(*arguments, **more):
        try:
            raise kind.__new__(kind)
        except kind as cause:
            raise OSError("does not appear to have a file named model_index.json") from cause

    monkeypatch.setattr("diffusers.AutoPipelineForText2Image.from_pretrained", refuse)
    with pytest.raises(
        GenerationError, match=f"owner/name cannot be loaded as a text-to-image model: {message}"
    ) as caught:
        load_text_to_image(options("owner/name"))
    assert re.search(r"[^.]\.$", str(caught.value))


def test_damaged_weights(copy):
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(GenerationError, match="sd cannot be loaded as a text-to-image model: ") as caught:
        load_text_to_image(options(copy))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_checkpoint(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(GenerationError, match=r"model.safetensors cannot be loaded as a text-to-image model"):
        load_text_to_image(options(tmp_path / "model.safetensors"))


@pytest.mark.parametrize(("device", "message"), [("cudo", "'cudo' is no device"), ("cuda:99", "There is no device")])
def test_no_device(saved, device, message):
    with pytest.raises(GenerationError, match=message):
        check_model(options(saved, device=device))


def test_offloading_without_a_gpu(saved):
    with pytest.raises(GenerationError, match="there is no GPU in use"):
        check_model(options(saved, cpu_offload=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma": 0.0}, "--no-negative-prompt"),
        ({"gamma": -0.5}, "it must be 0 or more"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"dtype": "int8"}, "dtype is 'int8'; it must be one of auto, float32"),
    ],
)
def test_bad_options(changes, message):
    with pytest.raises(GenerationError, match=message):
        options("owner/name", **changes)


def test_a_missing_package(saved, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(GenerationError, match=r"needs the package diffusers: pip install \"diffcore-gpu\[generate\]\""):
        load_text_to_image(options(saved))


def test_presets():
    assert set(PRESETS) == {"cosxl", "sdxl", "sdxl-turbo", "sd15"}
    for preset in PRESETS.values():
        assert f"γ = {preset.gamma:g} (w = {1 + preset.gamma:g})" in preset.description
        assert f"{preset.steps} steps, {preset.height} x {preset.width}" in preset.description


def test_cosxl_as_its_authors_ran_it():
    import diffusers

    preset = PRESETS["cosxl"]
    scheduler = getattr(diffusers, preset.scheduler.name)(**preset.scheduler.arguments)
    scheduler.set_timesteps(preset.steps)
    sigmas = scheduler.sigmas.double()
    assert (len(sigmas), float(sigmas[-1])) == (51, 0.0)
    expected = torch.logspace(0, 1, 50, base=0.002 / 120, dtype=torch.float64) * 120  # exponential, from 120 to 0.002
    torch.testing.assert_close(sigmas[:-1], expected, rtol=1e-4, atol=1e-6)
    assert (preset.gamma + 1, preset.height, preset.width) == (12.0, 512, 512)
    assert scheduler.config.prediction_type == "v_prediction"
