"""What a kernel is compiled for, and what it is not.

Triton compiles a kernel anew for each combination of types and constants, and where nobody forbids it also for numbers
that are 1 or divisible by 16, and for pointers that are divisible by 16. A slice of the indices, or a short last batch,
would then stop a training run for seconds. Only where pixels are read and written does the alignment make the code
better: there it allows loads of 16 bytes. torch aligns what it allocates, and a batch of images begins with its memory.
Of a store whose address stands among the constants, the alignment is required.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import triton
import triton.language as tl

ALIGNED = ("images", "out", "store")


class Launched(NamedTuple):
    """What a launch ran, to run it again without asking Triton what its arguments specialize it for.

    Attributes:
        kernel: triton's `CompiledKernel`; None in Triton's interpreter.
        grid: of the launch.
    """

    kernel: Any
    grid: tuple[int, ...]


def batch_kernel(function: Callable) -> triton.JITFunction:
    """`triton.jit` for a kernel that is launched for every batch: its types and constants decide what is compiled.

    Of all other arguments only the alignment of those in `ALIGNED` does.
    """
    parameters = inspect.signature(function, eval_str=True).parameters.items()
    names = [name for name, given in parameters if given.annotation is not tl.constexpr and name not in ALIGNED]
    return triton.jit(do_not_specialize=names, do_not_specialize_on_alignment=names)(function)
