"""What the suite `loader` reads: real images, PNG files of counterparts in two sizes, and a store of the same ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from diffcore_gpu import CounterpartStore, CounterpartWriter
from diffcore_gpu.benchmarks.loader.pictures import write_generated, write_photographs
from diffcore_gpu.errors import BenchmarkError
from diffcore_gpu.packing.colour import ImageProblemError
from diffcore_gpu.packing.decode import Decoded, decode, pillow_ready
from diffcore_gpu.packing.imagefolder import ImageFolderScan, scan_image_folder
from diffcore_gpu.packing.options import Fit
from diffcore_gpu.threads import default_workers, map_in_order


@dataclass(frozen=True)
class Chosen:
    """The samples that are loaded.

    Attributes:
        paths: of the real images, one for each sample.
        labels: likewise, indices into `class_names`.
        class_names: of all classes.
    """

    paths: list[Path]
    labels: list[int]
    class_names: list[str]


@dataclass(frozen=True)
class LoaderData:
    """The samples and their counterparts, the same ones in each form.

    Attributes:
        real: the samples.
        png: the PNG file of each sample's counterpart, as it was generated.
        resized: the same, stored at the size of the training images.
        store: one row for each distinct file of `png`; sample i is paired with that of its file.
        bytes: on disk, of the distinct counterparts in each form.
    """

    real: Chosen
    png: list[Path]
    resized: list[Path]
    store: CounterpartStore
    bytes: dict[str, int]


def prepare(
    data: Path | None, generated: Path | None, folder: Path, *, images: int, size: int, png_size: int
) -> LoaderData:
    """Make whatever is not given, and decode every file once, so that a broken one is found before anything is timed.

    Args:
        data: ImageFolder of real images; None: synthetic pictures.
        generated: folder of PNG files with the class folders of `data`; None: synthetic ones, or with `data` its own
            images, mirrored and cut to squares.
        folder: an empty one, for what is made.
        images: samples at most, spread evenly over `data`.
        size: height and width of the store and of the PNG files that are resized.
        png_size: height and width of the PNG files that are made.

    Raises:
        BenchmarkError: generated images without real ones, a folder without images, a class without generated images,
            or a file that is no image.
        PackError: a folder that is no ImageFolder, or that cannot be read.
    """
    if data is None:
        if generated is not None:
            raise BenchmarkError("--generated needs --real, the real images of the same classes.")
        data = folder / "real"
        write_photographs(data, images)
        generated = folder / "png"
        write_generated(generated, images, png_size)
    real = chosen_of(data, images)
    if generated is None:
        _check(real.paths, size)
        png = _write_from_real(real, folder / "png", png_size)
    else:
        png = paired(real, _scan(generated, "--generated"))
        _check(real.paths, size)
    distinct = list(dict.fromkeys(png))
    row_of = {path: row for row, path in enumerate(distinct)}
    rows = [row_of[path] for path in png]
    store = _pack(real, distinct, rows, folder, size)
    resized = [_resized(folder, row) for row in range(len(distinct))]
    return LoaderData(
        real,
        png,
        [resized[row] for row in rows],
        store,
        {"png": _bytes(distinct), "png_resized": _bytes(resized), "store": _bytes((folder / "store").iterdir())},
    )


def paired(real: Chosen, generated: ImageFolderScan) -> list[Path]:
    """For each sample a generated image of its class: the files of a class in turn.

    Raises:
        BenchmarkError: a class of `real` has none.
    """
    files: dict[str, list[Path]] = defaultdict(list)
    for number, label in enumerate(generated.labels):
        files[generated.class_names[label]].append(generated.path(number))
    turn: dict[str, int] = defaultdict(int)
    found = []
    for label in real.labels:
        name = real.class_names[label]
        if name not in files:
            raise BenchmarkError(
                f"--generated {generated.root}: holds no folder {name!r} with images; every class of --real needs one."
            )
        found.append(files[name][turn[name] % len(files[name])])
        turn[name] += 1
    return found


def _scan(folder: Path, option: str) -> ImageFolderScan:
    if not folder.is_dir():
        raise BenchmarkError(f"{option} {folder}: there is no such folder.")
    return scan_image_folder(folder)


def chosen_of(folder: Path, images: int) -> Chosen:
    """So many images of an ImageFolder, spread evenly over it; all of them, where it has fewer.

    Raises:
        BenchmarkError: there is no such folder.
        PackError: it is no ImageFolder.
    """
    scan = _scan(folder, "--real")
    count = min(images, len(scan))
    samples = [sample * len(scan) // count for sample in range(count)]
    return Chosen([scan.path(sample) for sample in samples], [scan.labels[s] for s in samples], scan.class_names)


def _decoded(paths: Sequence[Path], size: int) -> Iterable[Decoded]:
    def one(path: Path) -> Decoded:
        try:
            return decode(path, size, size, Fit.STRETCH)
        except ImageProblemError as problem:
            raise BenchmarkError(f"{path}: is not an image that can be loaded: {problem}; remove it.") from None

    with pillow_ready():
        yield from map_in_order(one, paths, default_workers())


def _check(paths: Sequence[Path], size: int) -> None:
    for _ in _decoded(paths, size):
        pass


def _write_from_real(real: Chosen, folder: Path, png_size: int) -> list[Path]:
    """A PNG file for each sample from its real image: the content and so the cost of a photograph."""

    def write(sample: int) -> Path:
        path = folder / f"{sample:06d}.png"
        with Image.open(real.paths[sample]) as image:
            mirrored = ImageOps.mirror(image.convert("RGB"))
        ImageOps.fit(mirrored, (png_size, png_size), Image.Resampling.BICUBIC).save(path)
        return path

    folder.mkdir()
    return list(map_in_order(write, range(len(real.paths)), default_workers()))


def _pack(real: Chosen, distinct: Sequence[Path], rows: Sequence[int], folder: Path, size: int) -> CounterpartStore:
    """Write each distinct counterpart into a store and as a PNG file, both of size×size and of the same pixels."""
    label_of = dict(zip(rows, real.labels, strict=True))
    _resized(folder, 0).parent.mkdir()
    with CounterpartWriter(
        folder / "store",
        num_samples=len(rows),
        image_shape=(3, size, size),
        class_names=real.class_names,
        labels=real.labels,
    ) as writer:
        for row, image in enumerate(_decoded(distinct, size)):
            writer.add_row(image.pixels, label=label_of[row])
            Image.fromarray(np.ascontiguousarray(image.pixels.transpose(1, 2, 0))).save(_resized(folder, row))
        writer.add_pairs(range(len(rows)), rows)
    return CounterpartStore.open(folder / "store").bind(real.labels, labels=real.labels)


def _resized(folder: Path, row: int) -> Path:
    return folder / "png_resized" / f"{row:06d}.png"


def _bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())
