"""What a gallery shows: a batch of images and its store, or of real digits, and the model that its methods look at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffcore_gpu import CounterpartStore
from diffcore_gpu.benchmarks.harness.tensors import load_safetensors, load_saved
from diffcore_gpu.benchmarks.training.models import make_model
from diffcore_gpu.demo import digits
from diffcore_gpu.errors import BenchmarkError
from diffcore_gpu.packing.colour import ImageProblemError
from diffcore_gpu.packing.decode import decode, pillow_ready
from diffcore_gpu.packing.imagefolder import ImageFolderScan, scan_image_folder
from diffcore_gpu.packing.options import Fit, Layout, PackOptions
from diffcore_gpu.packing.pack import pack

DIGITS_REAL, DIGITS_COUNTERPARTS = 8, 4
"""Digits of each class: samples, and others that stand for their counterparts."""
DIGITS = 10 * DIGITS_REAL
"""Samples without a folder of images."""
DEFAULT_SIZE = 224
"""Height and width without a store."""


@dataclass(frozen=True)
class GalleryBatch:
    """What every method is given.

    Attributes:
        images: uint8 [B, 3, H, W].
        labels: int64 [B].
        index: int64 [B], dataset indices.
        file_names: one for each image.
        class_names: of all classes.
        store: counterparts of the dataset; None: there are none.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    file_names: list[str]
    class_names: list[str]
    store: CounterpartStore | None


def load_batch(data: Path, store: CounterpartStore | None, *, batch: int, size: int | None, seed: int) -> GalleryBatch:
    """Choose images of as many classes as possible, and decode them at the size of the training.

    Args:
        data: an ImageFolder.
        store: made for it; images that have a counterpart there come first.
        batch: images, at least 1.
        size: height and width; None: those of the store, or `DEFAULT_SIZE`.
        seed: which images.

    Raises:
        BenchmarkError: the folder is missing or has fewer images than the batch, one of them is broken, or the store is
            of another size or not of colour images.
        PackError: the folder is no ImageFolder.
        StoreError: the store was not made for this folder.
    """
    if not data.is_dir():
        raise BenchmarkError(f"--real {data}: there is no such folder.")
    scan = scan_image_folder(data)
    shape, fit = (size or DEFAULT_SIZE, size or DEFAULT_SIZE), Fit.CROP
    if store is not None:
        store.bind(scan, labels=scan.labels, file_names=scan.file_names)
        channels, *held = store.image_shape
        if channels != 3:
            raise BenchmarkError(f"{store.path} holds images of {channels} channels; a gallery shows RGB images.")
        if size is not None and held != [size, size]:
            shown = "×".join(map(str, held))
            raise BenchmarkError(f"{store.path} holds images of {shown}, but --size is {size}; leave --size out.")
        shape = (held[0], held[1])
        fit = Fit.STRETCH if store.metadata.get("resize") == "stretch" else Fit.CROP
    if len(scan) < batch:
        raise BenchmarkError(f"--real {data}: holds {len(scan)} images, too few for --batch {batch}.")
    covered = None if store is None else (store.pair_ptr[1:] > store.pair_ptr[:-1]).numpy()
    chosen = choose(np.asarray(scan.labels), covered, batch, seed)
    return GalleryBatch(
        images=torch.stack([_decoded(scan, sample, shape, fit) for sample in chosen]),
        labels=torch.tensor([scan.labels[sample] for sample in chosen]),
        index=torch.tensor(chosen),
        file_names=[scan.files[sample].name for sample in chosen],
        class_names=scan.class_names,
        store=store,
    )


def choose(labels: np.ndarray, covered: np.ndarray | None, count: int, seed: int) -> list[int]:
    """Distinct samples in random order: those with counterparts first, then of as many classes as possible.

    Args:
        labels: int [N].
        covered: bool [N], which samples have a counterpart; None: nobody asks.
        count: how many, at most N.
        seed: of the choice.
    """
    order = np.random.default_rng(seed).permutation(len(labels)).tolist()
    without = np.zeros(len(labels), dtype=bool) if covered is None else ~covered
    seen: Counter[tuple[bool, int]] = Counter()
    rank = {}
    for sample in order:
        group = bool(without[sample]), int(labels[sample])
        rank[sample] = group[0], seen[group]  # the k-th of every class comes before the (k+1)-th of any
        seen[group] += 1
    return sorted(order, key=rank.__getitem__)[:count]


def _decoded(scan: ImageFolderScan, sample: int, shape: tuple[int, int], fit: Fit) -> Tensor:
    try:
        with pillow_ready():
            return torch.from_numpy(decode(scan.path(sample), *shape, fit).pixels)
    except ImageProblemError as problem:
        raise BenchmarkError(
            f"{scan.path(sample)}: is not an image that can be shown: {problem}; remove it or take another --seed."
        ) from None


def write_digits(folder: Path, seed: int) -> tuple[Path, CounterpartStore]:
    """An ImageFolder of real digits, and a store whose counterparts are other real digits of the same classes.

    Args:
        folder: an empty one.
        seed: which digits.

    Returns:
        The ImageFolder and the store.

    Raises:
        DiffcoreError: scikit-learn is not installed.
    """
    images, labels = digits.load_digits()
    others, chosen, _ = digits.split(labels, DIGITS_REAL, seed)
    # The others are sorted by their number in the set, so that the first of each class are any.
    stand_ins = np.concatenate([others[labels[others] == label][:DIGITS_COUNTERPARTS] for label in np.unique(labels)])
    real, counterparts = folder / "digits", folder / "other_digits"
    digits.write_real(real, images[chosen], labels[chosen])
    digits.write_real(counterparts, images[stand_ins], labels[stand_ins])
    pack(PackOptions(real, counterparts, folder / "store", digits.SIZE, digits.SIZE, layout=Layout.CLASS))
    return real, CounterpartStore.open(folder / "store")


def load_model(
    name: str, num_classes: int, *, weights: Path | None, pretrained: bool, seed: int
) -> tuple[nn.Module, str]:
    """A classifier in training mode on the CPU, and a few words about its weights.

    Args:
        name: see `make_model`.
        num_classes: K.
        weights: a state dict as .safetensors, or anything else as `torch.save` writes it: the dict, or a checkpoint
            that holds it as "model".
        pretrained: the library's ImageNet weights; the classifying layer is random.
        seed: of random weights.

    Raises:
        BenchmarkError: both kinds of weights are asked for, there is no such model, or the file does not hold its
            weights.
    """
    if weights is not None and pretrained:
        raise BenchmarkError("--weights and --pretrained exclude each other; give one of them.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model(name, num_classes, pretrained=pretrained).train()
    if weights is None:
        return model, f"{name} with pretrained weights" if pretrained else f"a model with random weights ({name})"
    state = _state(weights)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        first = " ".join(" ".join(str(error).splitlines()[1:2] or [str(error)]).split())
        raise BenchmarkError(
            f"--weights {weights}: do not fit {name} with {num_classes} classes: {first[:200].rstrip('.')}."
        ) from None
    return model, f"{name} with weights of {weights.name}"


def _state(path: Path) -> dict[str, Any]:
    try:
        state = load_safetensors(path) if path.suffix == ".safetensors" else load_saved(path)
    except FileNotFoundError:
        raise BenchmarkError(f"--weights {path}: there is no such file.") from None
    except (OSError, ValueError) as error:
        raise BenchmarkError(
            f"--weights {path}: cannot be read as a state dict; give .safetensors, or what torch.save wrote of tensors."
        ) from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise BenchmarkError(f"--weights {path}: holds no state dict, which has tensors by their names.")
    return state
