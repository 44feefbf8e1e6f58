"""What the transform costs within training steps of a real model: the measurement behind `diffcore profile`.

The images are synthetic and lie ready in host memory, so the loader costs what bringing a batch to the device costs and
no decoding. Steps are timed without the profiler, which slows them; then a few more run under it, for the trace and the
count of kernels.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, record_function

from diffcore_gpu.errors import DiffcoreError, clause
from diffcore_gpu.plan import MixPlan, draw_plan
from diffcore_gpu.store.residency import Residency

if TYPE_CHECKING:
    from diffcore_gpu.store import CounterpartStore

Amp: TypeAlias = Literal["off", "bf16"]

_WARM_UP_STEPS = 3
_TRACED_STEPS = 5
_COPY_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}
"""Larger than the caches, where the memory allows it."""


class ProfileError(DiffcoreError):
    """A profile cannot be made of this model, store and device."""


@dataclass(frozen=True)
class TrainingProfile:
    """Medians over the timed steps, and what follows from them; times in seconds.

    On a GPU, times are between events on the stream that trains, so that of the mix includes gaps between kernels.

    Attributes:
        device: its name.
        residency: where the counterparts lived.
        model: the model's name.
        batch_size: samples in a step.
        image_shape: (C, H, W).
        amp: "off" or "bf16", the precision of the model; images are float32.
        steps: how many steps were timed.
        step_seconds: one whole step, loader and mix included.
        mix_seconds: the mix.
        mix_share: `mix_seconds` over `step_seconds`.
        mix_kernels: kernels and copies that one mix launched; None on the CPU.
        mix_bytes: bytes that one mix must move at least, mean over the timed steps.
        copy_bytes_per_second: bytes read and written each second by a copy on the same device in the same run.
        copy_fraction: `mix_bytes` over `mix_seconds`, as a fraction of that.
        loader_seconds: how long the device had nothing to do but to wait for the next batch.
        loader_share: `loader_seconds` over `step_seconds`.
        traced_steps: how many steps the trace holds.
        trace: where the Chrome trace was written; None: nowhere.
    """

    device: str
    residency: str
    model: str
    batch_size: int
    image_shape: tuple[int, int, int]
    amp: Amp
    steps: int
    step_seconds: float
    mix_seconds: float
    mix_share: float
    mix_kernels: float | None
    mix_bytes: float
    copy_bytes_per_second: float
    copy_fraction: float
    loader_seconds: float
    loader_share: float
    traced_steps: int
    trace: Path | None

    @property
    def waited(self) -> bool:
        """Whether the device waited for the loader: in more than 2 % of the time."""
        return self.loader_share > 0.02


def bytes_to_move(plan: MixPlan, image_shape: tuple[int, int, int], itemsize: int) -> int:
    """Bytes that a mix out of place must at least read and write.

    Per value: pixel-wise with 0 < λ < 1 `itemsize` (real) + 1 (counterpart) + `itemsize` (result); otherwise whichever
    of the two images shows there, + `itemsize`; without a counterpart 2·`itemsize`.

    Args:
        plan: of the batch.
        image_shape: (C, H, W).
        itemsize: bytes of one value of the images.
    """
    channels, height, width = image_shape
    top, left, bottom, right = plan.box.to(torch.int64).unbind(-1)
    inside = (bottom - top).clamp(min=0) * (right - left).clamp(min=0)
    real = torch.where(plan.inside_real, inside, height * width - inside)
    generated = height * width - real
    both = plan.pixel & (plan.lam > 0) & (plan.lam < 1)
    real = torch.where(both | (plan.pixel & (plan.lam == 1)), height * width, real)
    generated = torch.where(both | (plan.pixel & (plan.lam == 0)), height * width, generated)
    real = torch.where(plan.pixel & (plan.lam == 0), 0, real)
    generated = torch.where(plan.pixel & (plan.lam == 1), 0, generated)
    without = plan.row < 0
    real, generated = torch.where(without, height * width, real), torch.where(without, 0, generated)
    return channels * int((real * itemsize + generated + height * width * itemsize).sum())


class _Marks:
    """Points in time on the device: events of its stream, or the clock on the CPU."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"

    def now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: Any, end: Any) -> float:
        return start.elapsed_time(end) / 1e3 if self._cuda else end - start  # type: ignore[no-any-return]

    def finish(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()


def copy_speed(device: torch.device, repeats: int = 7) -> float:
    """Bytes per second, read plus written, of a copy from one large buffer to another on the device.

    Args:
        device: the CPU or a GPU.
        repeats: how many copies the median is taken of.
    """
    marks, size = _Marks(device), _COPY_BYTES[device.type]
    if device.type == "cuda":
        size = min(size, torch.cuda.mem_get_info(device)[0] // 8)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    target.copy_(source)
    times = []
    for _ in range(repeats):
        start = marks.now()
        target.copy_(source)
        times.append((start, marks.now()))
    marks.finish()
    return 2 * size / median(marks.seconds(start, end) for start, end in times)


def model_of(name: str, num_classes: int) -> nn.Module:
    """A torchvision classifier with random weights.

    Raises:
        ProfileError: torchvision is missing, or has no such classifier.
    """
    try:
        from torchvision import models
    except ImportError as error:
        raise ProfileError(
            f"The models come from torchvision, which cannot be imported ({clause(error)}); pip install torchvision."
        ) from error
    if name not in models.list_models(module=models):
        raise ProfileError(
            f"torchvision has no classifier named {name!r}; resnet18 and convnext_tiny are two that it has."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of how the weights are drawn, which does not matter here
        model: nn.Module = models.get_model(name, weights=None, num_classes=num_classes)
    return model


class _Steps:
    """A training loop over synthetic images, with a mark before and after each of its parts."""

    def __init__(
        self,
        store: CounterpartStore,
        model: nn.Module,
        batch_size: int,
        device: torch.device,
        amp: Amp,
        residency: Residency,
    ) -> None:
        from diffcore_gpu.transform import DiffCoreMix

        # The images are made up, so no dataset can be the wrong one; the caller's store stays unbound if it is.
        store = store.restricted_to(range(store.num_samples))
        store.bind(store.labels, labels=store.labels)
        self._device, self._batch_size, self._amp, self._store = device, batch_size, amp, store
        self.mix = DiffCoreMix(store, residency=residency).to(device)
        self.model = model.to(device).train()
        self._optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        generator = torch.Generator().manual_seed(0)
        self._generator = generator
        images = torch.randn((batch_size, *store.image_shape), generator=generator)
        labels = torch.randint(len(store.class_names), (batch_size,), generator=generator)
        pin = device.type == "cuda"
        self._images, self._labels = (images.pin_memory(), labels.pin_memory()) if pin else (images, labels)
        self.marks = _Marks(device)

    def _loader(self, steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for _ in range(steps):
            index = torch.randint(self._store.num_samples, (self._batch_size,), generator=self._generator)
            yield self._images, self._labels, index

    def run(self, steps: int, after: Callable[[], None] = lambda: None) -> Iterator[tuple[list[Any], Tensor]]:
        """Train; yields the marks (start, batch is there, mixed, end) and the index of each step."""
        from diffcore_gpu.prefetch import PrefetchLoader

        autocast = (
            torch.autocast(self._device.type, torch.bfloat16) if self._amp == "bf16" else contextlib.nullcontext()
        )
        marks = self.marks
        batches = iter(PrefetchLoader(self._loader(steps), self.mix, self._device))
        for _ in range(steps):
            times = [marks.now()]
            with record_function("diffcore::next_batch"):
                images, labels, index = next(batches)
            times.append(marks.now())
            mixed = self.mix(images, index)
            times.append(marks.now())
            with autocast:
                output = self.model(mixed)
                logits = output if isinstance(output, Tensor) else output[0]  # some have auxiliary outputs in training
                loss = nn.functional.cross_entropy(logits.float(), labels)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            times.append(marks.now())
            after()
            yield times, index


def profile_training(
    store: CounterpartStore,
    *,
    model: str = "resnet18",
    batch_size: int = 16,
    steps: int = 10,
    device: torch.device | str = "cpu",
    amp: Amp = "off",
    residency: Residency = "auto",
    trace: Path | None = None,
) -> TrainingProfile:
    """Train a torchvision model for some steps on synthetic images of the store's size, and measure the transform.

    Args:
        store: whose counterparts are mixed, with random indices and the defaults of `DiffCoreMix`.
        model: name of a torchvision classifier.
        batch_size: samples in a step, at least 1.
        steps: timed steps, at least 1; three before them warm up, and at most five after them are traced.
        device: the CPU or a GPU.
        amp: "bf16": the model runs under autocast to bfloat16.
        residency: see `DiffCoreMix`.
        trace: a file to write the Chrome trace of the traced steps into (for Perfetto or chrome://tracing).

    Raises:
        ProfileError: torchvision is missing or does not know the model, the model cannot be trained on such batches,
            the device is not there, or the trace cannot be written.
        ValueError: batch_size or steps is below 1.
        StoreError: the store does not fit where `residency` wants it.
    """
    if batch_size < 1 or steps < 1:
        raise ValueError(f"batch_size and steps must be at least 1, got {batch_size} and {steps}.")
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ProfileError("torch finds no GPU on this machine; use --device cpu.")
    if device.type not in _COPY_BYTES:
        raise ProfileError(f"DiffCoreMix runs on the CPU and on CUDA or ROCm GPUs, not on {device}.")
    if store.image_shape[0] != 3:
        raise ProfileError(f"torchvision's models take 3 channels, but {store.path} has {store.image_shape[0]}.")
    if trace is not None and (trace.is_dir() or not trace.absolute().parent.is_dir()):
        raise ProfileError(f"{trace} cannot be written: it is a folder, or in a folder that does not exist.")

    on_device = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    with on_device:
        training = _Steps(store, model_of(model, len(store.class_names)), batch_size, device, amp, residency)
        try:
            for _ in training.run(_WARM_UP_STEPS):
                pass
        except (RuntimeError, ValueError, TypeError) as error:
            what = "×".join(map(str, (batch_size, *store.image_shape)))
            said = f"{model} cannot be trained on batches of {what} on {device}: {clause(error)}."
            raise ProfileError(said) from error
        training.marks.finish()
        first_round = int(training.mix.round)
        # The first batch of a loop has nothing to hide behind, so its step is left out.
        timed = list(training.run(steps + 1))[1:]
        training.marks.finish()
        speed = copy_speed(device)
        kernels, traced_steps = _trace(training, min(steps, _TRACED_STEPS), trace)

    moved = []
    height, width = store.image_shape[1:]
    for step, (_, index) in enumerate(timed, first_round + 1):
        plan = draw_plan(index.cpu(), store, height=height, width=width, round=step)
        moved.append(bytes_to_move(plan, store.image_shape, torch.float32.itemsize))
    seconds = training.marks.seconds
    loader, mixing, whole = (
        median(seconds(times[start], times[end]) for times, _ in timed) for start, end in ((0, 1), (1, 2), (0, 3))
    )
    mix_bytes = sum(moved) / len(moved)
    return TrainingProfile(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        residency=training.mix.residency,
        model=model,
        batch_size=batch_size,
        image_shape=store.image_shape,
        amp=amp,
        steps=steps,
        step_seconds=whole,
        mix_seconds=mixing,
        mix_share=mixing / whole,
        mix_kernels=kernels,
        mix_bytes=mix_bytes,
        copy_bytes_per_second=speed,
        copy_fraction=mix_bytes / mixing / speed,
        loader_seconds=loader,
        loader_share=loader / whole,
        traced_steps=traced_steps,
        trace=trace,
    )


def _trace(training: _Steps, steps: int, path: Path | None) -> tuple[float | None, int]:
    """Run some steps under the profiler: kernels for each mix (None on the CPU), and how many steps."""
    cuda = torch.cuda.is_available() and next(training.model.parameters()).is_cuda
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    # The range of the prefetching is in a thread of its own, which the profiler leaves out unless told.
    every_thread = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    with torch.profiler.profile(activities=activities, experimental_config=every_thread, acc_events=True) as profiler:
        for _ in training.run(steps):
            pass
        training.marks.finish()
    if path is not None:
        profiler.export_chrome_trace(str(path))
    if not cuda:
        return None, steps
    # `key_averages` sums times and counts by name, and tells nowhere which range launched a kernel; the events hold the
    # kernels of each operator and the operators within it.
    cpu = torch._C._autograd.DeviceType.CPU
    mixes = [event for event in profiler.events() or () if event.name == "diffcore::mix" and event.device_type == cpu]
    return sum(_kernels(event) for event in mixes) / max(len(mixes), 1), steps


def _kernels(event: Any) -> int:
    # The range itself also appears among what ran on the GPU.
    own = sum(not kernel.name.startswith("diffcore::") for kernel in event.kernels)
    return own + sum(_kernels(child) for child in event.cpu_children)
