"""The ways to load a batch that the suite `loader` compares, and one pass over the data in one of them.

Real images are decoded by Pillow, and cropped, resized, mirrored and normalized by torchvision v2, in every arm but the
last alike. The folder of PNG files is read as well as such a loader can: the file is decoded by Pillow, resized only
where its size differs, and mixed with the real crop while both are still bytes in Pillow (`Image.blend`, `paste`: about
0.05 ms), so that only one image is turned to float and normalized.
"""

from __future__ import annotations

import math
import multiprocessing
import random
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from diffcore_gpu import DiffCoreMix, IndexedDataset, PrefetchLoader
from diffcore_gpu.benchmarks.harness.random_data import MEAN, STD
from diffcore_gpu.benchmarks.loader.data import Chosen, LoaderData
from diffcore_gpu.benchmarks.training.loading import to_tensor
from diffcore_gpu.plan.crops import RandomResizedCropMirror
from diffcore_gpu.store.residency import Residency

FLOOR = "real images alone"
PNG, RESIZED = "folder of PNG files", "folder of PNG files, resized"
STORE, RAW = "store", "store, cropped in the mix"


@dataclass(frozen=True)
class Arm:
    """One way to load a batch.

    Attributes:
        dataset: what the loader's workers do.
        mix: what is done to the batch on the device; None: nothing.
        prefetch: whether a `PrefetchLoader` brings the batches on the CPU too.
    """

    dataset: Dataset[Any]
    mix: DiffCoreMix | None = None
    prefetch: bool = False


class RealImages(Dataset[tuple[Tensor, int]]):
    """Real images, transformed.

    Args:
        real: which.
        transform: from an RGB picture to a tensor.
    """

    def __init__(self, real: Chosen, transform: Any) -> None:
        self._real, self._transform = real, transform

    def __len__(self) -> int:
        return len(self._real.paths)

    def __getitem__(self, sample: int) -> tuple[Tensor, int]:
        return self._transform(_picture(self._real.paths[sample])), self._real.labels[sample]


class MixedFromFiles(Dataset[tuple[Tensor, int]]):
    """Real images, each mixed with its counterpart out of a file: one more file is decoded for every sample.

    Args:
        real: the real images.
        counterparts: the file of each sample's counterpart.
        size: height and width of the training images.
    """

    def __init__(self, real: Chosen, counterparts: Sequence[Path], size: int) -> None:
        self._real, self._counterparts, self._size = real, counterparts, (size, size)
        self._crop, self._to_tensor = _crop(size), to_tensor()

    def __len__(self) -> int:
        return len(self._real.paths)

    def __getitem__(self, sample: int) -> tuple[Tensor, int]:
        real = self._crop(_picture(self._real.paths[sample]))
        counterpart = _picture(self._counterparts[sample])
        if counterpart.size != self._size:
            counterpart = counterpart.resize(self._size, Image.Resampling.BILINEAR)
        return self._to_tensor(mix_pictures(real, counterpart)), self._real.labels[sample]


def mix_pictures(real: Image.Image, counterpart: Image.Image) -> Image.Image:
    """Eq. 8 on two RGB pictures of one size, with the defaults of `DiffCoreMix` and random numbers of `random`.

    Either by pixels, λ·real + (1 − λ)·counterpart with λ uniform on [0, 1], or by a patch, a box of uniform area around
    a uniform centre which shows the one on the other. May write into the pictures.
    """
    if random.random() < 0.5:
        return Image.blend(counterpart, real, random.random())
    width, height = real.size
    side = math.sqrt(random.random())
    left, top = random.random() * width - side * width / 2, random.random() * height - side * height / 2
    box = (
        max(0, round(left)),
        max(0, round(top)),
        min(width, round(left + side * width)),
        min(height, round(top + side * height)),
    )
    ground, patch = (counterpart, real) if random.random() < 0.5 else (real, counterpart)
    if box[0] < box[2] and box[1] < box[3]:
        ground.paste(patch.crop(box), box)
    return ground


def make_arms(data: LoaderData, size: int, device: torch.device) -> dict[str, Arm]:
    """All arms by name, the one without counterparts first.

    Args:
        data: what is loaded.
        size: height and width of the training images and of the store.
        device: where batches go.
    """
    from torchvision.transforms import v2

    real = RealImages(data.real, training_transform(size))
    arms = {
        FLOOR: Arm(real),
        PNG: Arm(MixedFromFiles(data.real, data.png, size)),
        RESIZED: Arm(MixedFromFiles(data.real, data.resized, size)),
    }
    # On the CPU the store is read where it lies mapped; a GPU is brought the rows of each batch, or holds them all.
    residencies: dict[str, Residency] = {STORE: "disk"}
    if device.type == "cuda":
        residencies = {f"{STORE}, on disk": "disk", f"{STORE}, on the device": "device"}
    for name, residency in residencies.items():
        arms[name] = Arm(real, DiffCoreMix(data.store, mean=MEAN, std=STD, residency=residency).to(device))
    raw = v2.Compose([v2.Resize((size, size), antialias=True), v2.PILToTensor()])
    crop = RandomResizedCropMirror((size, size))
    cropping = DiffCoreMix(data.store, mean=MEAN, std=STD, residency=residency, geometry=crop).to(device)
    arms[RAW] = Arm(RealImages(data.real, raw), cropping)
    return arms


def training_transform(size: int) -> Any:
    """From an RGB picture to a float tensor [3, size, size]: cropped at random, mirrored, normalized."""
    from torchvision.transforms import v2

    return v2.Compose([_crop(size), to_tensor()])


class Pass(NamedTuple):
    """What one pass took.

    Attributes:
        seconds: of the clock, from asking for the first batch until the last one was ready on the device; of a pass
            without a batch, until its workers had ended.
        cpu_seconds: of this process and its workers together, until the workers had ended.
    """

    seconds: float
    cpu_seconds: float


def one_pass(arm: Arm, order: Sequence[int], *, batch: int, workers: int, device: torch.device, seed: int) -> Pass:
    """Load and mix every batch once, with new workers, and drop it.

    Args:
        arm: how.
        order: samples; none: workers are started and ended.
        batch: samples of each batch; the last may be shorter.
        workers: processes; 0: this one loads.
        device: where batches go.
        seed: of crops and mixes in the workers.
    """
    # The resource usage of ended children tells the workers' CPU time, which a fork server would keep to itself.
    fork = "fork" if workers and "fork" in multiprocessing.get_all_start_methods() else None
    loader = DataLoader(
        IndexedDataset(arm.dataset),
        batch,
        sampler=order,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        multiprocessing_context=fork,
        generator=torch.Generator().manual_seed(seed),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        cpu, start = _cpu_seconds(), time.perf_counter()
        end = start
        ahead = arm.prefetch or device.type != "cpu"
        batches = enumerate(PrefetchLoader(loader, arm.mix, device) if ahead else loader, 1)
        for number, (images, _, index) in batches:
            if arm.mix is not None:
                arm.mix(images, index)
            if number == len(loader) and device.type == "cuda":
                torch.cuda.synchronize(device)
            end = time.perf_counter()
        # The loop ends with the workers.
        return Pass(end - start if order else time.perf_counter() - start, _cpu_seconds() - cpu)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used)


def _picture(path: Path) -> Image.Image:
    with path.open("rb") as file:
        return Image.open(file).convert("RGB")


def _crop(size: int) -> Any:
    from torchvision.transforms import v2

    return v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()])
