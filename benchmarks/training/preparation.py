"""What is made sure of before anything is trained: the model fits the images, and every arm can be made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from diffcore_gpu import CounterpartStore
from diffcore_gpu.benchmarks.training.arms import Prepared, check_settings
from diffcore_gpu.benchmarks.training.coverage import restrict
from diffcore_gpu.benchmarks.training.data import Data
from diffcore_gpu.benchmarks.training.loop import Execution, make_trained
from diffcore_gpu.benchmarks.training.models import check_model
from diffcore_gpu.benchmarks.training.real_counterparts import real_store
from diffcore_gpu.benchmarks.training.recipe import Arm, Training
from diffcore_gpu.benchmarks.training.step import why
from diffcore_gpu.errors import BenchmarkError


def check_trained(training: Training, num_classes: int) -> None:
    """Make the model, and run it once in training mode, on the CPU.

    Raises:
        BenchmarkError: it cannot be made, does not take images of this size, or gives something else than logits.
    """
    try:
        model = make_trained(training, num_classes, 0, Execution(torch.device("cpu")))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise BenchmarkError(f"{training.model} cannot be made for {training.size} pixels: {why(error)}.") from error
    check_model(model, training.model, num_classes, training.size)


def prepare_arms(
    arms: Sequence[Arm], data: Data, size: int, store_path: Path | None, work: Path, allow_missing: float
) -> list[Prepared]:
    """Find the counterparts of every arm, and check its settings.

    Args:
        arms: in order.
        data: the images.
        size: of training, in pixels; counterparts must be of this size.
        store_path: the store of generated counterparts, if there is one.
        work: folder into which the store of real counterparts is written, if an arm needs it.
        allow_missing: see `restrict`.

    Raises:
        BenchmarkError: a store is missing or of another size, covers too little, or an arm cannot be made.
        StoreError, PackError: a store was made for other images, or cannot be read or made.
    """
    needing = [arm.name for arm in arms if arm.needs_store]
    if needing and store_path is None:
        raise BenchmarkError(
            f"{', '.join(needing)} mix with generated counterparts: give their store with --store, or name other arms "
            "with --arms."
        )
    stores: dict[str, CounterpartStore] = {}
    if needing and store_path is not None:
        stores["generated"] = _open(store_path, data, size)
    if any(arm.has_counterparts and not arm.needs_store for arm in arms):
        part = "" if len(data.part) == len(data.train) else f"-{len(data.part)}"
        stores["real"] = real_store(data, size, work / f"real-counterparts-{size}{part}")
    prepared = []
    for arm in arms:
        ready = Prepared(arm)
        if arm.has_counterparts:
            whole = stores[arm.counterparts]
            store, covered = restrict(whole, data, arm.name, arm.coverage, allow_missing)
            ready = Prepared(arm, store, covered, whole.checksum if arm.needs_store else None)
        check_settings(ready, len(data.class_names))
        prepared.append(ready)
    return prepared


def _open(path: Path, data: Data, size: int) -> CounterpartStore:
    store = CounterpartStore.open(path).bind(data.train)
    if store.image_shape != (3, size, size):
        held = "×".join(map(str, store.image_shape))
        raise BenchmarkError(
            f"{path} holds counterparts of {held} (C×H×W), and the training size is {size}; make a store of that size, "
            f"or give --size {store.image_shape[1]}."
        )
    return store
