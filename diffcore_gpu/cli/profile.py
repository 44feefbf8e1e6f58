"""`diffcore profile`: what the transform costs within the training steps of a model, on this machine."""

from __future__ import annotations

import os
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from diffcore_gpu.cli.console import print_json, print_table, printable, say, size_text
from diffcore_gpu.cli.options import AsJson, Device, Store, option

if TYPE_CHECKING:
    from diffcore_gpu.profiling import TrainingProfile


class Amp(StrEnum):
    """Precision of the model."""

    OFF = "off"
    BF16 = "bf16"


class Residency(StrEnum):
    """Where the counterparts live."""

    AUTO = "auto"
    DEVICE = "device"
    HOST = "host"
    DISK = "disk"


class ProfileCommand(TyperCommand):
    """The command, which also reads an older spelling of its store: ``--store STORE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        return super().parse_args(ctx, [a.removeprefix("--store=") for a in args if a != "--store"])


def profile(
    store: Store,
    model: Annotated[str, typer.Option(help="A torchvision classifier.")] = "resnet18",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples in a step.")] = 16,
    steps: Annotated[int, typer.Option(min=1, help="Steps that are timed.")] = 10,
    device: Device = "auto",
    amp: Annotated[Amp, typer.Option(help="Mixed precision of the model.")] = Amp.OFF,
    residency: Annotated[Residency, typer.Option(help="Where the counterparts live.")] = Residency.AUTO,
    trace: Annotated[Path | None, option("Also write a Chrome trace into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure what the transform costs in training steps."""
    # torch's profiler writes a log of its own to stderr, which is set up when torch is imported.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    import torch

    from diffcore_gpu.profiling import profile_training
    from diffcore_gpu.store import CounterpartStore

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.device(device)
    except RuntimeError:
        raise typer.BadParameter(f"{device!r} is no device; cpu and cuda are.", param_hint="--device") from None
    opened = CounterpartStore.open(store)
    say(f"Training {model} on {device} with batches of {batch_size} …")
    result = profile_training(
        opened,
        model=model,
        batch_size=batch_size,
        steps=steps,
        device=device,
        amp=amp.value,
        residency=residency.value,
        trace=trace,
    )
    if as_json:
        print_json(_values(store, result))
    else:
        _print(result)


def _values(store: str, result: TrainingProfile) -> dict[str, Any]:
    from diffcore_gpu.store.remote.location import shown_place

    values = asdict(result)
    values["trace"] = None if result.trace is None else str(result.trace)
    return {"store": shown_place(store), **values, "device_waited_for_loader": result.waited}


def _print(result: TrainingProfile) -> None:
    import torch

    from diffcore_gpu.ops.mix.cpu_numba import cpu_backend

    shape = " x ".join(map(str, (result.batch_size, *result.image_shape)))
    kernels = "– (there are none on the CPU)" if result.mix_kernels is None else f"{result.mix_kernels:g}"
    waited = "yes" if result.waited else "no"
    where = f"cpu (mixed by {cpu_backend(torch.float32)})" if result.device == "cpu" else result.device
    print(printable(f"{result.model} on {where}, batches of {shape} float32, amp {result.amp}"))
    print_table(
        [
            ("time per step", f"{1e3 * result.step_seconds:.3f} ms, median of {result.steps}"),
            ("transform", f"{1e3 * result.mix_seconds:.3f} ms, {result.mix_share:.2%} of the step"),
            ("kernels it launched", kernels),
            ("bytes it must move", size_text(round(result.mix_bytes))),
            ("copy on this device", f"{result.copy_bytes_per_second / 1e9:.1f} GB/s, read and written"),
            ("fraction of that", f"{result.copy_fraction:.2f}"),
            ("waited for the loader", f"{waited}; {1e3 * result.loader_seconds:.3f} ms, {result.loader_share:.2%}"),
            ("counterparts live", f"residency {result.residency}"),
        ]
    )
    if result.trace is not None:
        print(printable(f"Chrome trace of {result.traced_steps} more steps: {result.trace}"))
