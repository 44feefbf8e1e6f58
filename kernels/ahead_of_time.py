"""What the compiler makes of the kernels, for every GPU generation that we support and without a GPU.

``python -m diffcore_gpu.kernels.ahead_of_time`` prints registers, spills and the widths of the memory instructions per
target, data type and memory format (``--json`` for programs). It does not work under ``TRITON_INTERPRET=1``, where
kernels are never compiled.
"""

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from .crop_mix import (
    CROP_MIX_ROWS,
    CROP_MIX_WARPS,
    crop_mix_plan_kernel,
    crop_mix_store_kernel,
    tile_of,
)
from .mix import BLOCK, NUM_WARPS, mix_plan_kernel, mix_store_kernel
from .resized_crop import CROP_ROWS, CROP_WARPS, CROP_WIDE, resized_crop_kernel

TARGETS = {
    "sm_75": GPUTarget("cuda", 75, 32),
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
DTYPES = ("fp32", "fp16", "bf16", "u8")
KERNELS = {
    "mix_store": mix_store_kernel,
    "mix_plan": mix_plan_kernel,
    "resized_crop": resized_crop_kernel,
    "crop_mix_store": crop_mix_store_kernel,
    "crop_mix_plan": crop_mix_plan_kernel,
}
_WARPS = {
    "mix_store": NUM_WARPS,
    "mix_plan": NUM_WARPS,
    "resized_crop": CROP_WARPS,
    "crop_mix_store": CROP_MIX_WARPS,
    "crop_mix_plan": CROP_MIX_WARPS,
}
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
        spills: bytes of stack and local memory, plus instructions that reach them; 0 is what we want.
        instructions: number of instructions.
        load_bytes: how many global load instructions there are of each width in bytes per thread.
        store_bytes: the same for global stores.
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


def specialize(kernel: str, dtype: str, planar: bool, size: tuple[int, int] = (224, 224), **other) -> ASTSource:
    """What the launcher of a kernel specializes it for, given images of 3 × size pixels as torch allocates them.

    A crop reads contiguous uint8 images (and counterparts) of 3 × 256 × 256; `dtype` and `planar` are then those of
    its output. `other` are constants in place of what is chosen here, such as C, the number of channels.
    """
    function = KERNELS[kernel]
    pointers = {**_POINTERS, "images": dtype, "out": dtype}
    constants = {
        "C": 3, "INPLACE": False, "ADVANCE": True, "CHECK_LABELS": False, "LAM_TABLE": False, "BOX_INSIDE": False,
        "BEST_ROW": False, "WRITE_PLAN": False, "PLACES": (), "SAME_CROP": False, "THREADS": 32 * _WARPS[kernel],
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
        tiles = {"ROWS": CROP_MIX_ROWS if fused else CROP_ROWS, "WIDE": wide}
    else:
        sizes = {"H": size[0], "W": size[1], "STORE_PLANAR": planar}
        tiles = {"BLOCK": BLOCK}
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
    options = {"num_warps": _WARPS[kernel], "enable_fp_fusion": False}
    if kernel.startswith("crop_mix") and TARGETS[target].backend == "cuda":
        options["maxnreg"] = tile_of(other.get("C", 3))[1]
    return triton.compile(specialize(kernel, dtype, planar, size, **other), target=TARGETS[target], options=options)


_NVIDIA_TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
_WIDTHS = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}
_AMD_WIDTHS = {"dword": 4, "dwordx2": 8, "dwordx3": 12, "dwordx4": 16, "b32": 4, "b64": 8, "b96": 12, "b128": 16}


def _nvidia(cubin: bytes) -> tuple[int, int, int, Counter[int], Counter[int]]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage, sass = (
            subprocess.run([_NVIDIA_TOOLS / tool, *flags, file.name], capture_output=True, text=True, check=True).stdout
            for tool, *flags in (("cuobjdump", "-res-usage"), ("nvdisasm", "-c", "-ndf"))  # -ndf: a quarter less time
        )
    registers, stack, local = (int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK", "LOCAL"))
    spills = stack + local + len(re.findall(r"\b(?:LDL|STL)\b", sass))
    widths: dict[str, Counter[int]] = {"LDG": Counter(), "STG": Counter()}
    for name, modifiers in re.findall(r"\b(LDG|STG)((?:\.\w+)*)", sass):
        width = next((_WIDTHS[part] for part in modifiers.split(".") if part in _WIDTHS), 4)
        widths[name][width] += 1
    instructions = len(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/", sass, re.MULTILINE))
    return registers, spills, instructions, widths["LDG"], widths["STG"]


def _amd(assembly: str) -> tuple[int, int, int, Counter[int], Counter[int]]:
    def number(name: str) -> int:
        return int(re.search(rf"\.{name}:\s+(\d+)", assembly)[1])

    spills = number("vgpr_spill_count") + number("sgpr_spill_count") + number("private_segment_fixed_size")
    widths: dict[str, Counter[int]] = {"load": Counter(), "store": Counter()}
    for name, kind in re.findall(r"\b(?:global|buffer)_(load|store)_(\w+)", assembly):
        kind = kind.removesuffix("_d16_hi").removesuffix("_d16")
        widths[name][_AMD_WIDTHS.get(kind, 1 if "byte" in kind else 2)] += 1
    instructions = len(re.findall(r"^\t[vs]_|^\t(?:global|buffer|ds)_", assembly, re.MULTILINE))
    return number("vgpr_count"), spills, instructions, widths["load"], widths["store"]


def report(kernel: str, target: str, dtype: str, planar: bool, size: tuple[int, int] = (224, 224)) -> Report:
    """Compile one kernel and read the result."""
    compiled = compile_kernel(kernel, target, dtype, planar, size)
    nvidia = TARGETS[target].backend == "cuda"
    facts = _nvidia(compiled.asm["cubin"]) if nvidia else _amd(compiled.asm["amdgcn"])
    registers, spills, instructions, loads, stores = facts
    return Report(
        kernel, target, dtype, planar, registers, spills, instructions, dict(sorted(loads.items())),
        dict(sorted(stores.items())),
    )  # fmt: skip


def _combinations() -> Iterator[tuple[str, str, str, bool]]:
    for kernel in KERNELS:
        for target in TARGETS:
            for dtype in ("bf16", "u8") if "crop" in kernel else DTYPES:  # a crop's output changes its last line only
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
    print(f"triton {triton.__version__}; loads and stores: bytes per thread × number of instructions")
    for row in reports():
        layout = "contiguous" if row.planar else "channels_last"
        widths = [" ".join(f"{b}B×{n}" for b, n in part.items()) for part in (row.load_bytes, row.store_bytes)]
        print(
            f"{row.kernel:15}{row.target:8}{row.dtype:5}{layout:14}{row.registers:4} registers {row.spills:3} spilled "
            f"{row.instructions:5} instructions  loads {widths[0]}  stores {widths[1]}"
        )


if __name__ == "__main__":
    main()
