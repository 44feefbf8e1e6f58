"""Launching a compiled kernel again without Triton's binder.

For each launch Triton works out anew what its arguments specialize a kernel for, which takes the host longer than the
launch itself. Where shapes, dtypes and alignment are those of the last launch, the answer is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor
from torch.cuda import current_device

if TYPE_CHECKING:
    from diffcore_gpu.kernels import Launched

Launch: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor, Tensor], "Launched"]
"""Launches a kernel through Triton with (images, out, index, labels, round, status)."""

_NUM_ARGUMENTS = 8
"""Of a kernel that draws, before its compile-time constants: images to status, constants, plan."""
_ALIGNMENT = 16
"""Bytes; the kernels are compiled for images that are aligned to it, or for such that are not."""


class KeptLaunch:
    """Launches a kernel with (images, out, index, labels, round, status), on images' device and its current stream.

    Args:
        launch: launches it through Triton.
        constants: int64, the packed constants that the kernel takes after these, followed by a plan to write.
    """

    def __init__(self, launch: Launch, constants: Tensor) -> None:
        self._launch = launch
        self._constants = constants
        self._run: Callable[..., None] | None = None
        self._aligned: bool | None = None
        self._rest: tuple[Any, ...] = ()

    def __call__(
        self, images: Tensor, out: Tensor, index: Tensor, labels: Tensor | None, round: Tensor, status: Tensor
    ) -> None:
        """Launch it; every call is for batches of one signature, of which only the addresses differ."""
        if not index.is_contiguous():
            index = index.contiguous()
        if labels is not None and not labels.is_contiguous():
            labels = labels.contiguous()
        source, target = images.data_ptr(), out.data_ptr()
        aligned = (source | target) % _ALIGNMENT == 0
        device = images.device.index
        if self._run is None or aligned is not self._aligned or device != current_device():
            with torch.cuda.device_of(images):
                kernel, grid = self._launch(images, out, index, labels, round, status)
            self._run, self._aligned = kernel[(*grid, 1, 1)], aligned
            # Any address for a plan that is not written, and compile-time constants, which are counted but not read.
            address = self._constants.data_ptr()
            self._rest = address, address, *(None,) * (len(kernel.src.fn.arg_names) - _NUM_ARGUMENTS)
            return
        where = index.data_ptr()
        self._run(
            source, target, where, where if labels is None else labels.data_ptr(), round.data_ptr(), status.data_ptr(),
            *self._rest,
        )  # fmt: skip
