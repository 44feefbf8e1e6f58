"""From an arm of a recipe to what a training step calls; everything that can be wrong with it is found here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from diffcore_gpu import Beta, CounterpartStore, DiffCoreMix
from diffcore_gpu.baselines import Baseline, Batch, Mixed, make_baseline
from diffcore_gpu.benchmarks.harness.random_data import MEAN, STD
from diffcore_gpu.benchmarks.paper import OURS, VANILLA
from diffcore_gpu.benchmarks.training.loading import Use, seed_of
from diffcore_gpu.benchmarks.training.recipe import Arm
from diffcore_gpu.errors import BenchmarkError, clause, nearest

_OURS_ALONE = ("store", "mean", "std", "seed", "inplace", "geometry", "counterpart_crop", "dtype", "memory_format")
_BASELINES_ALONE = ("num_classes", "mean", "std", "seed", "store", "extractor")
"""What the loop gives the methods, or what a recipe cannot write; not settings of an arm."""


@dataclass(frozen=True)
class Prepared:
    """An arm that has passed its checks.

    Attributes:
        arm: as the recipe has it.
        store: its counterparts, of the samples that have them in this arm; None: it has none.
        covered: share of the samples that have counterparts.
        source: the checksum of the store that they come from, or None where they are not from a store of the user's.
    """

    arm: Arm
    store: CounterpartStore | None = None
    covered: float = 0.0
    source: str | None = None

    def definition(self) -> dict[str, Any]:
        """What a result of this arm depends on."""
        arm = self.arm
        defined: dict[str, Any] = {"method": arm.method, "settings": dict(arm.settings)}
        if arm.has_counterparts:
            defined |= {"coverage": arm.coverage, "counterparts": arm.counterparts, "covered": self.covered}
            defined |= {"store": self.source}
        return defined


class Method(Protocol):
    """An arm at work."""

    @property
    def mix(self) -> DiffCoreMix | None:
        """What a `PrefetchLoader` brings counterparts for; None: nothing."""

    def begin(self, epoch: int) -> None:
        """Draw from now on what belongs to this epoch, whatever was drawn before."""
        ...

    def __call__(self, batch: Batch, model: nn.Module) -> Mixed:
        """What the model is trained on; labels are targets, too: see `loss_of`."""
        ...


class _Vanilla:
    mix = None

    def begin(self, epoch: int) -> None:
        pass

    def __call__(self, batch: Batch, model: nn.Module) -> Mixed:
        return Mixed(batch.images, batch.labels)


class _Ours:
    def __init__(self, mix: DiffCoreMix) -> None:
        self.mix = mix

    def begin(self, epoch: int) -> None:
        self.mix.set_epoch(epoch)

    def __call__(self, batch: Batch, model: nn.Module) -> Mixed:
        return Mixed(self.mix(batch.images, batch.index, labels=batch.labels), batch.labels)


class _Compared:
    """A comparison method, made anew for every epoch, for its draws are part of it and are in no checkpoint."""

    mix = None

    def __init__(self, make: Callable[[int], Baseline]) -> None:
        self._make = make
        self._method: Baseline | None = None

    def begin(self, epoch: int) -> None:
        self._method = None  # before the next is made: it may hold a store in the GPU's memory
        self._method = self._make(epoch)

    def __call__(self, batch: Batch, model: nn.Module) -> Mixed:
        assert self._method is not None  # `begin` made it
        return self._method(batch, model)


def make_method(prepared: Prepared, num_classes: int, seed: int, device: torch.device) -> Method:
    """An arm at work.

    Args:
        prepared: the arm.
        num_classes: K.
        seed: of the run.
        device: that trains.

    Raises:
        ValueError, TypeError: its settings are not ones that the method takes.
        ImportError: a package that the method uses is missing.
        StoreError: the store does not fit into memory.
    """
    arm, store = prepared.arm, prepared.store
    settings = {name: _value(value) for name, value in arm.settings.items()}
    if arm.method == VANILLA:
        return _Vanilla()
    if arm.method == OURS:
        assert store is not None
        mix = DiffCoreMix(store, mean=MEAN, std=STD, seed=seed_of(Use.METHOD, seed), **settings)
        return _Ours(mix.to(device))

    def make(epoch: int) -> Baseline:
        of_epoch = seed_of(Use.METHOD, seed, epoch)
        return make_baseline(arm.method, num_classes, mean=MEAN, std=STD, seed=of_epoch, store=store, **settings)

    return _Compared(make)


def check_settings(prepared: Prepared, num_classes: int) -> None:
    """Make the method once, on the CPU, so that what is wrong is said before anything is trained.

    Raises:
        BenchmarkError: an unknown setting, with the nearest; a value that the method refuses; or a missing package.
    """
    arm = prepared.arm
    leave_out = "or leave the arm out: --arms names those that are run"
    try:
        if arm.method not in (VANILLA, OURS):
            made = make_baseline(arm.method, num_classes, mean=MEAN, std=STD, store=prepared.store)
            _check_names(arm, type(made), _BASELINES_ALONE)
        elif arm.method == OURS:
            _check_names(arm, DiffCoreMix, _OURS_ALONE)
        make_method(prepared, num_classes, 0, torch.device("cpu")).begin(0)
    except ImportError as error:
        raise BenchmarkError(f"arm {arm.name}: {clause(error)}, {leave_out}.") from error
    except (ValueError, TypeError) as error:
        raise BenchmarkError(f"arm {arm.name}: {clause(error)}.") from error


def _check_names(arm: Arm, kind: type, ours_alone: tuple[str, ...]) -> None:
    known = [name for name in inspect.signature(kind).parameters if name not in ours_alone]
    for name in arm.settings:
        if name not in known:
            hint = nearest(name, known) if known else "it has none."
            raise BenchmarkError(f"arm {arm.name}: {arm.method} has no setting {name!r}; {hint}")


def _value(value: Any) -> Any:
    """A setting as methods take it: intervals as tuples, and `Beta` for its table."""
    if isinstance(value, Mapping) and set(value) == {"beta"}:
        return Beta(value["beta"])
    return tuple(map(_value, value)) if isinstance(value, list) else value
