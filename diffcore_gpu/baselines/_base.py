"""What every comparison method is: settings, a generator of its own, and a function from a batch to what is trained on.

A method derives from `Baseline`, declares its settings as the fields of a dataclass, and writes `mix`; constructor,
generator and the checks of a batch are here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import KW_ONLY, dataclass, field
from enum import Flag, auto
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from diffcore_gpu.baselines.images import Normalization, to_device
from diffcore_gpu.errors import clause


class Need(Flag):
    """What a method must have beside the batch, and a benchmark must therefore pay for."""

    NOTHING = 0
    PARTNERS = auto()
    """A batch of at least 2: the method mixes images of the batch with each other."""
    ACTIVATIONS = auto()
    """A forward pass of the model that is trained."""
    GRADIENTS = auto()
    """A forward and a backward pass of the model that is trained."""
    COUNTERPARTS = auto()
    """Generated images of the same classes."""


@dataclass(frozen=True)
class Batch:
    """What a loader yields, on the device that trains.

    Attributes:
        images: float [B, C, H, W], normalized with the `mean` and `std` that the method was made with.
        labels: int64 [B].
        index: int64 [B], dataset indices.
    """

    images: Tensor
    labels: Tensor
    index: Tensor


@dataclass(frozen=True)
class Mixed:
    """What the model is trained on.

    Attributes:
        images: float [M, C, H, W]; M = B unless the method says otherwise.
        targets: float32 [M, num_classes], weights of the classes in the cross-entropy.
        during_forward: entered around the model's forward pass, for methods that mix hidden features.
    """

    images: Tensor
    targets: Tensor
    during_forward: AbstractContextManager[object] = field(default_factory=nullcontext)


@dataclass(eq=False)
class Baseline(ABC):
    """A comparison method with its published defaults, but for what its module says.

    It draws its random numbers from a generator of its own, so that it repeats from run to run.

    Attributes:
        name: by which `make_baseline` makes it.
        title: how its paper writes it, for messages.
        needs: what it must have.
        on_pixels: whether its equations are about pixels, so that mean and std must be those of the images' channels;
            other methods do not look at them.

    Args:
        num_classes: the number of classes, K.
        mean: of the normalization, for images in [0, 1], one number for each channel.
        std: of the normalization, likewise.
        seed: of the method's own generator.

    Raises:
        ValueError: a setting is outside its range.
        ImportError: a package that the method uses is missing.
    """

    num_classes: int
    _: KW_ONLY
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int = 0

    name: str = field(init=False)
    title: ClassVar[str]
    needs: Need = field(init=False)
    on_pixels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count(f"num_classes of {self.title}", self.num_classes, 1)
        if self.on_pixels:
            self._normalization = Normalization(self.mean, self.std)
        self._make_generator()

    def _make_generator(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def __call__(self, batch: Batch, model: nn.Module) -> Mixed:
        """Mix a batch.

        Args:
            batch: what the loader yielded; it is not changed.
            model: the model that is trained; where `needs` names it, in the mode and on the device of its training.

        Returns:
            New images and targets, on the batch's device.

        Raises:
            ValueError: the batch or the model is not one that the method can work with; naming the mend.
        """
        check_batch(batch, self.title)
        if Need.PARTNERS in self.needs:
            check_partners(batch, self.num_classes, self.title)
        channels = batch.images.shape[1]
        if self.on_pixels and channels != self._normalization.channels:
            raise ValueError(
                f"{self.title} was made with mean and std of {self._normalization.channels} channel(s), "
                f"and the images have {channels}; give it one number for each of their channels."
            )
        return self.mix(batch, model)

    @abstractmethod
    def mix(self, batch: Batch, model: nn.Module) -> Mixed:
        """The method itself, on a batch that has been checked; raises ValueError where it cannot work with it."""

    def _draw_permutation(self, size: int) -> Tensor:
        """int64 [size] on the CPU; image i is mixed with image permutation[i], which may be itself."""
        return torch.from_numpy(self._rng.permutation(size).astype(np.int64))

    def _draw_partner(self, images: Tensor) -> Tensor:
        """The same for a batch of images, on their device."""
        return to_device(self._draw_permutation(len(images)), images.device)

    def _mixed(
        self, images: Tensor, labels: Tensor, partner: Tensor, own: float | Tensor, other: float | Tensor
    ) -> Mixed:
        """Images with the targets of `mixed_targets`."""
        return Mixed(images, mixed_targets(labels, partner, own, other, self.num_classes))

    def _relabeled(self, images: Tensor, labels: Tensor) -> Mixed:
        """Images that keep their labels."""
        return Mixed(images, one_hot(labels, self.num_classes))


class TorchvisionBaseline(Baseline):
    """A method that is a transform of torchvision, which draws from torch's global generator."""

    def _make_generator(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)

    def _make_transform(self, name: str, **settings: Any) -> Any:
        return getattr(library("torchvision.transforms.v2", self.title), name)(**settings)

    def _own_draws(self) -> AbstractContextManager[None]:
        return own_draws(self._generator)


@contextmanager
def own_draws(generator: torch.Generator) -> Iterator[None]:
    """Within, CPU draws of torch's global generator come from `generator`, which moves on; the global one does not.

    Costs about 10 µs, for two copies of a state of 5 kB each way.
    """
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator.get_state())
        try:
            yield
        finally:
            generator.set_state(torch.get_rng_state())


def library(name: str, method: str) -> ModuleType:
    """A package of the extra `bench`, imported where it is needed.

    Raises:
        ImportError: it cannot be imported; the sentence has the pip command.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.split(".", maxsplit=1)[0]
        raise ImportError(
            f"{method} needs {package}, which cannot be imported ({clause(error)}); "
            "install it with: pip install 'diffcore-gpu[bench]'."
        ) from None


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """1 where the class is the label, else 0: float32 [B, num_classes], from labels int64 [B] in [0, num_classes)."""
    return nn.functional.one_hot(labels, num_classes).to(torch.float32)


def mixed_targets(
    labels: Tensor, partner: Tensor, own: float | Tensor, other: float | Tensor, num_classes: int
) -> Tensor:
    """float32 [B, num_classes]: own·onehot(labels) + other·onehot(labels[partner]).

    Args:
        labels: int64 [B].
        partner: int64 [B], which image each is mixed with.
        own: weight of the image's label, one number or float32 [B].
        other: weight of its partner's label, likewise. Partners of one class get the sum.
        num_classes: the number of classes, K.
    """
    classes = one_hot(labels, num_classes)
    columns = [weight[:, None] if isinstance(weight, Tensor) else weight for weight in (own, other)]
    return classes * columns[0] + classes[partner] * columns[1]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the batch of −Σ targets·log softmax(logits), a float32 scalar.

    Args:
        logits: [M, K], any float dtype.
        targets: float32 [M, K], weights of the classes; rows need not sum to 1.
    """
    return -(targets * nn.functional.log_softmax(logits.float(), dim=1)).sum(1).mean()


def check_batch(batch: Batch, method: str) -> None:
    """Refuse images that are not normalized ones, and labels that are not theirs.

    Raises:
        ValueError: shapes or dtypes are wrong.
    """
    images, labels = batch.images, batch.labels
    if images.ndim != 4 or not images.is_floating_point() or not images.numel():
        raise ValueError(
            f"{method} needs normalized images of a float dtype, shaped [B, C, H, W], not {images.dtype} "
            f"{list(images.shape)}."
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{method} needs labels as int64 [{len(images)}], one for each image, not {labels.dtype} "
            f"{list(labels.shape)}."
        )


def check_partners(batch: Batch, num_classes: int, method: str) -> None:
    """Refuse a batch whose images cannot be mixed with each other.

    On a GPU the values of the labels are not read, for that would wait for the device.

    Raises:
        ValueError: the batch has one image, its labels are elsewhere, or (on the CPU) a label is no class.
    """
    images, labels = batch.images, batch.labels
    if labels.device != images.device:
        raise ValueError(f"{method} needs images and labels on one device, not {images.device} and {labels.device}.")
    if len(images) < 2:
        raise ValueError(
            f"{method} mixes the images of a batch with each other; a batch of {len(images)} is too small for that, "
            "so give batches of 2 or more (drop_last=True drops a short last one)."
        )
    if labels.device.type == "cpu" and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(
            f"{method} was made for {num_classes} classes, and the batch has labels from {int(labels.min())} to "
            f"{int(labels.max())}; make it with num_classes={int(labels.max()) + 1} or more and labels from 0."
        )


def check_number(name: str, value: float, low: float, high: float = math.inf, *, above: bool = False) -> None:
    """Refuse what is not a finite number in [low, high], or with `above` in (low, high].

    Raises:
        ValueError: it is not.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high or (above and value == low):
        bounds = f"{'above' if above else 'of at least'} {low:g}" + ("" if high == math.inf else f" up to {high:g}")
        raise ValueError(f"{name} must be a number {bounds}, not {value!r}.")


def check_count(name: str, value: int, low: int, high: int | None = None) -> None:
    """Refuse what is not an integer in [low, high].

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        bounds = f"of at least {low}" if high is None else f"in [{low}, {high}]"
        raise ValueError(f"{name} must be an integer {bounds}, not {value!r}.")
