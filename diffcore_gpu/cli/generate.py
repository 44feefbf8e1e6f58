"""`diffcore generate`: a store of counterparts that a text-to-image model makes for real images."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffcore_gpu.cli.console import print_json, print_table, printable, say
from diffcore_gpu.cli.generation_progress import generation_progress
from diffcore_gpu.cli.options import AsJson, parse_size
from diffcore_gpu.generation.presets import PRESETS
from diffcore_gpu.generation.prompt_texts import TEXTS
from diffcore_gpu.generation.prompts import load_prompt_set
from diffcore_gpu.generation.settings import FilterOptions, GenerationSettings, ModelOptions

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
    real: Annotated[Path, typer.Option(help="The real images: an ImageFolder, one folder per class.")],
    out: Annotated[Path, typer.Option(help="The store's folder.")],
    preset: Annotated[
        str | None,
        typer.Option(
            help="A model with its settings, which other options override. "
            + " ".join(f"{name}: {preset.description}." for name, preset in PRESETS.items()),
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Instead of a preset: a folder that diffusers saved, a hub id, or a .safetensors checkpoint.",
            show_default=False,
        ),
    ] = None,
    type_: Annotated[
        str | None,
        typer.Option("--type", help=f"Built-in prompts for a type of dataset: {', '.join(TEXTS)}.", show_default=False),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Instead of --type: a TOML file of prompts.", show_default=False)
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Size of the store's images: 256, or height x width as 224x192. Default: what the preset generates.",
            show_default=False,
        ),
    ] = None,
    fraction: Annotated[float, typer.Option(help="Share of each class's samples that get counterparts.")] = 1.0,
    per_sample: Annotated[int, typer.Option(help="Counterparts of each of those samples.")] = 1,
    gamma: Annotated[
        float | None,
        typer.Option(
            help="Guidance: (1 + gamma) eps(prompt) - gamma eps(negative prompt); diffusers' guidance_scale is "
            f"1 + gamma. Default: the preset's, or {_GAMMA:g}.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help=f"Denoising steps. Default: the preset's, or {_STEPS}.", show_default=False)
    ] = None,
    negative_prompt: Annotated[
        bool, typer.Option("--negative-prompt/--no-negative-prompt", help="Whether the negative prompt is used.")
    ] = True,
    generate_size: Annotated[
        str | None,
        typer.Option(help="Size that the model generates. Default: the preset's, or the model's.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images generated together; halved if memory runs out.")] = 8,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    max_attempts: Annotated[int, typer.Option(help="Images made for one counterpart before it is given up.")] = 10,
    filter_model: Annotated[
        str, typer.Option(help="Model of open_clip that measures similarity, or a folder with one.")
    ] = "ViT-B-32",
    filter_weights: Annotated[
        str | None,
        typer.Option(help="Its pretrained weights by name, or a .safetensors file.", show_default=False),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="One threshold for all classes. Default: of each class the mean similarity of its real images.",
            show_default=False,
        ),
    ] = None,
    sampled_threshold: Annotated[
        int | None,
        typer.Option(
            help="Estimate the thresholds from so many pairs of each class, as the paper does. Default: all pairs, "
            "exactly.",
            show_default=False,
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of the model on the hub.", show_default=False)
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Variant of the model's weights, such as fp16.", show_default=False)
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="For a .safetensors checkpoint: a folder or hub id of a pipeline with its configuration.",
            show_default=False,
        ),
    ] = None,
    vae: Annotated[
        str | None,
        typer.Option(help="Another VAE: a folder, a hub id or a .safetensors file.", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …; auto: a GPU if there is one.")] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="auto: float16 on a GPU, float32 on the CPU.")] = Dtype.AUTO,
    compile_: Annotated[bool, typer.Option("--compile", help="Compile the denoiser with torch.compile.")] = False,
    vae_slicing: Annotated[bool, typer.Option("--vae-slicing", help="Decode one image at a time.")] = False,
    vae_tiling: Annotated[bool, typer.Option("--vae-tiling", help="Decode images in tiles.")] = False,
    attention_slicing: Annotated[
        bool, typer.Option("--attention-slicing", help="Compute attention in slices: less memory, slower.")
    ] = False,
    cpu_offload: Annotated[
        bool, typer.Option("--cpu-offload", help="Keep only the part of the model at work on the GPU.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the store that is there.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write the HTML report here too. Default: only OUT.report/index.html.", show_default=False),
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
        ),
        model=options,
        similarity=FilterOptions(
            model=filter_model, weights=filter_weights, threshold=threshold, pairs_per_class=sampled_threshold
        ),
        resume=resume,
        overwrite=overwrite,
    )
    try:
        with generation_progress() as bars:
            listener = GenerationListener(say, bars.embedded, bars.generated)
            result, page = run_request(request, listener)
    except KeyboardInterrupt:
        say("Interrupted. Run the same command with --resume to go on.")
        raise typer.Exit(130) from None
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
