"""The folder beside a store that keeps what its report needs: the figures, and thumbnails of discarded images.

    OUT.report/
        report.json     the GenerationReport
        index.html      the page
        discards/       one PNG for each discarded image that is kept, with its Candidate in the text chunk "candidate"

A discarded image and what is known of it are one file, written beside its name and renamed, so that a run killed at any
moment leaves only whole ones.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from diffcore_gpu.documents import open_regular, parse_json, read_json, why
from diffcore_gpu.errors import GenerationError, PackError, clause
from diffcore_gpu.generation.report.records import Candidate, GenerationReport
from diffcore_gpu.generation.report.tally import StratifiedChoice
from diffcore_gpu.packing.colour import ImageProblemError
from diffcore_gpu.packing.decode import decode, pillow_ready
from diffcore_gpu.packing.options import Fit
from diffcore_gpu.store.durable import make_folder, named_os_errors, replace_file

KEPT_DISCARDS = 200
"""How many discarded images are kept at most."""
LONGEST_SIDE = 160
"""Of a thumbnail, in pixels; a smaller image keeps its size."""
_TEXT = "candidate"
# What Pillow raises on a PNG that is broken, or says that it is far too large.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


class ReportFolder:
    """What a run keeps for its report; nothing is made on disk before something is kept.

    Args:
        path: the folder.
        limit: how many discarded images are kept at most, spread over the classes.

    Attributes:
        path: the folder.
        page: where the HTML page belongs.
    """

    def __init__(self, path: str | Path, limit: int = KEPT_DISCARDS) -> None:
        self.path = Path(path)
        self.page = self.path / "index.html"
        self._limit = limit
        self._choice: StratifiedChoice[Candidate] | None = None

    @classmethod
    def beside(cls, store: str | Path) -> ReportFolder:
        """The report folder of a store: ``OUT.report`` for ``OUT``."""
        folder = Path(store).absolute()
        return cls(folder.with_name(folder.name + ".report"))

    def keep_discard(self, candidate: Candidate, image: Tensor) -> bool:
        """Offer a discarded image; whether it is kept depends on the set of images offered, not on their order.

        So a run that was killed, and offers some images again, ends with the same ones. Call it from one thread.

        Args:
            candidate: what is known of it.
            image: uint8 [3, H, W] on the CPU; it is stored as a thumbnail.

        Returns:
            Whether it is kept for now; a later one may push it out.

        Raises:
            ValueError: the candidate was accepted, or the image is something else.
            GenerationError: a file that is there already is damaged.
            StoreError: the folder cannot be written.
        """
        if candidate.accepted:
            raise ValueError(f"the candidate of sample {candidate.sample} was accepted; only discarded ones are kept.")
        choice = self._load()
        key = _key(candidate)
        if not choice.wants(candidate.label, key):
            return self._file(candidate).exists()
        info = PngInfo()
        info.add_itxt(_TEXT, json.dumps(candidate.as_json()))
        data = io.BytesIO()
        shrink(image).save(data, "PNG", pnginfo=info)
        with named_os_errors(self.path):
            make_folder(self._discards)
        replace_file(self._file(candidate), data.getvalue())
        self._push_out(choice.add(candidate.label, key, candidate))
        return True

    def discards(self) -> list[tuple[Candidate, Path]]:
        """The discarded images that are kept, by class and sample, each with the file of its thumbnail.

        Raises:
            GenerationError: a file is damaged.
        """
        return [(candidate, self._file(candidate)) for candidate in self._load()]

    def write(self, report: GenerationReport) -> None:
        """Keep the report.

        Raises:
            StoreError: the folder cannot be written.
        """
        with named_os_errors(self.path):
            make_folder(self.path)
        replace_file(self._report, (json.dumps(report.as_json(), allow_nan=False) + "\n").encode())

    def read(self) -> GenerationReport:
        """The report that was kept.

        Raises:
            GenerationError: there is none, or it is damaged.
        """
        try:
            return GenerationReport.from_json(read_json(self._report, root=self.path))
        except FileNotFoundError:
            raise GenerationError(
                f"{self._report}: missing; `diffcore generate` writes it when it has finished."
            ) from None
        except OSError as error:
            raise GenerationError(f"{self._report} cannot be read: {why(error)}.") from error
        except ValueError as error:  # JSON, UTF-8 and the report itself
            raise GenerationError(f"{self._report} is damaged: {clause(error)}.") from error

    def clear(self) -> None:
        """Remove what an earlier run kept, for one that starts anew.

        Raises:
            StoreError: a file cannot be removed.
        """
        with named_os_errors(self.path, "cannot be emptied"):
            for file in (*self._discards.glob("*.png"), *self._discards.glob("*.png.tmp"), self._report, self.page):
                file.unlink(missing_ok=True)
        self._choice = None

    @property
    def _discards(self) -> Path:
        return self.path / "discards"

    @property
    def _report(self) -> Path:
        return self.path / "report.json"

    def _file(self, candidate: Candidate) -> Path:
        return self._discards / f"{_key(candidate)}.png"

    def _load(self) -> StratifiedChoice[Candidate]:
        if self._choice is None:
            choice: StratifiedChoice[Candidate] = StratifiedChoice(self._limit)
            for file in sorted(self._discards.glob("*.png")):
                candidate = _read_candidate(file)
                # A run killed between the two steps of keeping one image and dropping another left both.
                self._push_out(choice.add(candidate.label, _key(candidate), candidate))
            self._choice = choice
        return self._choice

    def _push_out(self, candidate: Candidate | None) -> None:
        if candidate is not None:
            with named_os_errors(self.path):
                self._file(candidate).unlink(missing_ok=True)


def _key(candidate: Candidate) -> str:
    # The seed too: a sample that gets several counterparts has several first attempts.
    return f"{candidate.sample:09d}-{candidate.attempt:04d}-{candidate.seed}"


def _read_candidate(file: Path) -> Candidate:
    try:
        with os.fdopen(open_regular(file, file.parent), "rb") as opened, Image.open(opened, formats=("PNG",)) as image:
            if max(image.size) > LONGEST_SIDE:
                raise ValueError("it is no thumbnail.")
            image.load()
            candidate = Candidate.from_json(parse_json(image.info[_TEXT]))
        if _key(candidate) != file.stem or candidate.accepted:
            raise ValueError("it is of another image than its name says.")
    except (*_DAMAGE, KeyError, TypeError) as error:
        raise GenerationError(f"{file} is damaged or no thumbnail of this report; delete it.") from error
    return candidate


def shrink(image: Tensor) -> Image.Image:
    """An RGB thumbnail of a tensor.

    Args:
        image: uint8 [3, H, W] or [1, H, W] on the CPU.

    Raises:
        ValueError: it is something else.
    """
    if image.ndim != 3 or image.shape[0] not in (1, 3) or image.dtype != torch.uint8 or 0 in image.shape:
        raise ValueError(f"expected an image uint8 [3, H, W], got {image.dtype} {list(image.shape)}.")
    pixels = image.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(pixels)
    return picture.resize(_fitting(picture.size), Image.Resampling.BICUBIC, reducing_gap=3.0)


def shrink_file(path: Path, size: tuple[int, int] | None = None) -> Image.Image:
    """An RGB thumbnail of a file.

    Args:
        path: of any image that `diffcore pack` takes.
        size: (width, height); the middle of the image is cut to that aspect ratio. None: the image's own.

    Raises:
        GenerationError: the file is missing, or no image.
    """
    try:
        with pillow_ready():
            if size is None:
                with Image.open(path) as image:
                    size = _fitting(image.size)
            pixels = decode(path, size[1], size[0], Fit.CROP).pixels
    except ImageProblemError as error:
        raise GenerationError(f"{path} cannot be shown in the report: {error.detail or error.kind}.") from error
    except (OSError, PackError, Image.DecompressionBombError) as error:
        raise GenerationError(f"{path} cannot be shown in the report: it cannot be read as an image.") from error
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _fitting(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, LONGEST_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
