"""Genuine pipelines of diffusers behind `TextToImage`: eq. 4, seeds, memory, what is refused, and timing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import diffcore_gpu
from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation import text_to_image
from diffcore_gpu.generation.model_loading import load_text_to_image, quiet_libraries
from diffcore_gpu.generation.presets import PRESETS
from diffcore_gpu.generation.settings import ModelOptions
from diffcore_gpu.generation.text_to_image import (
    DiffusersTextToImage,
    StageTimer,
    check_negative_prompt,
    guidance_scale,
)
from tests.generation import tiny_models

PROMPTS = ["a bird in snow", "a red car", "two words"]
NEGATIVE = ["blurred", "people", ""]
SEEDS = [7, (1 << 63) - 1, 0]


DEMO_MODEL = Path(diffcore_gpu.__file__).parent / "demo" / "models" / "digits-sd"


@pytest.fixture(scope="module", params=["stable diffusion", "stable diffusion xl", "xl as cosxl", "digits of the demo"])
def pipeline(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    if request.param == "digits of the demo":
        return load_text_to_image(ModelOptions(str(DEMO_MODEL), gamma=3.0, steps=1, device="cpu")).pipeline
    with quiet_libraries():
        if request.param == "stable diffusion":
            return tiny_models.stable_diffusion(folder)
        made = tiny_models.stable_diffusion_xl(folder)
        if request.param == "xl as cosxl":
            import diffusers

            scheduler = PRESETS["cosxl"].scheduler
            made.scheduler = getattr(diffusers, scheduler.name)(**scheduler.arguments)
        return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with quiet_libraries():
        return tiny_models.stable_diffusion(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def quiet():
    with quiet_libraries():
        yield


@pytest.mark.parametrize("gamma", [0.5, 3.0, 11.0])
def test_equation_4(pipeline, monkeypatch, gamma):
    """What reaches the scheduler is (1 + γ) · eps(x, P_c) − γ · eps(x, P_n), from the UNet's own outputs."""
    model = DiffusersTextToImage(pipeline, gamma=gamma, steps=4)
    seen, stepped = [], []

    def look(module, arguments, keywords, output):
        seen.append((keywords["encoder_hidden_states"], output[0]))

    step = pipeline.scheduler.step

    def stepping(prediction, *arguments, **keywords):
        stepped.append(prediction)
        return step(prediction, *arguments, **keywords)

    monkeypatch.setattr(pipeline.scheduler, "step", stepping)
    hook = pipeline.unet.register_forward_hook(look, with_kwargs=True)
    model.generate(PROMPTS, NEGATIVE, SEEDS)
    hook.remove()

    words = {"prompt": PROMPTS, "device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": True}
    contextual, negative = pipeline.encode_prompt(**words, negative_prompt=NEGATIVE)[:2]
    assert len(seen) == len(stepped) == 4
    for (texts, predicted), received in zip(seen, stepped, strict=True):
        # the first half of the UNet's batch is the negative prompts, the second the contextual ones
        torch.testing.assert_close(texts, torch.cat([negative, contextual]))
        eps_n, eps_c = predicted.double().chunk(2)
        expected = (1 + gamma) * eps_c - gamma * eps_n
        torch.testing.assert_close(received.double(), expected, rtol=2e-5, atol=2e-5)
        assert (eps_c - eps_n).abs().max() > 1e-3  # else the test could not tell another weight


def test_an_image_depends_on_its_own_seed_and_prompts(pipeline):
    model = DiffusersTextToImage(pipeline, gamma=3.0, steps=3)
    together = model.generate(PROMPTS, NEGATIVE, SEEDS)
    assert together.shape[:2] == (3, 3)
    assert together.dtype == torch.uint8
    for k in range(3):
        alone = model.generate(PROMPTS[k : k + 1], NEGATIVE[k : k + 1], SEEDS[k : k + 1])[0]
        assert (alone.int() - together[k].int()).abs().max() <= 1  # the model rounds differently by batch
    other_seed = model.generate(PROMPTS[:1], NEGATIVE[:1], [8])[0]
    other_negative = model.generate(PROMPTS[:1], ["text"], SEEDS[:1])[0]
    assert (other_seed.int() - together[0].int()).abs().max() > 5
    assert not torch.equal(other_negative, together[0])


def test_a_sampler_that_adds_noise_takes_it_from_the_seed(tmp_path):
    from diffusers import EulerAncestralDiscreteScheduler

    made = tiny_models.stable_diffusion(tmp_path, EulerAncestralDiscreteScheduler(steps_offset=1))
    model = DiffusersTextToImage(made, gamma=3.0, steps=3)
    together = model.generate(PROMPTS, NEGATIVE, SEEDS)
    alone = model.generate(PROMPTS[1:2], NEGATIVE[1:2], SEEDS[1:2])[0]
    assert (alone.int() - together[1].int()).abs().max() <= 1


def test_stages_are_timed(pipeline):
    model = DiffusersTextToImage(pipeline, gamma=3.0, steps=3)
    assert model.seconds == {}
    model.generate(PROMPTS, NEGATIVE, SEEDS)
    first = dict(model.seconds)
    assert set(first) == {"denoiser", "vae"}
    assert all(spent > 0 for spent in first.values())
    model.generate(PROMPTS, NEGATIVE, SEEDS)
    assert all(model.seconds[stage] > first[stage] for stage in first)


def test_describe(plain):
    model = DiffusersTextToImage(plain, gamma=3.0, steps=5, height=8, width=24, identity={"model": "tiny"})
    described = model.describe()
    assert (described["model"], described["gamma"], described["w"], described["steps"]) == ("tiny", 3.0, 4.0, 5)
    assert (described["scheduler"], described["size"], described["dtype"]) == ("DDIMScheduler", [8, 24], "float32")
    assert described["scheduler_config"]["steps_offset"] == 1
    assert model.generate(["a"], [""], [0]).shape == (1, 3, 8, 24)


class Small:
    """A pipeline that has memory for some images."""

    def __init__(self, pipeline, fits):
        self._pipeline, self._fits, self.sizes = pipeline, fits, []

    def __getattr__(self, name):
        return getattr(self._pipeline, name)

    def __call__(self, prompt, negative_prompt=None, guidance_scale=0, **more):
        self.sizes.append(len(prompt))
        if len(prompt) > self._fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._pipeline(prompt=prompt, negative_prompt=negative_prompt, guidance_scale=guidance_scale, **more)


def test_memory_runs_out(plain):
    expected = DiffusersTextToImage(plain, gamma=3.0, steps=2).generate(["a"] * 11, [""] * 11, range(11))
    small, said = Small(plain, 3), []
    model = DiffusersTextToImage(small, gamma=3.0, steps=2, say=said.append)
    images = model.generate(["a"] * 11, [""] * 11, range(11))
    assert (images.int() - expected.int()).abs().max() <= 1
    assert small.sizes == [11, 5, 2, 2, 2, 2, 2, 1]
    assert said == [
        "The GPU's memory is too small for 11 images at once; going on with 5.",
        "The GPU's memory is too small for 5 images at once; going on with 2.",
    ]
    small.sizes.clear()
    model.generate(["a"] * 3, [""] * 3, range(3))
    assert small.sizes == [2, 1], "the size that fits is remembered"


def test_not_even_one_image_fits(plain):
    model = DiffusersTextToImage(Small(plain, 0), gamma=3.0, steps=2)
    with pytest.raises(GenerationError, match=r"A single image of 16 x 16 pixels does not fit .* --cpu-offload"):
        model.generate(["a"] * 4, [""] * 4, range(4))


def test_numbers_that_overflow(plain, monkeypatch):
    model = DiffusersTextToImage(plain, gamma=3.0, steps=2)
    monkeypatch.setattr(plain.vae, "decode", lambda latents, **more: (torch.full((1, 3, 16, 16), float("nan")),))
    with pytest.raises(GenerationError, match=r"overflowed .* --dtype bfloat16"):
        model.generate(["a"], [""], [0])


def test_no_guidance(plain):
    with pytest.raises(
        GenerationError, match=r"gamma = 0 \(w = 1\) the negative prompt has no effect; .*--no-negative"
    ):
        DiffusersTextToImage(plain, gamma=0.0, steps=2)
    model = DiffusersTextToImage(plain, gamma=0.0, steps=2, negative=False)
    assert model.describe()["negative_prompt"] is False
    assert torch.equal(model.generate(["a"], ["x"], [0]), model.generate(["a"], ["y"], [0]))


@pytest.mark.parametrize("gamma", [-1.0, float("nan"), float("inf")])
def test_guidance_that_is_none(plain, gamma):
    with pytest.raises(GenerationError, match="it must be 0 or more"):
        DiffusersTextToImage(plain, gamma=gamma, steps=2)


def test_a_denoiser_with_guidance_as_an_input(tmp_path):
    made = tiny_models.stable_diffusion(tmp_path, time_cond_proj_dim=8)
    with pytest.raises(GenerationError, match="denoiser of this StableDiffusionPipeline has the guidance scale as an"):
        DiffusersTextToImage(made, gamma=3.0, steps=2)
    DiffusersTextToImage(made, gamma=3.0, steps=2, negative=False).generate(["a"], [""], [0])


def pipeline_like(name, call, *, config=None, **parts):
    """An instance of a made-up pipeline class with that name, signature of the call and configuration."""
    made = type(name, (), {"__call__": call})()
    made.config = SimpleNamespace(**(config or {}))
    for part, value in parts.items():
        setattr(made, part, value)
    return made


def usual(self, prompt, negative_prompt=None, guidance_scale=5.0):
    pass


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (pipeline_like("OnePipeline", lambda self, prompt, guidance_scale=5.0: None), "takes no negative prompt"),
        (pipeline_like("OnePipeline", lambda self, prompt, negative_prompt=None: None), "does not weigh"),
        (
            pipeline_like("OnePipeline", lambda self, prompt, negative_prompt, guidance_scale, true_cfg_scale: None),
            "guidance_scale of OnePipeline does not weigh the negative prompt",
        ),
        (pipeline_like("OnePipeline", usual, config={"is_distilled": True}), "OnePipeline is distilled"),
        (
            pipeline_like(
                "OnePipeline", usual, transformer=SimpleNamespace(config=SimpleNamespace(guidance_embeds=True))
            ),
            "has the guidance scale as an input",
        ),
    ],
)
def test_pipelines_without_use_for_a_negative_prompt(made, message):
    with pytest.raises(GenerationError, match=f"{message}.*--no-negative-prompt"):
        check_negative_prompt(made, 3.0)


@pytest.mark.parametrize("name", ["FluxPipeline", "QwenImagePipeline", "LatentConsistencyModelPipeline"])
def test_pipelines_of_diffusers_without_use_for_a_negative_prompt(name):
    import diffusers

    made = object.__new__(getattr(diffusers, name))
    with pytest.raises(GenerationError, match=name):
        check_negative_prompt(made, 3.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("StableDiffusionPipeline", 4.0), ("ZImagePipeline", 3.0), ("Krea2Pipeline", 3.0), ("ChromaPipeline", 4.0)],
)
def test_what_a_pipeline_calls_guidance_scale(name, expected):
    assert guidance_scale(pipeline_like(name, usual), 3.0) == expected


def test_size_that_is_none(plain):
    with pytest.raises(GenerationError, match="sides that are multiples of 2 pixels; 17 is none"):
        DiffusersTextToImage(plain, gamma=3.0, steps=2, height=17, width=16)


def test_a_prompt_that_is_too_long(plain, capfd):
    said = []
    model = DiffusersTextToImage(plain, gamma=3.0, steps=1, say=said.append)
    model.generate(["a bird"], ["text"], [0])
    assert said == []
    for _ in range(2):
        model.generate(["a bird", "a" * 40], ["text", ""], [0, 1])
    # the tokenizer of the tiny pipeline has a token for each letter, and one at each end of the text
    assert said == [f"The model reads 32 tokens; of {'a' * 40!r}, 10 more are left out."]
    assert capfd.readouterr().err == ""


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [0.0]
    monkeypatch.setattr(text_to_image.time, "perf_counter", lambda: now[0])
    return now


class Working(torch.nn.Module):
    """Takes as many seconds as it is told, or fails."""

    def __init__(self, clock):
        super().__init__()
        self._clock = clock

    def forward(self, seconds):
        self._clock[0] += abs(seconds)
        if seconds < 0:
            raise torch.OutOfMemoryError("out of memory")
        return seconds

    decode = forward


def test_modules_and_methods(clock):
    timer, module, other = StageTimer(torch.device("cpu")), Working(clock), Working(clock)
    timer.watch_module("denoiser", module)
    timer.watch_method("vae", other, "decode")
    assert module(2.0) == 2.0
    assert other.decode(3.0) == 3.0
    clock[0] += 100
    module(0.5)
    assert timer.seconds == {}
    timer.settle()
    assert timer.seconds == {"denoiser": 2.5, "vae": 3.0}
    module(1.0)
    timer.settle()
    assert timer.seconds == {"denoiser": 3.5, "vae": 3.0}


def test_a_call_that_failed_does_not_count(clock):
    timer, module = StageTimer(torch.device("cpu")), Working(clock)
    timer.watch_module("denoiser", module)
    with pytest.raises(torch.OutOfMemoryError):
        module(-5.0)
    module(1.0)
    timer.settle()
    assert timer.seconds == {"denoiser": 1.0}
