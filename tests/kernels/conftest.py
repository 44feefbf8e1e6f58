"""What Triton's interpreter must do as compiled kernels do, for tests of every bit."""

import os

import numpy as np
import torch


def _round_bfloat16_to_nearest() -> None:
    """Round float32 to bfloat16 to nearest, ties to even; the interpreter cuts the lower bits off."""
    import triton.language as tl
    from triton.runtime import interpreter

    cast = interpreter.InterpreterBuilder.cast_impl

    def cast_impl(self: object, source: object, target: object) -> object:
        if source.dtype.scalar != tl.float32 or target.scalar != tl.bfloat16:
            return cast(self, source, target)
        rounded = torch.from_numpy(np.ascontiguousarray(source.data)).to(torch.bfloat16)
        return interpreter.TensorHandle(rounded.view(torch.uint16).numpy(), tl.bfloat16)

    interpreter.InterpreterBuilder.cast_impl = cast_impl


if os.environ.get("TRITON_INTERPRET") == "1":
    _round_bfloat16_to_nearest()
