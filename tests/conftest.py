"""Fixtures that every test may use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import settings

# A slow machine is no failure.
settings.register_profile("diffcore-gpu", deadline=None)
settings.load_profile("diffcore-gpu")

if TYPE_CHECKING:
    from diffcore_gpu import CounterpartStore

# Without a GPU, Triton's kernels run in its interpreter. It must be chosen before triton is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Under pytest-xdist the workers share the processors: one thread for each, and for every process that it starts.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
else:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> CounterpartStore:
    """The store of `tests.stores`; it is not changed."""
    from tests.stores import write_store

    return write_store(tmp_path_factory.mktemp("stores") / "small")


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of test data."""
    return torch.Generator().manual_seed(20240521)


def _round_fma_once() -> None:
    """Make the interpreter's fma round once, as hardware does; before Triton 3.9 it rounds the product first.

    The product of two float32 is exact in float64, so the error terms that the kernels take from an fma are exact too.
    """
    from triton.runtime import interpreter

    def create_fma(self: object, x: object, y: object, z: object) -> object:
        wide = x.data.astype(np.float64) * y.data + z.data
        return interpreter.TensorHandle(wide.astype(z.data.dtype), z.dtype.scalar)

    interpreter.InterpreterBuilder.create_fma = create_fma


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
    import triton

    _round_bfloat16_to_nearest()

    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < (3, 9):
        _round_fma_once()
