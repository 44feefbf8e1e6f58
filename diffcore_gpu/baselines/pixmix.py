"""PixMix: Hendrycks, Zou, Mazeika, Tang, Li, Song, Steinhardt, "PixMix: Dreamlike Pictures Comprehensively Improve
Safety Measures", CVPR 2022.

Start from the image or an augmentation of it; then, 0 to k times, mix the result with another augmentation of the image
or with a fractal, and clip it to [0, 1]. One of two mixings, with coefficients a and b:

    add:       a·(2·x − 1) + b·(2·y − 1), halved and shifted back        multiply:   (2·x)^a · (2·y)^b / 2

a ~ Beta(β, 1) and b ~ Beta(1, β), or 1 + and − of two draws of Beta(1, β). Every choice is even. The label stays.

Defaults are those of the authors' code for images of this size: k 4, β 4, severity 1, and the operations that do not
occur in ImageNet-C. They are torchvision's, on 8-bit pixels on the images' device; the mixings are done for the batch.
The fractals are ours (`fractals`), rendered 256/224 times the image's size, of which each image gets a random part; the
authors mix in feature visualizations too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from diffcore_gpu.baselines._base import Baseline, Batch, Mixed, Need, check_count, check_number, library
from diffcore_gpu.baselines.augmix import to_bytes
from diffcore_gpu.baselines.fractals import FractalSet
from diffcore_gpu.baselines.images import to_device

_TINY = 1e-37
"""Keeps a negative power of a black pixel finite."""

_LEVELS = 10
"""Severities are tenths."""


class Round(NamedTuple):
    """One round of mixing for the images that take part in it.

    Attributes:
        images: int64 [n], positions in the batch.
        augmented: bool [n]: with an augmentation of the image; else with its fractal.
        multiply: bool [n]: else add.
        a: float32 [n], the coefficient of the image so far.
        b: float32 [n], the coefficient of what is mixed in.
    """

    images: npt.NDArray[np.int64]
    augmented: npt.NDArray[np.bool_]
    multiply: npt.NDArray[np.bool_]
    a: npt.NDArray[np.float32]
    b: npt.NDArray[np.float32]


@dataclass(eq=False, kw_only=True)
class PixMix(Baseline):
    """PixMix with the authors' defaults.

    Args:
        k: the most rounds of mixing.
        beta: of the coefficients' distributions, above 0.
        severity: of the augmentations, from 1 to 10.
        fractals: how many there are to choose from; rendered in the first call for images of a size.
    """

    name, title = "pixmix", "PixMix"
    needs = Need.NOTHING
    on_pixels = True

    k: int = 4
    beta: float = 4.0
    severity: int = 1
    fractals: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("k", self.k, 0)
        check_number("beta", self.beta, 0, above=True)
        check_count("severity", self.severity, 1, _LEVELS)
        check_count("fractals", self.fractals, 1)
        self._fractals = FractalSet(self.fractals, self.seed, margin=256 / 224)
        self._functional = library("torchvision.transforms.v2.functional", "PixMix")

    def mix(self, batch: Batch, model: nn.Module) -> Mixed:
        """Change each image by itself."""
        images = batch.images
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            fractals = self._fractals.draw(self._rng, images)
            mixed = self._normalization.pixels(images)
            original = to_bytes(mixed)
            starts = np.flatnonzero(self._rng.random(len(images)) < 0.5)
            if len(starts):
                mixed[self._numbers(starts, images)] = self._augmented(original, starts)
            for round_ in self._draw_rounds(len(images)):
                self._mix(mixed, original, fractals, round_)
            return self._relabeled(self._normalization.images(mixed, like=images), batch.labels)

    def _draw_rounds(self, batch: int) -> list[Round]:
        rounds = self._rng.integers(self.k + 1, size=batch)
        drawn = []
        for number in range(int(rounds.max())):
            images = np.flatnonzero(rounds > number)
            size = len(images)
            within = self._rng.random(size) < 0.5
            one, other = self._rng.beta(1, self.beta, (2, size))
            # Beta(β, 1) is 1 − Beta(1, β).
            a, b = np.where(within, 1 - one, 1 + one), np.where(within, other, -other)
            augmented, multiply = self._rng.random((2, size)) < 0.5
            drawn.append(Round(images, augmented, multiply, a.astype(np.float32), b.astype(np.float32)))
        return drawn

    def _mix(self, mixed: Tensor, original: Tensor, fractals: Tensor, round_: Round) -> None:
        """Mix the images of a round where they are, float32 [B, C, H, W], with 8-bit pictures."""
        pictures = torch.empty((len(round_.images), *original.shape[1:]), device=original.device)
        with_fractal, with_augmented = np.flatnonzero(~round_.augmented), np.flatnonzero(round_.augmented)
        if len(with_fractal):
            chosen = fractals[self._numbers(round_.images[with_fractal], mixed)].float().div_(255)
            pictures[self._numbers(with_fractal, mixed)] = chosen
        if len(with_augmented):
            pictures[self._numbers(with_augmented, mixed)] = self._augmented(original, round_.images[with_augmented])
        for kind, operation in ((~round_.multiply, add), (round_.multiply, multiply)):
            chosen_ones = np.flatnonzero(kind)
            if len(chosen_ones):
                places = self._numbers(round_.images[chosen_ones], mixed)
                a, b = (
                    to_device(torch.from_numpy(values[chosen_ones]).reshape(-1, 1, 1, 1), mixed.device)
                    for values in (round_.a, round_.b)
                )
                result = operation(mixed[places], pictures[self._numbers(chosen_ones, mixed)], a, b)
                mixed[places] = result.clamp_(0, 1)

    def _augmented(self, original: Tensor, chosen: npt.NDArray[np.int64]) -> Tensor:
        """float32 [n, C, H, W] in [0, 1]: one random operation on each of the chosen images."""
        changed = [self._augment(original[number]) for number in chosen.tolist()]
        return torch.stack(changed).float().div_(255)

    def _augment(self, image: Tensor) -> Tensor:
        """One of nine operations, evenly chosen, on uint8 [C, H, W]."""
        functional: Any = self._functional
        level = self._rng.uniform(0.1, self.severity) / _LEVELS
        sign = self._rng.choice((-1, 1))
        height, width = image.shape[-2:]
        moves: dict[str, dict[str, Any]] = {
            "shear_x": {"shear": [sign * float(np.degrees(np.arctan(0.3 * level))), 0.0], "center": [0.0, 0.0]},
            "shear_y": {"shear": [0.0, sign * float(np.degrees(np.arctan(0.3 * level)))], "center": [0.0, 0.0]},
            "translate_x": {"translate": [int(sign * int(level * width / 3)), 0]},
            "translate_y": {"translate": [0, int(sign * int(level * height / 3))]},
            "rotate": {"angle": float(sign * int(level * 30))},
        }
        operation = str(self._rng.choice([*moves, "autocontrast", "equalize", "posterize", "solarize"]))
        if operation in moves:
            still = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
            changed = functional.affine(image, **still | moves[operation], interpolation=_bilinear(functional))
        elif operation == "posterize":
            changed = functional.posterize(image, bits=4 - int(level * 4))
        elif operation == "solarize":
            changed = functional.solarize(image, threshold=256 - int(level * 256))
        else:
            changed = getattr(functional, operation)(image)
        result: Tensor = changed
        return result

    @staticmethod
    def _numbers(positions: npt.NDArray[np.int64], like: Tensor) -> Tensor:
        return to_device(torch.from_numpy(positions), like.device)


def _bilinear(functional: Any) -> Any:
    return functional.InterpolationMode.BILINEAR


def add(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a·(2·x − 1) + b·(2·y − 1), from [−1, 1] back to [0, 1]; not clipped."""
    return (a * (2 * x - 1) + b * (2 * y - 1) + 1) / 2


def multiply(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """(2·x)^a·(2·y)^b / 2; not clipped. a must not be negative."""
    # A black pixel may come out of normalization as −1e−9, of which no power is real.
    return (2 * x).clamp(min=0) ** a * (2 * y).clamp(min=_TINY) ** b / 2
