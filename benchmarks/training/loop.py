"""One run: a model trained with one arm and one seed, from its checkpoint on if there is one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffcore_gpu import PrefetchLoader
from diffcore_gpu.baselines import Batch
from diffcore_gpu.benchmarks.training.arms import Method, Prepared, make_method
from diffcore_gpu.benchmarks.training.checkpoint import Checkpoint
from diffcore_gpu.benchmarks.training.data import Data
from diffcore_gpu.benchmarks.training.loading import (
    EpochBatches,
    EvaluationSet,
    TrainingSet,
    Use,
    augmentation,
    evaluation_loader,
    preprocessing,
    seed_of,
    training_loader,
)
from diffcore_gpu.benchmarks.training.models import make_model
from diffcore_gpu.benchmarks.training.recipe import Training
from diffcore_gpu.benchmarks.training.step import loss_of

AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def count_hits(logits: Tensor, labels: Tensor) -> Tensor:
    """How many samples have their class first, and among the first five (or all K, if there are fewer).

    Args:
        logits: [B, K].
        labels: int64 [B].

    Returns:
        int64 [2], on the device of the logits.
    """
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
    return torch.stack((best[:, 0].sum(), best.any(dim=1).sum()))


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    device: torch.device,
    autocast: AbstractContextManager[object],
    memory_format: torch.memory_format,
) -> dict[str, float]:
    """Accuracies of a model, which is left in eval().

    Args:
        model: on the device.
        batches: (images, labels), at least one.
        device: waited for once, at the end.
        autocast: entered around each forward pass.
        memory_format: of the images.

    Returns:
        "top1" and "top5", fractions in [0, 1].
    """
    model.eval()
    hits = torch.zeros(2, dtype=torch.int64, device=device)
    total = 0
    for images, labels in batches:
        images = images.to(device, memory_format=memory_format, non_blocking=True)
        with autocast:
            logits = model(images)
        hits += count_hits(logits, labels.to(device, non_blocking=True))
        total += len(labels)
    first, five = hits.tolist()
    return {"top1": first / total, "top5": five / total}


@dataclass(frozen=True)
class Execution:
    """How runs are executed.

    Attributes:
        device: that trains.
        workers: of the loader.
        amp: a key of `AMP`.
        channels_last: memory format of model and images.
        steps: at most so many steps of an epoch; None: all.
        spent: whether to stop before the next epoch.
    """

    device: torch.device
    workers: int = 0
    amp: str = "off"
    channels_last: bool = False
    steps: int | None = None
    spent: Callable[[], bool] = lambda: False

    @property
    def memory_format(self) -> torch.memory_format:
        """Of model and images."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> AbstractContextManager[object]:
        """To be entered around forward passes."""
        dtype = AMP[self.amp]
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)


@dataclass(frozen=True)
class Epoch:
    """What there is to say about a finished epoch.

    Attributes:
        number: from 1.
        of: epochs of the run.
        loss: mean of the steps.
        lr: learning rate.
        seconds: of its steps.
        samples: that it trained on.
        splits: accuracies by split, where it was evaluated.
    """

    number: int
    of: int
    loss: float
    lr: float
    seconds: float
    samples: int
    splits: dict[str, dict[str, float]] | None


def make_trained(training: Training, num_classes: int, seed: int, execution: Execution) -> nn.Module:
    """The model as it is before the first step.

    Raises:
        BenchmarkError: of `make_model`.
    """
    torch.manual_seed(seed_of(Use.MODEL, seed))
    model = make_model(training.model, num_classes, pretrained=training.pretrained, **training.model_settings)
    return model.to(execution.device, memory_format=execution.memory_format)  # type: ignore[call-overload, no-any-return]


def train(
    training: Training,
    data: Data,
    prepared: Prepared,
    seed: int,
    execution: Execution,
    checkpoint: Checkpoint,
    tell: Callable[[Epoch], None],
) -> dict[str, Any] | None:
    """Train and evaluate.

    Everything that is drawn depends on seed and epoch alone, so a run that goes on from its checkpoint ends as one that
    was never cut; on the CPU to the last bit.

    Args:
        training: what the recipe says.
        data: the images.
        prepared: the arm.
        seed: of the run.
        execution: device, workers, precision.
        checkpoint: of this run.
        tell: gets each epoch when it is finished.

    Returns:
        The figures of the run; None: it was stopped between two epochs, and its checkpoint is written.

    Raises:
        BenchmarkError: a file cannot be decoded, or the checkpoint does not hold what it should.
        StoreError: the store does not fit the samples.
        RuntimeError, ValueError, ImportError: the method or the model cannot do this.
    """
    device, classes = execution.device, len(data.class_names)
    state = checkpoint.load(device)
    if state is not None and "figures" in state:
        if not _are_figures(state["figures"], training):
            raise checkpoint.damaged()
        figures: dict[str, Any] = state["figures"]
        return figures
    model = make_trained(training, classes, seed, execution)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=training.lr, momentum=training.momentum, weight_decay=training.weight_decay
    )
    scaler = torch.amp.GradScaler(device.type, enabled=execution.amp == "fp16")
    method = make_method(prepared, classes, seed, device)
    history: list[dict[str, Any]] = []
    seconds = 0.0
    if state is not None:
        try:
            history, seconds = _restore(state, model, optimizer, scaler, training.epochs)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise checkpoint.damaged() from error
        del state
    batches = EpochBatches(data.part, training.batch, seed, execution.steps)
    samples = TrainingSet(data.train, augmentation(training.augmentation, training.size), seed)
    loader = PrefetchLoader(training_loader(samples, batches, execution.workers, device), method.mix, device)
    for epoch in range(len(history), training.epochs):
        if execution.spent():
            return None
        start = time.perf_counter()
        batches.epoch = epoch
        lr = training.lr_at(epoch)
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = _train_epoch(epoch, seed, model, method, loader, optimizer, scaler, execution) / len(batches)
        took = time.perf_counter() - start
        last = epoch + 1 == training.epochs
        if not math.isfinite(loss):
            return {"failed": f"diverged at epoch {epoch + 1}: the loss is {loss}", "history": history}
        splits = None
        if last or epoch == 0 or (epoch + 1) % training.evaluate_every == 0:
            splits = _evaluate(model, training, data, execution)
        seconds += time.perf_counter() - start
        entry: dict[str, Any] = {"epoch": epoch + 1, "loss": loss, "lr": lr}
        history.append(entry if splits is None else {**entry, "splits": splits})
        tell(Epoch(epoch + 1, training.epochs, loss, lr, took, batches.samples, splits))
        if last:
            figures = {
                "epochs": training.epochs,
                "steps": training.epochs * len(batches),
                "seconds": seconds,
                "splits": splits,
                "history": history,
            }
            checkpoint.finish({"figures": figures}, model.state_dict())
            return figures
        states = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
        checkpoint.save({**states, "history": history, "seconds": seconds})
    raise AssertionError("a checkpoint after the last epoch holds the figures.")


def _restore(
    state: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    epochs: int,
) -> tuple[list[dict[str, Any]], float]:
    """History and seconds of a checkpoint, whose states are loaded; whatever its reader raises where it has others."""
    history, seconds = state["history"], state["seconds"]
    if not isinstance(history, list) or not 0 < len(history) < epochs or not all(isinstance(e, dict) for e in history):
        raise ValueError("its history is another.")
    if not isinstance(seconds, float) or not 0 <= seconds < math.inf:
        raise ValueError("its time is none.")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scaler.load_state_dict(state["scaler"])
    return history, seconds


def _are_figures(found: Any, training: Training) -> bool:
    """Whether a finished run can have had these figures, as far as they are shown."""
    match found:
        case {"epochs": int(), "seconds": int() | float(), "history": list(), "splits": dict(splits)}:
            shown = [[of.get(key) for key in ("top1", "top5")] for of in splits.values() if isinstance(of, dict)]
            return (
                set(splits) == set(training.splits)
                and all(type(value) is float and 0 <= value <= 1 for pair in shown for value in pair)
                and len(shown) == len(splits)
            )
        case _:
            return False


def _train_epoch(
    epoch: int,
    seed: int,
    model: nn.Module,
    method: Method,
    loader: PrefetchLoader,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    execution: Execution,
) -> float:
    """The sum of the losses; the device is waited for at the end alone."""
    model.train()
    method.begin(epoch)
    torch.manual_seed(seed_of(Use.LAYERS, seed, epoch))  # for dropout and the like
    total = torch.zeros((), device=execution.device)
    for batch in _moved(loader, execution):
        with execution.autocast():
            made = method(batch, model)
            with made.during_forward:
                logits = model(made.images)
            loss = loss_of(logits, made.targets)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        total += loss.detach()
    return float(total)


def _moved(loader: PrefetchLoader, execution: Execution) -> Iterator[Batch]:
    for images, labels, index in loader:
        yield Batch(images.contiguous(memory_format=execution.memory_format), labels, index)


def _evaluate(model: nn.Module, training: Training, data: Data, execution: Execution) -> dict[str, dict[str, float]]:
    transform = preprocessing(training.augmentation, training.size)
    found = {}
    for name, dataset in data.splits.items():
        images = EvaluationSet(dataset, transform)
        loader = evaluation_loader(images, 2 * training.batch, execution.workers, execution.device)
        found[name] = evaluate(model, loader, execution.device, execution.autocast(), execution.memory_format)
    return found
