"""DiffuseMix: Islam, Zaheer, Mahmood, Nandakumar, "DiffuseMix: Label-Preserving Data Augmentation with Diffusion
Models", CVPR 2024.

    x̃ = (1 − λ)·(M⊙x + (1 − M)⊙g) + λ·f

g is a generated image made from x, f a fractal, and M shows x in one half of the image: left, right, top or bottom,
each as often. Between the halves M goes from 1 to 0 along a seam of 20 pixels. The label stays.

λ 0.2 and the seam of 20 pixels are those of the paper and of the authors' code. Otherwise that code differs: it shows x
on the left or on top alone, where the paper has all four halves; it mixes images of 256 × 256, where here the seam has
20 pixels at any size; and it writes the mixed images to files before training. Here they are mixed in each batch, on
the device, a cost in each step that the authors' training does not have. The generated images are the counterparts of
this project's store, drawn anew for each image from its rows, and need not have been made from x as the authors' are;
the fractals are ours (`fractals`).

A sample without a counterpart stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from diffcore_gpu.baselines._base import Baseline, Batch, Mixed, Need, check_count, check_number
from diffcore_gpu.baselines.fractals import FractalSet
from diffcore_gpu.baselines.images import as_like, to_device
from diffcore_gpu.plan import draw_plan
from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.store.residency import Residency, ResidentStore


@dataclass(eq=False, kw_only=True)
class DiffuseMix(Baseline):
    """DiffuseMix as in its paper, in each batch.

    Args:
        store: the counterparts.
        residency: where they live, see `ResidentStore`; "auto": in the memory of a GPU if they fit.
        seam: of the mask, in pixels.
        fractal_weight: λ, in [0, 1].
        fractals: how many there are to choose from; rendered in the first call for images of a size.

    Raises:
        ValueError: a setting is outside its range, or the store is of other classes or channels.
    """

    name, title = "diffusemix", "DiffuseMix"
    needs = Need.COUNTERPARTS
    on_pixels = True

    store: CounterpartStore
    residency: Residency = "auto"
    seam: int = 20
    fractal_weight: float = 0.2
    fractals: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        store, channels = self.store, self._normalization.channels
        if len(store.class_names) != self.num_classes:
            raise ValueError(
                f"DiffuseMix was made for {self.num_classes} classes, and {store.path} has {len(store.class_names)}; "
                "use the store of this dataset."
            )
        if store.image_shape[0] != channels:
            raise ValueError(
                f"DiffuseMix has mean and std of {channels} channels, and the counterparts of "
                f"{store.path} have {store.image_shape[0]}; use the store of this dataset."
            )
        if not store.num_rows:
            raise ValueError(f"DiffuseMix needs counterparts, and {store.path} has none.")
        check_count("seam", self.seam, 2)
        check_number("fractal_weight", self.fractal_weight, 0, 1)
        check_count("fractals", self.fractals, 1)
        self._fractals = FractalSet(self.fractals, self.seed)
        self._calls = 0
        self._resident: dict[torch.device, ResidentStore] = {}

    def mix(self, batch: Batch, model: nn.Module) -> Mixed:
        """Mix each image with a counterpart of its own and a fractal."""
        images = batch.images
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            row, counterparts = self._counterparts(batch)
            real = real_weight(self._rng.integers(4, size=len(images)), self.seam, images)
            halves = torch.lerp(self._normalized(counterparts, images), images.float(), real)
            fractals = self._normalized(self._fractals.draw(self._rng, images), images)
            mixed = torch.lerp(halves, fractals, self.fractal_weight)
            mixed = torch.where((row >= 0).reshape(-1, 1, 1, 1), mixed, images.float())
        return self._relabeled(as_like(mixed, images), batch.labels)

    def _counterparts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The row of each sample, int64 [B], −1 for none, and its image (any, where none): uint8 [B, C, h, w]."""
        device = batch.images.device
        if device not in self._resident:
            self._resident[device] = ResidentStore(self.store, device, self.residency)
        resident = self._resident[device]
        pairs = resident.pairs
        height, width = batch.images.shape[-2:]
        index = batch.index.to(pairs.pair_ptr.device)
        plan = draw_plan(index, pairs, height=height, width=width, seed=self.seed, round=self._calls)
        self._calls += 1
        safe = plan.row.clamp(min=0)
        if resident.residency == "device":
            return plan.row, resident.shards[0][safe]
        return to_device(plan.row, device), to_device(self.store.images(safe), device)

    def _normalized(self, pictures: Tensor, like: Tensor) -> Tensor:
        """float32, of the size of `like`, of uint8 [B, C, h, w]."""
        pixels = pictures.float().div_(255)
        if pixels.shape[-2:] != like.shape[-2:]:
            pixels = nn.functional.interpolate(pixels, like.shape[-2:], mode="bilinear", antialias=True)
        mean, std = self._normalization.on(like.device)
        return pixels.sub_(mean).div_(std)


def real_weight(sides: npt.NDArray[np.int64], seam: int, like: Tensor) -> Tensor:
    """M: the weight of the real image.

    Args:
        sides: [B], where it is: 0 left, 1 right, 2 top, 3 bottom.
        seam: in pixels, along which M goes from 1 to 0 in equal steps; it lies in the middle.
        like: [B, C, H, W].

    Returns:
        float32 [B, 1, H, W] on the device of `like`.
    """
    height, width = like.shape[-2:]
    numbers = to_device(torch.from_numpy(sides), like.device).reshape(-1, 1, 1, 1)
    first = [
        1 - ((torch.arange(size, device=like.device) - (size // 2 - seam // 2)) / (seam - 1)).clamp(0, 1)
        for size in (height, width)
    ]
    weight = torch.where(numbers >= 2, first[0][:, None], first[1])
    return torch.where(numbers % 2 == 0, weight, 1 - weight)
