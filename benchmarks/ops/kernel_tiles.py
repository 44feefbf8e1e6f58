"""The mix with other tiles than its kernels choose: pixels of a program, and warps that share them.

A tile is written PIXELS:WARPS, such as 4096:2, for images of 16 bits; the others' follow. Several are compared by
`diffcore bench bandwidth --tiles`, and

    python -m diffcore_gpu.benchmarks.ops.kernel_tiles best variants.json
    python -m diffcore_gpu.benchmarks.ops.kernel_tiles run 4096:2 overhead --amp

tells which of them was the fastest, and runs any suite with one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from diffcore_gpu.benchmarks.harness import options
from diffcore_gpu.benchmarks.harness.result_file import complete, read_result
from diffcore_gpu.benchmarks.suites import SUITES, run_suite
from diffcore_gpu.errors import BenchmarkError

WORTH = 1.02
"""Another tile than the kernels' own counts as faster from this ratio of the rates."""


PIXELS_OF_WARP = 256
"""What a warp takes at once: 8 values of 16 bits a thread."""


class Tile(NamedTuple):
    """Pixels of one program at most (values of each channel, where channels interleave), and the warps that share them.

    For images of 16 bits; bytes are shared by half as many warps, and float32 images take twice the turns.
    """

    pixels: int
    warps: int

    def __str__(self) -> str:
        return f"{self.pixels}:{self.warps}"


def tile(text: Any) -> Tile:
    """A parser of an option: PIXELS:WARPS, powers of two, from 2 to 32 warps with 256 pixels or more for each."""
    pixels, _, warps = str(text).partition(":")
    if pixels.isdecimal() and warps.isdecimal():
        found = Tile(int(pixels), int(warps))
        powers = all(value > 0 and value & (value - 1) == 0 for value in found)
        if powers and 2 <= found.warps <= 32 and found.pixels >= PIXELS_OF_WARP * found.warps:
            return found
    raise typer.BadParameter(f"{str(text)!r} is not PIXELS:WARPS, powers of two such as 4096:2.")


def _kernels() -> Any:
    module = import_module("diffcore_gpu.kernels.mix")
    if not (isinstance(getattr(module, "BLOCKS", None), dict) and isinstance(getattr(module, "STEPS", None), int)):
        raise BenchmarkError("these kernels choose their tiles in another way; leave --tiles out.")
    return module


def own() -> Tile:
    """The tile that the kernels choose."""
    module = _kernels()
    return Tile(module.BLOCKS[2] * module.STEPS, module.BLOCKS[2] // PIXELS_OF_WARP)


@contextmanager
def using(chosen: Tile | None) -> Iterator[None]:
    """Launch the mix with a tile; None: with the kernels' own."""
    if chosen is None:
        yield
        return
    module = _kernels()
    before = module.BLOCKS, module.STEPS
    block = PIXELS_OF_WARP * chosen.warps
    module.BLOCKS, module.STEPS = {4: block // 2, 2: block, 1: block}, chosen.pixels // block
    try:
        yield
    finally:
        module.BLOCKS, module.STEPS = before


def split(name: str) -> tuple[str, str]:
    """Kind of mix and tile ("" for the kernels' own) of an action of the suite `bandwidth`."""
    kind, _, written = name.partition(" ")
    return (kind, written) if ":" in written else (name, "")


def relative_rates(result: Mapping[str, Any], compared_with: str) -> dict[str, float]:
    """Geometric mean, over all batches and kinds of mix, of each tile's rate over that of one of them."""
    logs: dict[str, list[float]] = {}
    for part in result["results"]:
        rates = {name: rate["gb_per_s"] for name, rate in part["cold_rates"].items()}
        for name, rate in rates.items():
            kind, written = split(name)
            base = rates.get(f"{kind} {compared_with}")
            if written and base:
                logs.setdefault(written, []).append(math.log(rate / base))
    return {written: math.exp(sum(values) / len(values)) for written, values in logs.items()}


def best(result: Mapping[str, Any]) -> str:
    """The fastest tile of a result of `bandwidth --tiles`; the kernels' own unless another is faster by 2 %."""
    mine = str(own())
    rates = relative_rates(result, mine)
    if not rates:
        raise BenchmarkError("no tiles were compared with the kernels' own; run bandwidth with --tiles.")
    fastest = max(rates, key=lambda written: rates[written])
    return fastest if rates[fastest] >= WORTH else mine


app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command("best")
def print_best(file: Annotated[Path, typer.Argument(help="A result of `bandwidth --tiles`.")]) -> None:
    """Print the fastest tile of a result."""
    result = read_result(file, "bandwidth")
    with complete(file, "bandwidth"):
        fastest = best(result)
    print(fastest)


@app.command("run", context_settings={"allow_extra_args": True, "allow_interspersed_args": False})
def run_with(
    context: typer.Context,
    chosen: Annotated[Tile, typer.Argument(parser=tile, metavar="PIXELS:WARPS")],
    suite: Annotated[str, typer.Argument(parser=options.one_of("suite", SUITES), metavar="SUITE")],
) -> None:
    """Run a suite, with what follows its name, by kernels with a tile."""
    with using(chosen):
        run_suite(suite, context.args)


def main() -> None:
    """The command line; what is wrong is one sentence."""
    try:
        app(prog_name="kernel_tiles")
    except BenchmarkError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
