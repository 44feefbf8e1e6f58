"""The mix as torch operators: registration with `torch.library`, dispatch by device, and the public batched op.

The operators are `torch.ops.diffcore.mix_store` (draws the plan itself), `mix_store_plan` (and returns it),
`mix_store_` (in place) and `mix_plan` (the plan is given). Triton runs them on GPUs; on the CPU compiled code does, or
blocked torch code.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffcore_gpu.ops.mix.cpu_numba import CompiledMix, cpu_backend, mix_compiled
from diffcore_gpu.ops.mix.cpu_torch import mix_cpu
from diffcore_gpu.ops.runtime.drawing import DRAW_SCHEMA, DrawArguments, PlanTensors, check_plan, empty_plan
from diffcore_gpu.ops.runtime.normalization import affine_on
from diffcore_gpu.ops.runtime.output_cpu import empty_output_like
from diffcore_gpu.plan import MixPlan, Pairs

SUPPORTED_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.uint8)

_LIBRARY = torch.library.Library("diffcore", "DEF")
_PLAN = "Tensor row, Tensor pixel, Tensor lam, Tensor box, Tensor inside_real"
_TAGS = (torch.Tag.needs_exact_strides,)  # the kernels read contiguous and channels_last memory, nothing else
_LIBRARY.define(f"mix_store(Tensor images, {DRAW_SCHEMA}) -> Tensor", tags=_TAGS)
_LIBRARY.define(
    f"mix_store_plan(Tensor images, {DRAW_SCHEMA}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)", tags=_TAGS
)
_LIBRARY.define(f"mix_store_(Tensor(a!) images, {DRAW_SCHEMA}) -> ()", tags=_TAGS)
_LIBRARY.define(f"mix_plan(Tensor images, Tensor counterparts, Tensor norm, {_PLAN}) -> Tensor", tags=_TAGS)


def _run_cpu(images: Tensor, out: Tensor, drawn: DrawArguments) -> PlanTensors:
    if cpu_backend(images.dtype) == "numba":
        plan = empty_plan(drawn.indices)
        pairs = Pairs(drawn.pair_ptr, drawn.pair_row, drawn.num_rows)
        mix = CompiledMix(
            images.shape[1:], drawn.shards, pairs, drawn.row_label, drawn.lam_table, drawn.norm, drawn.parameters
        )
        mix(images, out, drawn.indices, drawn.labels, drawn.round, drawn.seed, drawn.advance, plan)
        return plan
    drawn_plan = drawn.draw(*images.shape[-2:])
    mix_cpu(images, out, drawn.shards, drawn.norm, drawn_plan)
    drawn.step()
    return drawn_plan.row, drawn_plan.pixel, drawn_plan.lam, drawn_plan.box, drawn_plan.inside_real


def _run_triton(images: Tensor, out: Tensor, drawn: DrawArguments, plan: PlanTensors | None = None) -> None:
    from diffcore_gpu.kernels import launch_mix_store  # Triton is absent where there is no GPU that it compiles for

    with torch.cuda.device_of(images):  # Triton launches on the current device
        if images.numel():
            launch_mix_store(images, out, drawn.shards[0], drawn.norm, drawn.for_kernel(), plan)
        drawn.step()


# The arguments after the images are those of `DRAW_SCHEMA`; torch's dispatcher has checked them against it.


def _mix_store_cpu(images: Tensor, *drawn: Any) -> Tensor:
    out = empty_output_like(images)
    _run_cpu(images, out, DrawArguments(*drawn))
    return out


def _mix_store_plan_cpu(images: Tensor, *drawn: Any) -> tuple[Tensor, ...]:
    out = empty_output_like(images)
    return out, *_run_cpu(images, out, DrawArguments(*drawn))


def _mix_store_inplace_cpu(images: Tensor, *drawn: Any) -> None:
    _run_cpu(images, images, DrawArguments(*drawn))


def _mix_store_cuda(images: Tensor, *drawn: Any) -> Tensor:
    out = torch.empty_like(images)
    _run_triton(images, out, DrawArguments(*drawn))
    return out


def _mix_store_plan_cuda(images: Tensor, index: Tensor, *drawn: Any) -> tuple[Tensor, ...]:
    out, plan = torch.empty_like(images), empty_plan(index)
    _run_triton(images, out, DrawArguments(index, *drawn), plan)
    return out, *plan


def _mix_store_inplace_cuda(images: Tensor, *drawn: Any) -> None:
    _run_triton(images, images, DrawArguments(*drawn))


def _mix_plan_cpu(images: Tensor, counterparts: Tensor, norm: Tensor, row: Tensor, *rest: Tensor) -> Tensor:
    out = empty_output_like(images)
    row = torch.where(row < counterparts.shape[0], row, -1)  # the kernel does the same
    mix = mix_compiled if cpu_backend(images.dtype) == "numba" else mix_cpu
    mix(images, out, [counterparts], norm, MixPlan(row, *rest))
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
    lambda images, index, *_: (torch.empty_like(images), *empty_plan(index)),
    lib=_LIBRARY,
)
torch.library.register_fake("diffcore::mix_store_", lambda *_: None, lib=_LIBRARY)
torch.library.register_fake("diffcore::mix_plan", lambda images, *_: torch.empty_like(images), lib=_LIBRARY)


def as_dense(images: Tensor) -> Tensor:
    """Images that are contiguous or channels_last: themselves, or a contiguous copy where their strides are neither."""
    if images.is_contiguous() or images.is_contiguous(memory_format=torch.channels_last):
        return images
    return images.contiguous()


def can_mix_directly(images: Tensor) -> bool:
    """Whether `CompiledMix` may mix these images, outside of torch's compiler, without the operators above.

    The way through torch's dispatcher takes as long as to mix an image. It is needed where a profiler or a tracer looks
    on, and where a subclass, a mode or a transform takes operators over.
    """
    return (
        images.is_cpu
        and type(images) is Tensor
        and not torch.autograd.profiler._is_profiler_enabled
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch._C._get_tracing_state() is None
        and cpu_backend(images.dtype) == "numba"
    )


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
        New images of the same shape and dtype, within 1 unit in the last place of the exact result (on a GPU, within
        2⁻⁴⁰ of the larger operand where nearly everything cancels); uint8 is rounded to nearest, ties to even, with λ
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
        as_dense(images), counterparts.contiguous(), norm, plan.row, plan.pixel, plan.lam, plan.box, plan.inside_real
    )
    return mixed
