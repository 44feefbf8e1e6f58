"""`diffcore generate`: a store of counterparts that a text-to-image model makes for real images."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffcore_gpu.cli.console import print_json, print_table, printable, resumable, say
from diffcore_gpu.cli.generation_progress import generation_progress
from diffcore_gpu.cli.options import AsJson, Codec, Device, Out, Overwrite, Real, option, parse_codec, parse_size
from diffcore_gpu.generation.presets import PRESETS
from diffcore_gpu.generation.prompt_texts import TEXTS
from diffcore_gpu.generation.prompts import load_prompt_set
from diffcore_gpu.generation.settings import DEFAULT_FILTER, FilterOptions, GenerationSettings, ModelOptions

if TYPE_CHECKING:
    from diffcore_gpu.generation.report.records import GenerationReport

_GAMMA, _STEPS = 6.5, 50  # where no preset says otherwise; what Stable Diffusion is commonly run with


class Dtype(StrEnum):
    """Precision of the text-to-image model."""

    AUTO = "auto"
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


def generate(
    real: Real,
    out: Out,
    preset: Annotated[
        str | None,
        option(
            "A model with its settings, which other options override. "
            + " ".join(f"{name}: {preset.description}." for name, preset in PRESETS.items())
        ),
    ] = None,
    model: Annotated[
        str | None,
        option("Instead of a preset: a folder that diffusers saved, a hub id, or a .safetensors checkpoint."),
    ] = None,
    type_: Annotated[
        str | None, option(f"Built-in prompts for a type of dataset: {', '.join(TEXTS)}.", "--type")
    ] = None,
    prompts: Annotated[Path | None, option("Instead of --type: a TOML file of prompts.")] = None,
    size: Annotated[
        str | None,
        option("Size of the store's images: 256, or height x width as 224x192. Default: what the preset generates."),
    ] = None,
    codec: Codec = "raw",
    fraction: Annotated[float, typer.Option(help="Share of each class's samples that get counterparts.")] = 1.0,
    per_sample: Annotated[int, typer.Option(help="Counterparts of each of those samples.")] = 1,
    gamma: Annotated[
        float | None,
        option(
            "Guidance: (1 + gamma) eps(prompt) - gamma eps(negative prompt); diffusers' guidance_scale is 1 + gamma. "
            f"Default: the preset's, or {_GAMMA:g}."
        ),
    ] = None,
    steps: Annotated[int | None, option(f"Denoising steps. Default: the preset's, or {_STEPS}.")] = None,
    negative_prompt: Annotated[
        bool, typer.Option("--negative-prompt/--no-negative-prompt", help="Whether the negative prompt is used.")
    ] = True,
    generate_size: Annotated[
        str | None, option("Size that the model generates. Default: the preset's, or the model's.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images generated together; halved if memory runs out.")] = 8,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    max_attempts: Annotated[int, typer.Option(help="Images made for one counterpart before it is given up.")] = 10,
    filter_model: Annotated[
        str, typer.Option(help="Model of open_clip that measures similarity, or a folder with one.")
    ] = DEFAULT_FILTER,
    filter_weights: Annotated[str | None, option("Its pretrained weights by name, or a .safetensors file.")] = None,
    threshold: Annotated[
        float | None,
        option("One threshold for all classes. Default: of each class the mean similarity of its real images."),
    ] = None,
    sampled_threshold: Annotated[
        int | None,
        option(
            "Estimate the thresholds from so many pairs of each class, as the paper does. Default: all pairs, exactly."
        ),
    ] = None,
    revision: Annotated[str | None, option("Branch, tag or commit of the model on the hub.")] = None,
    variant: Annotated[str | None, option("Variant of the model's weights, such as fp16.")] = None,
    config: Annotated[
        str | None, option("For a .safetensors checkpoint: a folder or hub id of a pipeline with its configuration.")
    ] = None,
    vae: Annotated[str | None, option("Another VAE: a folder, a hub id or a .safetensors file.")] = None,
    device: Device = "auto",
    dtype: Annotated[Dtype, typer.Option(help="auto: float16 on a GPU, float32 on the CPU.")] = Dtype.AUTO,
    compile_: Annotated[bool, option("Compile the denoiser with torch.compile.", "--compile")] = False,
    vae_slicing: Annotated[bool, option("Decode one image at a time.", "--vae-slicing")] = False,
    vae_tiling: Annotated[bool, option("Decode images in tiles.", "--vae-tiling")] = False,
    attention_slicing: Annotated[
        bool, option("Compute attention in slices: less memory, slower.", "--attention-slicing")
    ] = False,
    cpu_offload: Annotated[
        bool, option("Keep only the part of the model at work on the GPU.", "--cpu-offload")
    ] = False,
    resume: Annotated[bool, option("Go on where an interrupted run stopped.", "--resume")] = False,
    overwrite: Overwrite = False,
    append: Annotated[
        bool,
        option(
            "Add to the store that is there what it lacks of a larger --fraction or --per-sample; all else must be as "
            "it was.",
            "--append",
        ),
    ] = False,
    report: Annotated[
        Path | None, option("Write the HTML report here too. Default: only OUT.report/index.html.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Generate counterparts with a text-to-image model and keep those that resemble their real images."""
    if (preset is None) == (model is None):
        raise typer.BadParameter("give one of --preset and --model.", param_hint="--preset")
    if preset is not None and preset not in PRESETS:
        raise typer.BadParameter(f"{preset!r} is none; there are {', '.join(PRESETS)}.", param_hint="--preset")
    if (type_ is None) == (prompts is None):
        raise typer.BadParameter("give one of --type and --prompts.", param_hint="--type")
    if type_ is not None and type_ not in TEXTS:
        raise typer.BadParameter(f"{type_!r} is none; there are {', '.join(TEXTS)}.", param_hint="--type")
    if report is not None and not report.absolute().parent.is_dir():
        raise typer.BadParameter(f"{report.parent} is no folder; make it first.", param_hint="--report")
    generated = parse_size(generate_size, "--generate-size") if generate_size else (None, None)
    given: dict[str, Any] = {"gamma": gamma, "steps": steps, "height": generated[0], "width": generated[1]}
    given |= {"revision": revision, "variant": variant, "config": config, "vae": vae}
    default: dict[str, Any] = {"model": model, "gamma": _GAMMA, "steps": _STEPS}
    if preset is not None:
        default = PRESETS[preset].options()
    options = ModelOptions(
        **default | {name: value for name, value in given.items() if value is not None},
        negative=negative_prompt,
        dtype=dtype.value,
        device=device,
        compile=compile_,
        vae_slicing=vae_slicing,
        vae_tiling=vae_tiling,
        attention_slicing=attention_slicing,
        cpu_offload=cpu_offload,
    )
    height, width = _store_size(size, options)

    from diffcore_gpu.generation.loop import GenerationListener
    from diffcore_gpu.generation.run import GenerationRequest, run_request

    request = GenerationRequest(
        real=real,
        out=out,
        settings=GenerationSettings(
            prompts=load_prompt_set(type_ or prompts or ""),
            height=height,
            width=width,
            fraction=fraction,
            per_sample=per_sample,
            max_attempts=max_attempts,
            batch_size=batch_size,
            seed=seed,
            codec=parse_codec(codec),
        ),
        model=options,
        similarity=FilterOptions(
            model=filter_model, weights=filter_weights, threshold=threshold, pairs_per_class=sampled_threshold
        ),
        resume=resume,
        overwrite=overwrite,
        append=append,
    )
    with resumable(), generation_progress() as bars:
        result, page = run_request(request, GenerationListener(say, bars.embedded, bars.generated))
    if report is not None:
        from diffcore_gpu.store.durable import replace_file

        replace_file(report, page.read_bytes())
    if as_json:
        print_json({"store": str(out), "page": str(report or page), **result.as_json()})
    else:
        _print_report(result, out, report or page)


def _store_size(size: str | None, options: ModelOptions) -> tuple[int, int]:
    if size is not None:
        return parse_size(size)
    if options.height is None or options.width is None:
        raise typer.BadParameter("give the size of the store's images, such as 256.", param_hint="--size")
    return options.height, options.width


def _print_report(report: GenerationReport, out: Path, page: Path) -> None:
    from diffcore_gpu.generation.report.text import class_heading, class_rows, remarks, summary_rows

    print(printable(f"Generated {out}"))
    print_table(summary_rows(report))
    print(class_heading(report))
    print_table(class_rows(report))
    for remark in remarks(report):
        print(printable(remark))
    print(printable(f"Report: {page}"))
