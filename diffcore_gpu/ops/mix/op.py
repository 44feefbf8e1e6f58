"""The mix as torch operators: registration with `torch.library`, dispatch by device, and the public batched op.

The operators are `torch.ops.diffcore.mix_store` (draws the plan itself), `mix_store_plan` (and returns it),
`mix_store_` (in place) and `mix_plan` (the plan is given). Triton runs them on GPUs; on the CPU compiled code does, or
blocked torch code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffcore_gpu.ops.mix.cpu_numba import CompiledMix, cpu_backend, make_ready, mix_compiled
from diffcore_gpu.ops.mix.cpu_torch import mix_cpu
from diffcore_gpu.ops.runtime.arguments import DRAW_SCHEMA, DrawArguments, Source
from diffcore_gpu.ops.runtime.eager import EagerCall
from diffcore_gpu.ops.runtime.launch import KeptLaunch, Launch
from diffcore_gpu.ops.runtime.normalization import affine_on
from diffcore_gpu.ops.runtime.output_cpu import empty_output_like
from diffcore_gpu.ops.runtime.watch import look
from diffcore_gpu.plan import MixPlan, Pairs
from diffcore_gpu.plan.fields import PLAN, check_plan, schema_of, unpack

if TYPE_CHECKING:
    from diffcore_gpu.kernels import Launched

SUPPORTED_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.uint8)

_LIBRARY = torch.library.Library("diffcore", "DEF")
_TAGS = (torch.Tag.needs_exact_strides,)  # the kernels read contiguous and channels_last memory, nothing else
_LIBRARY.define(f"mix_store(Tensor images, {DRAW_SCHEMA}) -> Tensor", tags=_TAGS)
_LIBRARY.define(f"mix_store_plan(Tensor images, {DRAW_SCHEMA}) -> (Tensor, Tensor)", tags=_TAGS)
_LIBRARY.define(f"mix_store_(Tensor(a!) images, {DRAW_SCHEMA}) -> ()", tags=_TAGS)
_LIBRARY.define(
    f"mix_plan(Tensor images, Tensor counterparts, Tensor norm, {schema_of(crops=False)}) -> Tensor", tags=_TAGS
)


def _run_cpu(images: Tensor, out: Tensor, drawn: DrawArguments, packed: Tensor | None = None) -> None:
    fast = cpu_backend(images.dtype) == "numba"
    if fast:
        make_ready(images.dtype)
    look(drawn.shards, drawn.pair_ptr, drawn.indices)  # last: what is cut short between this and the mix is not noticed
    if fast:
        pairs = Pairs(drawn.pair_ptr, drawn.pair_row, drawn.num_rows)
        mix = CompiledMix(
            images.shape[1:], drawn.shards, pairs, drawn.row_label, drawn.lam_table, drawn.norm, drawn.parameters
        )
        plan = None if packed is None else list(PLAN.views(packed, images.shape[0]))
        mix(images, out, drawn.indices, drawn.labels, drawn.round, drawn.seed, drawn.advance, plan)
        return
    drawn_plan = drawn.draw(*images.shape[-2:])
    mix_cpu(images, out, drawn.shards, drawn.norm, drawn_plan)
    drawn.step()
    if packed is not None:
        PLAN.write(packed, vars(drawn_plan), images.shape[0])


def _run_triton(images: Tensor, out: Tensor, drawn: DrawArguments, packed: Tensor | None = None) -> None:
    from diffcore_gpu.kernels import launch_mix_store  # Triton is absent where there is no GPU that it compiles for

    with torch.cuda.device_of(images):  # Triton launches on the current device
        if images.numel():
            launch_mix_store(images, out, drawn.for_kernel(), packed, PLAN.places)
        else:
            drawn.step()


# The arguments after the images are those of `DRAW_SCHEMA`; torch's dispatcher has checked them against it.


def _mix_store_cpu(images: Tensor, *drawn: Any) -> Tensor:
    out = empty_output_like(images)
    _run_cpu(images, out, DrawArguments(*drawn))
    return out


def _mix_store_plan_cpu(images: Tensor, *drawn: Any) -> tuple[Tensor, Tensor]:
    out, packed = empty_output_like(images), PLAN.empty(images.shape[0])
    _run_cpu(images, out, DrawArguments(*drawn), packed)
    return out, packed


def _mix_store_inplace_cpu(images: Tensor, *drawn: Any) -> None:
    _run_cpu(images, images, DrawArguments(*drawn))


def _mix_store_cuda(images: Tensor, *drawn: Any) -> Tensor:
    out = torch.empty_like(images)
    _run_triton(images, out, DrawArguments(*drawn))
    return out


def _mix_store_plan_cuda(images: Tensor, *drawn: Any) -> tuple[Tensor, Tensor]:
    out, packed = torch.empty_like(images), PLAN.empty(images.shape[0], device=images.device)
    _run_triton(images, out, DrawArguments(*drawn), packed)
    return out, packed


def _mix_store_inplace_cuda(images: Tensor, *drawn: Any) -> None:
    _run_triton(images, images, DrawArguments(*drawn))


def _mix_plan_cpu(images: Tensor, counterparts: Tensor, norm: Tensor, row: Tensor, *rest: Tensor) -> Tensor:
    out = empty_output_like(images)
    row = torch.where(row < counterparts.shape[0], row, -1)  # the kernel does the same
    mix = mix_compiled if cpu_backend(images.dtype) == "numba" else mix_cpu
    mix(images, out, [counterparts.contiguous()], norm, MixPlan(row, *rest))
    return out


def _mix_plan_cuda(images: Tensor, counterparts: Tensor, norm: Tensor, *plan: Tensor) -> Tensor:
    from diffcore_gpu.kernels import launch_mix_plan

    out = torch.empty_like(images)
    with torch.cuda.device_of(images):
        if images.numel():
            launch_mix_plan(images, out, counterparts, norm, [field.contiguous() for field in plan])
    return out


for _name, _cpu, _cuda in (
    ("mix_store", _mix_store_cpu, _mix_store_cuda),
    ("mix_store_plan", _mix_store_plan_cpu, _mix_store_plan_cuda),
    ("mix_store_", _mix_store_inplace_cpu, _mix_store_inplace_cuda),
    ("mix_plan", _mix_plan_cpu, _mix_plan_cuda),
):
    _LIBRARY.impl(_name, _cpu, "CPU")
    _LIBRARY.impl(_name, _cuda, "CUDA")  # ROCm builds of torch use this key too

torch.library.register_fake("diffcore::mix_store", lambda images, *_: torch.empty_like(images), lib=_LIBRARY)
torch.library.register_fake(
    "diffcore::mix_store_plan",
    lambda images, *_: (torch.empty_like(images), PLAN.empty(images.shape[0], device=images.device)),
    lib=_LIBRARY,
)
torch.library.register_fake("diffcore::mix_store_", lambda *_: None, lib=_LIBRARY)
torch.library.register_fake("diffcore::mix_plan", lambda images, *_: torch.empty_like(images), lib=_LIBRARY)


def launch_again(source: Source, advance: bool) -> Launch:
    """The launch of `mix_store` with one source, for `KeptLaunch`."""

    def launch(
        images: Tensor, out: Tensor, index: Tensor, labels: Tensor | None, round: Tensor, status: Tensor
    ) -> Launched:
        from diffcore_gpu.kernels import launch_mix_store

        return launch_mix_store(images, out, source.arguments(index, labels, round, status, advance).for_kernel())

    return launch


class MixOp:
    """Draws and mixes batches with one `Source`, by the operators above or, where it may, around the dispatcher.

    Args:
        source: what plans are drawn from.
        inplace: write into the images.
    """

    def __init__(self, source: Source, inplace: bool) -> None:
        self.source = source
        self.inplace = inplace

    def __call__(
        self, images: Tensor, index: Tensor, labels: Tensor | None, round: Tensor, status: Tensor, advance: bool
    ) -> Tensor:
        """The mixed batch."""
        arguments = self.source.arguments(index, labels, round, status, advance)
        dense = as_dense(images)
        ops = torch.ops.diffcore
        if not self.inplace:
            return ops.mix_store(dense, *arguments)  # type: ignore[no-any-return]
        # Inductor may move the images to another layout and then mutate a copy of them; a plain copy_ it gets right.
        if dense is not images or torch.compiler.is_compiling():
            return images.copy_(ops.mix_store(dense, *arguments))
        ops.mix_store_(images, *arguments)
        torch.autograd.graph.increment_version(images)
        return images

    def with_plan(
        self, images: Tensor, index: Tensor, labels: Tensor | None, round: Tensor, status: Tensor, advance: bool
    ) -> tuple[Tensor, MixPlan]:
        """The mixed batch and what was done."""
        arguments = self.source.arguments(index, labels, round, status, advance)
        mixed, packed = torch.ops.diffcore.mix_store_plan(as_dense(images), *arguments)
        return images.copy_(mixed) if self.inplace else mixed, unpack(packed, images.shape[0])

    def given(self, images: Tensor, rows: Tensor, plan: MixPlan) -> Tensor:
        """The batch mixed by a plan that is there; its rows count in `rows`."""
        mixed = torch.ops.diffcore.mix_plan(as_dense(images), rows, self.source.norm, *plan.tensors())
        return images.copy_(mixed) if self.inplace else mixed

    def eager(self, images: Tensor, index: Tensor, labels: Tensor | None, advance: bool) -> EagerCall | None:
        """The same call without the dispatcher, for batches like this one; None where there is no such way."""
        if as_dense(images) is not images or not images.numel():
            return None
        if images.is_cuda:
            run = KeptLaunch(launch_again(self.source, advance), self.source.constants)
            return EagerCall(run, None if self.inplace else torch.empty_like, images, index, labels, advance)
        if cpu_backend(images.dtype) != "numba":
            return None
        s = self.source
        mix = CompiledMix(images.shape[1:], s.shards, s.pairs, s.row_label, s.lam_table, s.norm, s.parameters)

        def run_compiled(
            images: Tensor, out: Tensor, index: Tensor, labels: Tensor | None, round: Tensor, status: Tensor
        ) -> None:
            look(s.shards, s.pairs.pair_ptr, index)
            mix(images, out, index, labels, round, s.seed, advance)

        return EagerCall(run_compiled, None if self.inplace else empty_output_like, images, index, labels, advance)


def as_dense(images: Tensor) -> Tensor:
    """Images that are contiguous or channels_last: themselves, or a contiguous copy where their strides are neither."""
    if images.is_contiguous() or images.is_contiguous(memory_format=torch.channels_last):
        return images
    return images.contiguous()


def check_images(images: Tensor) -> None:
    """Refuse what no mix can take.

    Raises:
        ValueError: not [B, C, H, W], an unsupported dtype, or images that require grad.
    """
    if images.dim() != 4:
        raise ValueError(f"images must be a batch [B, C, H, W], got shape {list(images.shape)}.")
    if images.dtype not in SUPPORTED_DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in SUPPORTED_DTYPES)
        raise ValueError(f"images must be one of {names}, got {str(images.dtype).removeprefix('torch.')}.")
    if images.requires_grad and torch.is_grad_enabled():
        raise ValueError("images require grad, but the mix is not differentiable; mix them before they do, or detach.")


def mix(
    images: Tensor,
    counterparts: Tensor,
    plan: MixPlan,
    *,
    mean: Sequence[float] | Tensor | float | None = None,
    std: Sequence[float] | Tensor | float | None = None,
) -> Tensor:
    """Mix a batch with counterparts as a plan says (eqs. 6–8), with one kernel launch on a GPU.

    Where `mix_reference` takes one counterpart per image, this gathers: row r of the plan is ``counterparts[r]``.

    Args:
        images: [B, C, H, W] uint8, float32, float16 or bfloat16, any strides (contiguous and channels_last without a
            copy).
        counterparts: uint8 [N, C, H, W] on images' device.
        plan: the plan of the B samples on the same device; a row of N or more counts as none.
        mean: C numbers that were subtracted from float images, in units of [0, 1]; None: 0. Not used for uint8 images.
        std: C numbers that they were divided by; None: 1. Not used for uint8 images.

    Returns:
        New images of the same shape and dtype. float32 is within 1 unit in the last place of the exact result (on a
        GPU, within 2⁻⁴⁰ of the larger operand where nearly everything cancels), float16 and bfloat16 are computed in
        float32 or wider and then rounded; uint8 is rounded to nearest, ties to even, with λ
        taken as a multiple of 2⁻²⁴ (as `draw_plan` gives it).

    Raises:
        ValueError: shapes, dtypes or devices that do not fit together.
    """
    check_images(images)
    if counterparts.dtype != torch.uint8 or counterparts.dim() != 4 or counterparts.shape[1:] != images.shape[1:]:
        raise ValueError(
            f"counterparts must be uint8 [N, {', '.join(map(str, images.shape[1:]))}] like the images, got "
            f"{str(counterparts.dtype).removeprefix('torch.')} {list(counterparts.shape)}."
        )
    check_plan(plan, images)
    if counterparts.device != images.device:
        raise ValueError(f"counterparts lies on {counterparts.device}, but the images on {images.device}.")
    norm = affine_on(mean, std, images.shape[1], images.device)
    mixed: Tensor = torch.ops.diffcore.mix_plan(
        as_dense(images), as_dense(counterparts), norm, *plan.tensors()[: len(PLAN.fields)]
    )
    return mixed
