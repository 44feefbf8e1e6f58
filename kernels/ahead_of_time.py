"""What the compiler makes of the kernels, for every GPU generation that we support and without a GPU.

``python -m diffcore_gpu.kernels.ahead_of_time`` prints registers, spills, barriers, the widths of the memory
instructions, instructions per value and, for the mix, the predicted share of copy speed, per target, data type and
memory format (``--json`` for programs). It does not work under ``TRITON_INTERPRET=1``, where kernels are never
compiled.

Kernels are compiled as users run them: 3 × 224 × 224 pixels, the round advanced in the launch, no labels to check, the
store in the format of the images. Instructions are counted as `sass` says; the code of AMD GPUs is not walked.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import multiprocessing
import os
import re
import subprocess
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from . import sass
from .crop_mix import (
    CROP_MIX_ROWS,
    CROP_MIX_WARPS,
    crop_mix_band,
    crop_mix_plan_kernel,
    crop_mix_store_kernel,
    tile_of,
)
from .mix import mix_plan_kernel, mix_store_kernel, pixel_tiles, programs_of, shown_tiles, tile_options
from .plan import draw_crop
from .resample import resample_line, write_row
from .resized_crop import CROP_ROWS, CROP_WARPS, CROP_WIDE, resized_crop_kernel

TARGETS = {
    "sm_75": GPUTarget("cuda", 75, 32),
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
ITEMSIZE = {"fp32": 4, "fp16": 2, "bf16": 2, "u8": 1}
KERNELS = {
    "mix_store": mix_store_kernel,
    "mix_plan": mix_plan_kernel,
    "resized_crop": resized_crop_kernel,
    "crop_mix_store": crop_mix_store_kernel,
    "crop_mix_plan": crop_mix_plan_kernel,
}
_WARPS = {"resized_crop": CROP_WARPS, "crop_mix_store": CROP_MIX_WARPS, "crop_mix_plan": CROP_MIX_WARPS}
_POINTERS = {
    "index": "i64", "labels": "i64", "round": "i64", "status": "i32", "constants": "i64", "plan": "u8",
    "store": "u8", "norm": "fp32",
    "plan_row": "i64", "plan_pixel": "u1", "plan_lam": "fp32", "plan_box": "i32", "plan_inside_real": "u1",
    "crop": "i32", "mirror": "u1", "plan_crop": "i32", "plan_mirror": "u1", "plan_counterpart_crop": "i32",
    "plan_counterpart_mirror": "u1",
}  # fmt: skip
_PLACES = (0, 8, 9, 13, 29, 30, 46, 47, 63)


@dataclass(frozen=True)
class Report:
    """The static facts of one compiled kernel.

    Attributes:
        kernel: its name in `KERNELS`.
        target: its name in `TARGETS`.
        dtype: data type of the images (of a crop: of its output).
        planar: contiguous images; False: channels_last.
        registers: registers per thread (vector registers on AMD).
        barriers: instructions that wait for the other warps of the program.
        spills: bytes of stack and local memory, plus instructions that reach them; 0 is what we want. On AMD, scalar
            registers that are kept in lanes of vector registers reach no memory and are not counted.
        instructions: number of instructions.
        load_bytes: how many global load instructions there are of each width in bytes per thread.
        store_bytes: the same for global stores.
        instructions_per_value: on NVIDIA GPUs, `instructions_per_value`.
        issue_us: on sm_90, `issue_time` for each of these, in µs; a model, not measured.
        predicted_of_copy: of the mix on sm_90, `predicted_of_copy`, the lower of both kinds.
    """

    kernel: str
    target: str
    dtype: str
    planar: bool
    registers: int
    spills: int
    instructions: int
    load_bytes: dict[int, int]
    store_bytes: dict[int, int]
    barriers: int
    instructions_per_value: dict[str, float] | None
    issue_us: dict[str, float] | None
    predicted_of_copy: float | None


def specialize(
    kernel: str, target: str, dtype: str, planar: bool, size: tuple[int, int] = (224, 224), **other
) -> ASTSource:
    """What the launcher of a kernel specializes it for, given images of 3 × size pixels as torch allocates them.

    A crop reads contiguous uint8 images (and counterparts) of 3 × 256 × 256; `dtype` and `planar` are then those of
    its output. `other` are constants in place of what is chosen here, such as C, the number of channels.
    """
    function = KERNELS[kernel]
    pointers = {**_POINTERS, "images": dtype, "out": dtype}
    constants = {
        "C": 3, "INPLACE": False, "ADVANCE": True, "CHECK_LABELS": False, "LAM_TABLE": False, "BOX_INSIDE": False,
        "BEST_ROW": False, "WRITE_PLAN": False, "PLACES": (), "SAME_CROP": False,
        "PLANAR": planar, "PLANAR_IN": True, "PLANAR_OUT": planar,
    }  # fmt: skip
    if "OUT_H" in function.arg_names:
        pointers["images"] = "u8"
        raw = 256
        sizes = {
            "H": raw, "W": raw, "STORE_H": raw, "STORE_W": raw, "OUT_H": size[0], "OUT_W": size[1],
            "STORE_PLANAR": True, "CENTRAL": (0, 0, raw, raw), "COUNTERPART_CENTRAL": (0, 0, raw, raw),
        }  # fmt: skip
        fused = kernel != "resized_crop"
        wide = tile_of(other.get("C", 3))[0] if fused else CROP_WIDE
        tiles = {"ROWS": CROP_MIX_ROWS if fused else CROP_ROWS, "WIDE": wide, "THREADS": 32 * _WARPS[kernel]}
    else:
        sizes = {"H": size[0], "W": size[1], "STORE_PLANAR": planar}
        tiles = tile_options(ITEMSIZE[dtype], other.get("C", 3), *size, planar, TARGETS[target].warp_size)
    constants = {**constants, **sizes, **tiles, **other}
    if constants["WRITE_PLAN"]:
        constants["PLACES"] = _PLACES if "OUT_H" in function.arg_names else _PLACES[:5]
    constants = {name: value for name, value in constants.items() if name in function.arg_names}
    signature, attributes = {}, {}
    for position, name in enumerate(function.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in pointers:
            signature[name] = "*" + pointers[name]
            if not function.params[position].do_not_specialize:
                attributes[(position,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "i32"
    return ASTSource(function, signature, constants, attributes)


def compile_kernel(kernel: str, target: str, dtype: str, planar: bool, size: tuple[int, int] = (224, 224), **other):
    """Compile a kernel as `specialize` says.

    Returns:
        triton's `CompiledKernel`.
    """
    if kernel in _WARPS:
        warps = _WARPS[kernel]
    else:
        tiles = tile_options(ITEMSIZE[dtype], other.get("C", 3), *size, planar, TARGETS[target].warp_size)
        warps = tiles["num_warps"]
    options = {"num_warps": warps, "enable_fp_fusion": False}
    if kernel.startswith("crop_mix") and TARGETS[target].backend == "cuda":
        options["maxnreg"] = tile_of(other.get("C", 3))[1]
    return triton.compile(
        specialize(kernel, target, dtype, planar, size, **other), target=TARGETS[target], options=options
    )


_NVIDIA_TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
_AMD_WIDTHS = {"dword": 4, "dwordx2": 8, "dwordx3": 12, "dwordx4": 16, "b32": 4, "b64": 8, "b96": 12, "b128": 16}


def lines_of(function: triton.JITFunction) -> range:
    """The lines of a function in its file."""
    lines, first = inspect.getsourcelines(function.fn)
    return range(first, first + len(lines))


def arm_of(function: triton.JITFunction, test: str, otherwise: bool = False) -> range:
    """The lines of a branch of a function that are run where `test` holds, or where it does not; with a line more.

    The line more is that of the next ``else`` at most: triton 3.9 gives a load the line behind its own.
    """
    lines, first = inspect.getsourcelines(function.fn)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    (branch,) = (node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == test)
    arm = branch.orelse if otherwise else branch.body
    return range(first + arm[0].lineno - 1, first + arm[-1].end_lineno + 1)


_TILES = {"pixel": pixel_tiles, "patch": shown_tiles}


def _mix_instructions(listing: str, dtype: str, planar: bool, size: tuple[int, int]) -> dict[str, float]:
    events = [sass.Event(kind, "kernels/mix.py", lines_of(tiles)) for kind, tiles in _TILES.items()]
    blocks = sass.basic_blocks(listing, events)
    tiles = tile_options(ITEMSIZE[dtype], 3, *size, planar, 32)
    stored = tiles["STEPS"] * (3 if planar else 1) * 16
    values = stored // ITEMSIZE[dtype]
    return {kind: sass.shortest_way(blocks, [(kind, stored)]) / values for kind in _TILES}


def _crop_instructions(kernel: str, listing: str, dtype: str, size: tuple[int, int]) -> dict[str, float]:
    resample, fused = "kernels/resample.py", "kernels/crop_mix.py"
    (drawn, *_) = arm_of(draw_crop, "(height >= 1) & (height <= H) & (width >= 1) & (width <= W)")
    events = [
        sass.Event("line", resample, arm_of(resample_line, "taps == 0"), "LDG"),
        sass.Event("shrunk", resample, arm_of(resample_line, "taps == 0", otherwise=True), "LDG"),
        sass.Event("row", resample, lines_of(write_row)),
        sass.Event("real", fused, arm_of(crop_mix_band, "use_real"), None),
        sass.Event("generated", fused, arm_of(crop_mix_band, "use_generated"), None),
        sass.Event("drawn", "kernels/plan.py", range(drawn, drawn + 1), None),
    ]
    blocks = sass.basic_blocks(listing, events)
    if kernel == "resized_crop":
        rows, wide = CROP_ROWS, CROP_WIDE
        ways = {"crop": [("",)]}
    else:
        rows, wide = CROP_MIX_ROWS, tile_of(3)[0]
        ways = {"pixel": [("real", "generated")], "patch": [("real",), ("generated",)]}
    crops = [("drawn", 0)] * 2 if kernel == "crop_mix_store" else []
    line, row = 2 * 3 * wide, ("row", 3 * wide * ITEMSIZE[dtype])

    def instructions(sources: tuple[str, ...]) -> int:
        order = [*crops]
        for lines in (2, *[1] * (rows - 1)):
            for source in sources:
                order.append(("line", lines * line))
                order += [(source, 0)] if source else []
            order.append(row)
        return sass.shortest_way(blocks, order)

    # what all warps of a sample issue, idle lanes at the end of a row included
    warps = -(-size[0] // rows) * -(-size[1] // (32 * wide))
    values = 3 * size[0] * size[1] / 32
    return {kind: warps * max(instructions(sources) for sources in way) / values for kind, way in ways.items()}


def instructions_per_value(
    kernel: str, listing: str, dtype: str, planar: bool, size: tuple[int, int]
) -> dict[str, float]:
    """What warps issue over the values that they write, per 32 of these, everything included.

    Of the mix: where a sample is mixed by "pixel" and by "patch". Of a crop: where the crops are enlarged along both
    axes at scale 1, the worst of these, for which each row needs a new line of a source, and the first row of a program
    two; drawn in one attempt. "pixel" reads both sources, "patch" one of them, the longer, as programs do that no edge
    of a patch crosses; those on an edge come between. "crop" is what `resized_crop` does. A crop that shrinks issues
    more, which is not counted: its turns depend on the scale.

    Whoever counts by hand adds, for a crop: the blocks before the loop over rows, with the arm of the attempt that
    fits; that loop's blocks, with those of each source that is read, times the rows of a program; the loop over lines
    within, with its straight arm of two taps, times the lines, one more than rows; what follows. The sum, over
    the values of ROWS·WIDE pixels, grows by the share of lanes that are idle at the end of an image's rows.
    """
    if kernel in ("mix_store", "mix_plan"):
        counts = _mix_instructions(listing, dtype, planar, size)
    else:
        counts = _crop_instructions(kernel, listing, dtype, size)
    return {kind: round(count, 2) for kind, count in counts.items()}


# An H100 (SXM): what its multiprocessors issue, the speed of its own copy, and a load under load.
MULTIPROCESSORS = 132
SCHEDULERS = 4
CLOCK = 1.755e9
COPY_SPEED = 3.0e12
LATENCY = 0.6e-6
REGISTERS = 65536
BATCH = 256
CHAIN = 4
"""Loads before a program's first tile, each of which needs the one before: constants, pairs, row, counterpart."""


def issue_time(per_value: float, size: tuple[int, int]) -> float:
    """Seconds in which an H100 issues the instructions of 256 images, one of a warp per cycle and scheduler."""
    return BATCH * 3 * size[0] * size[1] / 32 * per_value / (MULTIPROCESSORS * SCHEDULERS * CLOCK)


def predicted_of_copy(
    kind: str, per_value: float, registers: int, dtype: str, planar: bool, size: tuple[int, int]
) -> float:
    """The share of its copy speed that an H100 reaches in the mix of 256 images by a model; nothing here is measured.

    A launch takes as long as the first `CHAIN` loads, in which nothing is written, and then the longest of three:
        bytes    2b + 1 per value pixel-wise and (b + 1) / 2 + b in a patch, where either source shows half of the
                 image, at the speed of a copy;
        issue    `issue_time`;
        latency  for each program CHAIN + STEPS loads one after another, with as many programs at a time as their
                 registers allow.
    """
    itemsize = ITEMSIZE[dtype]
    tiles = tile_options(itemsize, 3, *size, planar, 32)
    values = BATCH * 3 * size[0] * size[1]
    to_move = values * (2 * itemsize + 1 if kind == "pixel" else (itemsize + 1) / 2 + itemsize) / COPY_SPEED
    issue = issue_time(per_value, size)
    threads = 32 * tiles["num_warps"]
    at_a_time = min(2048 // threads, 32, REGISTERS // (-(-registers // 8) * 8 * threads))
    programs = BATCH * programs_of(3, *size, tiles["BLOCK"], tiles["STEPS"], planar)
    latency = programs / (MULTIPROCESSORS * at_a_time) * (CHAIN + tiles["STEPS"]) * LATENCY
    return round(to_move / (max(to_move, issue, latency) + CHAIN * LATENCY), 3)


@dataclass(frozen=True)
class _Facts:
    """What can be read from compiled code; the names are those of `Report`."""

    registers: int
    spills: int
    instructions: int
    load_bytes: Counter[int]
    store_bytes: Counter[int]
    barriers: int
    listing: str


def _nvidia(cubin: bytes) -> _Facts:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage, listing = (
            subprocess.run([_NVIDIA_TOOLS / tool, *flags, file.name], capture_output=True, text=True, check=True).stdout
            for tool, *flags in (("cuobjdump", "-res-usage"), ("nvdisasm", "-c", "-g", "-ndf"))
        )
    registers, stack, local = (int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK", "LOCAL"))
    spills = stack + local + len(re.findall(r"\b(?:LDL|STL)\b", listing))
    widths: dict[str, Counter[int]] = {"LDG": Counter(), "STG": Counter()}
    for name, modifiers in re.findall(r"\b(LDG|STG)((?:\.\w+)*)", listing):
        widths[name][sass.width_of(modifiers)] += 1
    instructions = len(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/", listing, re.MULTILINE))
    barriers = len(re.findall(r"\bBAR\.", listing))
    return _Facts(registers, spills, instructions, widths["LDG"], widths["STG"], barriers, listing)


def _amd(assembly: str) -> _Facts:
    def number(name: str) -> int:
        return int(re.search(rf"\.{name}:\s+(\d+)", assembly)[1])

    spills = number("vgpr_spill_count") + number("private_segment_fixed_size")
    widths: dict[str, Counter[int]] = {"load": Counter(), "store": Counter()}
    for name, kind in re.findall(r"\b(?:global|buffer)_(load|store)_(\w+)", assembly):
        kind = kind.removesuffix("_d16_hi").removesuffix("_d16")
        widths[name][_AMD_WIDTHS.get(kind, 1 if "byte" in kind else 2)] += 1
    instructions = len(re.findall(r"^\t[vs]_|^\t(?:global|buffer|ds)_", assembly, re.MULTILINE))
    barriers = len(re.findall(r"^\ts_barrier", assembly, re.MULTILINE))
    return _Facts(number("vgpr_count"), spills, instructions, widths["load"], widths["store"], barriers, assembly)


def report(kernel: str, target: str, dtype: str, planar: bool, size: tuple[int, int] = (224, 224)) -> Report:
    """Compile one kernel and read the result."""
    compiled = compile_kernel(kernel, target, dtype, planar, size)
    nvidia = TARGETS[target].backend == "cuda"
    facts = _nvidia(compiled.asm["cubin"]) if nvidia else _amd(compiled.asm["amdgcn"])
    per_value = issue = predicted = None
    if nvidia:
        per_value = instructions_per_value(kernel, facts.listing, dtype, planar, size)
    if target == "sm_90":
        issue = {kind: round(1e6 * issue_time(count, size), 1) for kind, count in per_value.items()}
        if kernel in ("mix_store", "mix_plan"):
            predicted = min(
                predicted_of_copy(kind, count, facts.registers, dtype, planar, size)
                for kind, count in per_value.items()
            )
    return Report(
        kernel, target, dtype, planar, facts.registers, facts.spills, facts.instructions,
        dict(sorted(facts.load_bytes.items())), dict(sorted(facts.store_bytes.items())), facts.barriers,
        per_value, issue, predicted,
    )  # fmt: skip


def _combinations() -> Iterator[tuple[str, str, str, bool]]:
    for kernel in KERNELS:
        for target in TARGETS:
            for dtype in ("bf16", "u8") if "crop" in kernel else ITEMSIZE:  # a crop's output changes its last line only
                for planar in (True, False):
                    yield kernel, target, dtype, planar


def reports() -> Iterator[Report]:
    """Every kernel for every target, data type and memory format, compiled in one process per processor."""
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(report, *zip(*_combinations(), strict=True))


def main() -> None:
    """Print the reports."""
    parser = argparse.ArgumentParser(description="Registers, spills and load widths of the compiled kernels.")
    parser.add_argument("--json", action="store_true", help="print a JSON array")
    if parser.parse_args().json:
        print(json.dumps([asdict(row) for row in reports()]))
        return
    print(
        f"triton {triton.__version__}; loads and stores: bytes per thread × number of instructions; pixel, patch, "
        "crop: instructions per value (of crops, enlarged at scale 1; not counted for AMD), on sm_90 with the µs to "
        "issue those of 256 images; of copy: predicted for the mix; both by a model of an H100"
    )
    for row in reports():
        layout = "contiguous" if row.planar else "channels_last"
        widths = [" ".join(f"{b}B×{n}" for b, n in part.items()) for part in (row.load_bytes, row.store_bytes)]
        issue = {kind: f" ({us} µs)" for kind, us in (row.issue_us or {}).items()}
        counts = "".join(
            f"  {kind} {count}{issue.get(kind, '')}" for kind, count in (row.instructions_per_value or {}).items()
        )
        predicted = "" if row.predicted_of_copy is None else f"  of copy {row.predicted_of_copy:.2f}"
        print(
            f"{row.kernel:15}{row.target:8}{row.dtype:5}{layout:14}{row.registers:4} registers {row.spills:3} spilled "
            f"{row.barriers:3} barriers {row.instructions:5} instructions  loads {widths[0]}  stores {widths[1]}"
            f"{counts}{predicted}"
        )


if __name__ == "__main__":
    main()
