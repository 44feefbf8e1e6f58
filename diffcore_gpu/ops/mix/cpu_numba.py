"""Draw and mix on the CPU in compiled code: one pass over the pixels on torch's threads, without an operator of torch.

An operator takes as long to start as to mix some ten thousand values, so `diffcore_gpu.ops.mix.cpu_torch` is bound by
how many it calls; this is bound by memory. It needs numba (the extra "cpu") and gives the same result: the plan is the
same bit for bit, and values are computed in float64 and rounded alike.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from diffcore_gpu.ops.runtime.numba_code import compiled, division, numba_module, run_on_threads
from diffcore_gpu.plan import MixPlan, Pairs, check_index_range, check_labels
from diffcore_gpu.plan.fields import PLAN

CpuBackend: TypeAlias = Literal["numba", "torch"]

_MODULE = "diffcore_gpu.ops.mix.numba_kernels"

_FUNCTIONS = {
    torch.float32: "mix_float",
    torch.float16: "mix_half",
    torch.bfloat16: "mix_bfloat",
    torch.uint8: "mix_byte",
}

_VALUES_PER_THREAD = 1 << 16
"""A thread for each so many values: below, to wake another takes longer than it saves."""

_NUM_NEW = 17
"""Arguments that are new in every call, the first of `numba_kernels.Argument`."""


def cpu_backend(dtype: torch.dtype) -> CpuBackend:
    """What mixes images of a dtype on the CPU here.

    Args:
        dtype: of the images.

    Returns:
        "numba": one compiled pass over the pixels, where numba is installed. "torch": some torch operators for each
        image, in a multiple of the time.
    """
    return "numba" if dtype in _FUNCTIONS and numba_module(_MODULE) is not None else "torch"


def _of_images(images: Tensor, out: Tensor, lines: int) -> tuple[int, int, int, int]:
    """What is new of the images in every call, in the order of `numba_kernels.Argument`; `lines` is of `division`."""
    return not images.is_contiguous(), lines, images.data_ptr(), out.data_ptr()


_NO_IMAGES = 0, 1, 0, 0
"""The same for a call that draws alone."""


def _same_arguments(
    image_shape: Sequence[int], norm: Tensor, shards: Sequence[Tensor], drawing: Sequence[int] = (0,) * 16
) -> list[int]:
    """What is the same for every batch, in that order, the shards last.

    Args:
        image_shape: (C, H, W).
        norm: of `affine_of`.
        shards: of the store.
        drawing: from the address of `pair_ptr` to the last of `DrawParameters`.
    """
    table: list[int] = []
    first_row = 0
    for shard in shards:
        table += shard.data_ptr(), first_row
        first_row += shard.shape[0]
    return [*image_shape, norm.data_ptr(), *drawing, len(shards), *table]


def make_ready(dtype: torch.dtype) -> None:
    """Load or compile what mixes images of a dtype of `cpu_backend`, so that the call itself takes no time for it."""
    for function in ("draw", _FUNCTIONS[dtype]):
        compiled(_MODULE, function)


def _run_mix(images: Tensor, arguments: int, threads: int) -> None:
    if images.numel():
        run_on_threads(compiled(_MODULE, _FUNCTIONS[images.dtype]).address, arguments, threads)


def mix_compiled(images: Tensor, out: Tensor, shards: Sequence[Tensor], norm: Tensor, plan: MixPlan) -> None:
    """`mix_cpu` in compiled code."""
    threads, lines = division(images, _VALUES_PER_THREAD)
    fields = [field.contiguous() for field in (plan.row, plan.pixel, plan.lam, plan.box, plan.inside_real)]
    of_plan = [field.data_ptr() for field in fields]
    values = [*of_plan, images.shape[0], *_of_images(images, out, lines), *(0,) * 7]
    values += _same_arguments(images.shape[1:], norm, shards)
    arguments = (ctypes.c_int64 * len(values))(*values)
    _run_mix(images, ctypes.addressof(arguments), threads)


class CompiledMix:
    """Draws and mixes with one store and one setting: what is the same for every batch is laid out once.

    Immutable, so threads share it. It holds addresses, so it is made anew and neither copied nor pickled.

    Args:
        image_shape: (C, H, W) of the images and of the rows.
        shards: contiguous uint8 [n_i, C, H, W] each; the pairs count through them.
        pairs: which rows belong to which sample.
        row_label: int64 [num_rows].
        lam_table: `PlanConfig.lam_table`.
        norm: float32 [2, C, 4] of `affine_of`.
        parameters: the integers of `DrawParameters`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        shards: Sequence[Tensor],
        pairs: Pairs,
        row_label: Tensor,
        lam_table: Tensor | None,
        norm: Tensor,
        parameters: Sequence[int],
    ) -> None:
        pair_ptr, pair_row, row_label = pairs.pair_ptr.contiguous(), pairs.pair_row.contiguous(), row_label.contiguous()
        self._held = shards, pair_ptr, pair_row, lam_table, norm  # as long as their addresses are used
        self._row_label = row_label
        self._num_samples = pair_ptr.shape[0] - 1
        drawing = (
            pair_ptr.data_ptr(),
            self._num_samples,
            pair_row.data_ptr(),
            pair_row.shape[0],
            pairs.num_rows,
            row_label.data_ptr(),
            0 if lam_table is None else lam_table.data_ptr(),
            *parameters,
        )
        values = [0] * _NUM_NEW + _same_arguments(image_shape, norm, shards, drawing)
        self._layout = ctypes.c_int64 * len(values)
        self._template = bytes(self._layout(*values))
        self._num_bytes = len(self._template)

    def __call__(
        self,
        images: Tensor,
        out: Tensor,
        index: Tensor,
        labels: Tensor | None,
        round: Tensor,
        seed: int,
        advance: bool,
        plan: Sequence[Tensor] | None = None,
    ) -> None:
        """Draw the plan of a batch, write the mixed batch, and advance the round.

        Args:
            images: [B, C, H, W] of a dtype of `cpu_backend`, contiguous or channels_last.
            out: like images and of the same strides, or images itself.
            index: int64 [B].
            labels: int64 [B], to compare with those of the counterparts, or None.
            round: int64, one element.
            seed: 64-bit key; taken modulo 2⁶⁴.
            advance: whether to add one to the round.
            plan: memory that the plan is written into, of `PLAN.views`; None: it is not kept.

        Raises:
            ValueError: an index is outside the store, or a label is not that of its counterpart; nothing has changed.
        """
        threads, lines = division(images, _VALUES_PER_THREAD)
        memory = self._draw(index, labels, round, seed, advance, plan, _of_images(images, out, lines))
        _run_mix(images, ctypes.addressof(memory), threads)

    def draw(self, index: Tensor, labels: Tensor | None, round: Tensor, seed: int, plan: Sequence[Tensor]) -> None:
        """Draw the plan of a batch alone; arguments, and what is raised, as in a call. The round stays."""
        self._draw(index, labels, round, seed, False, plan, _NO_IMAGES)

    def _draw(
        self, index: Tensor, labels: Tensor | None, round: Tensor, seed: int, advance: bool,
        plan: Sequence[Tensor] | None, of_images: Sequence[int],
    ) -> Any:  # fmt: skip
        """Draw, and return the arguments, a ctypes array of int64 that holds on to the memory behind it."""
        batch = index.shape[0]
        index = index.contiguous()
        labels = None if labels is None else labels.contiguous()
        # One piece of memory for the arguments and, behind them, for a plan that nobody wants to see.
        memory = bytearray(self._num_bytes + (PLAN.nbytes(batch) if plan is None else 0))
        memory[: self._num_bytes] = self._template
        arguments = self._layout.from_buffer(memory)
        address = ctypes.addressof(arguments)
        if plan is None:
            fields = PLAN.addresses(address + self._num_bytes, batch)
        else:
            fields = [field.data_ptr() for field in plan]
        drawing = index.data_ptr(), 0 if labels is None else labels.data_ptr(), round.data_ptr(), advance, seed
        arguments[:_NUM_NEW] = [*fields, batch, *of_images, *drawing, 0, 0]
        run_on_threads(compiled(_MODULE, "draw").address, address, 1)
        if arguments[_NUM_NEW - 1]:
            rows = plan[0] if plan else torch.frombuffer(memory, dtype=torch.int64, count=batch, offset=self._num_bytes)
            check_index_range(index, self._num_samples)
            if labels is not None:
                check_labels(index, labels, rows, self._row_label[rows.clamp(min=0)])
            raise AssertionError("The compiled draw refused a batch that torch does not.")
        return arguments
