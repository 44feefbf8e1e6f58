"""What is made sure of before anything is trained: the model fits the images, and every arm has its counterparts.

Those are a stratified, nested part of what a store has, or other real images of the same class: what the method brings
without generated ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from diffcore_gpu import CounterpartStore
from diffcore_gpu.benchmarks.training.arms import Prepared, check_settings
from diffcore_gpu.benchmarks.training.data import Data, Int64s
from diffcore_gpu.benchmarks.training.loop import Execution, make_trained
from diffcore_gpu.benchmarks.training.models import check_model
from diffcore_gpu.benchmarks.training.recipe import Arm, Training
from diffcore_gpu.errors import BenchmarkError, clause
from diffcore_gpu.generation.draws import choose_samples
from diffcore_gpu.packing import Layout, PackOptions
from diffcore_gpu.packing.pack import pack
from diffcore_gpu.store.format import MANIFEST_NAME

COVERAGE_SEED = 0
"""Of the choice: the same samples in every arm and run, and those that `diffcore generate` chooses by default."""
PARTNERS = 64
"""At most so many images of the class for each sample."""


def covered_samples(
    labels: Int64s, num_classes: int, has_pair: np.ndarray[tuple[int], np.dtype[np.bool_]], fraction: float
) -> tuple[Int64s, int]:
    """The samples that have counterparts: of each class of n samples, n · fraction rounded half up.

    They are those of `choose_samples`; in the place of each that has no pair, the first of its class that has one and
    is not chosen. A smaller fraction gives a part of what a larger one gives.

    Args:
        labels: int64 [N].
        num_classes: K.
        has_pair: bool [N], whether the store has a pair for the sample.
        fraction: in (0, 1].

    Returns:
        Positions in `labels`, int64, ascending; and how many are missing, because their class has no more pairs.
    """
    chosen = choose_samples(labels, num_classes, fraction, COVERAGE_SEED)
    kept = chosen[has_pair[chosen]]
    wanted = np.bincount(labels[chosen], minlength=num_classes) - np.bincount(labels[kept], minlength=num_classes)
    if not wanted.any():
        return kept, 0
    free = has_pair.copy()
    free[chosen] = False
    others = np.flatnonzero(free)
    others = others[np.argsort(labels[others], kind="stable")]
    counts = np.bincount(labels[others], minlength=num_classes)
    rank = np.arange(len(others)) - np.repeat(np.cumsum(counts) - counts, counts)
    fill = others[rank < np.repeat(wanted, counts)]
    return np.sort(np.concatenate((kept, fill))).astype(np.int64), int(wanted.sum()) - len(fill)


def restrict(
    store: CounterpartStore, data: Data, arm: str, fraction: float, allow_missing: float
) -> tuple[CounterpartStore, float]:
    """The store in which only the samples of an arm have counterparts.

    Args:
        store: bound to all of `data.train`.
        data: whose `part` is trained on.
        arm: name, for the message.
        fraction: coverage that the arm asks for.
        allow_missing: share of the samples that may lack the counterparts which they should have.

    Returns:
        The store, and the share of the samples that have counterparts in it.

    Raises:
        BenchmarkError: more samples lack them.
    """
    has_pair = (store.pair_ptr[1:] > store.pair_ptr[:-1]).numpy()[data.part]
    chosen, missing = covered_samples(data.labels[data.part], len(data.class_names), has_pair, fraction)
    total = len(data.part)
    if missing > allow_missing * total:
        raise BenchmarkError(
            f"the arm {arm} asks for counterparts for {fraction:.0%} of the training samples of each class, but "
            f"{store.path} has them for {has_pair.mean():.1%} of all, so {missing} of {total} samples would lack one; "
            f"make the missing ones, or accept it with --allow-missing {_rounded_up(missing / total)}."
        )
    return store.restricted_to(data.part[chosen]), len(chosen) / total


def _rounded_up(share: float) -> str:
    return f"{np.ceil(share * 1000) / 1000:.3f}"


def real_store(data: Data, size: int, out: Path, workers: int | None = None) -> CounterpartStore:
    """The store of the images that are trained on, of which none is paired with itself; written if it is not there.

    Args:
        data: whose `part` the images are taken from, and no others.
        size: height and width of the counterparts.
        out: the store's folder.
        workers: threads that decode; None: one for each processor.

    Raises:
        PackError, StoreError: the images cannot be packed, or `out` holds something else.
    """
    if not (out / MANIFEST_NAME).exists():
        with tempfile.TemporaryDirectory() as folder:
            chosen = data.folder / "train"
            if len(data.part) < len(data.train):
                chosen = Path(folder) / chosen.name
                _link(data, chosen)
            pack(
                PackOptions(
                    real=data.folder / "train",
                    generated=chosen,
                    out=out,
                    height=size,
                    width=size,
                    layout=Layout.CLASS,
                    max_per_sample=PARTNERS,
                    workers=workers,
                    resume=True,
                )
            )
    return CounterpartStore.open(out).bind(data.train)


def _link(data: Data, folder: Path) -> None:
    """A folder of links to the images of the part; packing follows them and knows each image by its own path."""
    names = data.names()
    root = (data.folder / "train").resolve()
    for sample in data.part.tolist():
        link = folder / names[sample]
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(root / names[sample])


def check_trained(training: Training, num_classes: int) -> None:
    """Make the model, and run it once in training mode, on the CPU.

    Raises:
        BenchmarkError: it cannot be made, does not take images of this size, or gives something else than logits.
    """
    try:
        model = make_trained(training, num_classes, 0, Execution(torch.device("cpu")))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise BenchmarkError(f"{training.model} cannot be made for {training.size} pixels: {clause(error)}.") from error
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
