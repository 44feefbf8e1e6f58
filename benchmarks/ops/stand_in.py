"""A driver for Triton that stands in for a GPU's: kernels are compiled for sm_90 and launched, and nothing runs.

With it the host's share of a launch is measured on a machine without a GPU, by the code that a GPU would have run: all
of Triton's Python up to where it calls the driver. What the driver itself takes is left out, for every arm alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from diffcore_gpu import DiffCoreMix
from diffcore_gpu.errors import BenchmarkError
from diffcore_gpu.ops.mix.op import MixOp, launch_again
from diffcore_gpu.ops.runtime import eager, launch

_TARGET = GPUTarget("cuda", 90, 32)


class _Launcher:
    """In place of the compiled one that calls cuLaunchKernel: takes what it takes."""

    def __init__(self, source: Any, metadata: Any) -> None:
        pass

    def __call__(self, *arguments: Any) -> None:
        """Launch nothing."""


class _Driver:
    """What Triton asks of a driver in order to compile, load and launch."""

    launcher_cls = _Launcher
    utils = SimpleNamespace(
        get_device_properties=lambda device: {"max_shared_mem": 232448},
        load_binary=lambda name, binary, shared, device: (1, 1, 0, 0, 1024),
        unload_module=lambda module: None,
    )

    def get_current_device(self) -> int:
        """The number of the device."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """A handle of a stream."""
        return 0

    def get_current_target(self) -> GPUTarget:
        """What kernels are compiled for."""
        return _TARGET


def _number_of_the_cpu() -> None:
    """The number of the device of a tensor on the CPU."""


@contextmanager
def stand_in_driver() -> Iterator[None]:
    """Triton launches by a driver that does nothing, and kernels are launched for tensors on the CPU.

    Raises:
        BenchmarkError: Triton's interpreter is on, so that nothing is compiled.
    """
    from triton import knobs

    if knobs.runtime.interpret:
        raise BenchmarkError("Triton's interpreter launches nothing; unset TRITON_INTERPRET.")
    before = driver._active
    driver.set_active(_Driver())
    try:
        with mock.patch.object(launch, "current_device", _number_of_the_cpu):
            yield
    finally:
        driver._active = before


def launch_on_stand_in(mix: DiffCoreMix, images: torch.Tensor, index: torch.Tensor) -> eager.EagerCall:
    """Make a mix on the CPU launch its kernel for such batches, as it would on a GPU; what it returns is undefined."""
    if not isinstance(mix._op, MixOp):
        raise BenchmarkError("the stand-in measures the mix without geometry.")
    run = launch.KeptLaunch(launch_again(mix._op.source, mix.counts_rounds), mix._op.source.constants)
    mix._eager = eager.EagerCall(run, torch.empty_like, images, index, None, mix.counts_rounds)
    return mix._eager
