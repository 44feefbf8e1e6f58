"""Image embeddings by open_clip: of every counterpart that is judged, and of the real images once and for all."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from diffcore_gpu.documents import MAX_SETTINGS, open_regular, read_json, read_regular, why
from diffcore_gpu.errors import GenerationError, clause, nearest
from diffcore_gpu.packing.decode import MAX_FILE_BYTES, pillow_ready
from diffcore_gpu.packing.imagefolder import ImageFolderScan
from diffcore_gpu.packing.similarity import EmbeddedFiles
from diffcore_gpu.store.durable import replace_file
from diffcore_gpu.store.provenance import FileContents, digest_of, file_content
from diffcore_gpu.threads import default_workers, map_in_order

DEFAULT_WEIGHTS = "openai"
"""The weights that the paper's authors used, with ViT-B-32."""
CACHE_NAME = "real-embeddings.safetensors"
"""The name, in the folder of a report, of the file that keeps the embeddings of the real images."""
_TENSOR = "embeddings"  # in that file
CONFIG_NAME, WEIGHTS_NAME = "open_clip_config.json", "open_clip_model.safetensors"
PRECISIONS = ("fp32", "fp16", "bf16")
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
_INSTALL = "pip install 'diffcore-gpu[generate]'"
# What Pillow raises on a file that is broken or too large.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


class OpenClipEmbedder:
    """The image tower of an open_clip model with its own preprocessing.

    Args:
        model: an open_clip model.
        preprocess: its transform of a PIL image to a tensor.
        name: model and weights, as the store keeps them.
        device: where the model is.
        precision: of its weights.
        batch_size: images that go through it together.
    """

    def __init__(
        self, model: Any, preprocess: Callable[[Image.Image], Tensor], name: str, device: str, precision: str,
        batch_size: int,
    ) -> None:  # fmt: skip
        self.name = name
        self._model = model.eval()
        self._preprocess = preprocess
        self._device, self._dtype, self._batch_size = torch.device(device), _DTYPES[precision], batch_size

    def embed(self, images: Tensor) -> Tensor:
        """The embeddings of images.

        Args:
            images: uint8 [n, 3, H, W] on the CPU, of any size; preprocessed as the model was trained.

        Returns:
            float32 [n, d] of unit length, on the CPU.
        """
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be uint8 [n, 3, H, W], got {images.dtype} {list(images.shape)}.")
        pictures = (Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()) for image in images)
        return self._all(map_in_order(self._preprocess, pictures, default_workers()), len(images), _quiet)

    def embed_files(
        self, paths: Sequence[Path], progress: Callable[[int, int], None] = lambda done, total: None
    ) -> EmbeddedFiles:
        """The embeddings of image files, decoded in threads as ImageFolder decodes them, while the model computes.

        Each file is read once, so that its digest is that of the bytes which were embedded.

        Args:
            paths: n files.
            progress: gets (done, total).

        Returns:
            Embeddings on the CPU, and size and digest of each file.

        Raises:
            GenerationError: a file is no image that can be decoded.
        """

        def decoded(path: Path) -> tuple[Tensor, tuple[int, int]]:
            try:
                data = read_regular(path, MAX_FILE_BYTES)
                with Image.open(io.BytesIO(data)) as image:
                    return self._preprocess(image.convert("RGB")), (len(data), digest_of(data))
            except _UNREADABLE as error:
                raise GenerationError(f"{path} cannot be decoded: {clause(error)}; repair or remove it.") from error

        read: list[tuple[int, int]] = []

        def tensors() -> Iterator[Tensor]:
            for tensor, content in map_in_order(decoded, paths, default_workers()):
                read.append(content)
                yield tensor

        with pillow_ready():
            embeddings = self._all(tensors(), len(paths), progress)
        return EmbeddedFiles(embeddings, _contents(read))

    def _all(self, prepared: Iterator[Tensor], count: int, progress: Callable[[int, int], None]) -> Tensor:
        embeddings: list[Tensor] = []
        batch: list[Tensor] = []
        for done, tensor in enumerate(prepared, 1):
            batch.append(tensor)
            if len(batch) == self._batch_size or done == count:
                embeddings.append(self._run(torch.stack(batch)))
                batch.clear()
                progress(done, count)
        return torch.cat(embeddings) if embeddings else self._run(torch.zeros(0))

    def _run(self, batch: Tensor) -> Tensor:
        with torch.inference_mode():
            if not len(batch):  # the width of an embedding, without an image to take it from
                size = self._preprocess(Image.new("RGB", (8, 8))).unsqueeze(0)
                return torch.empty(0, self._run(size).shape[1])
            features = self._model.encode_image(batch.to(self._device, self._dtype))
            features = torch.nn.functional.normalize(features.to(torch.float32), dim=1).cpu()
        if not torch.isfinite(features).all():
            raise GenerationError(f"{self.name}: embeddings are not finite; use precision fp32.")
        return features.clone()  # usable outside of inference mode


def _quiet(done: int, total: int) -> None:
    pass


def load_embedder(
    model: str = "ViT-B-32",
    weights: str | None = None,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    batch_size: int = 64,
) -> OpenClipEmbedder:
    """Load an image–text model with open_clip.

    Args:
        model: a model's name in open_clip, or a folder with `open_clip_config.json` and `open_clip_model.safetensors`.
        weights: for a name: a tag of pretrained weights ("openai" if None), or a .safetensors file.
        device: where it runs.
        precision: "fp32", "fp16" or "bf16".
        batch_size: images that go through it together.

    Raises:
        GenerationError: the model or its weights are unknown, unreadable or pickled, or a package is missing.
    """
    if precision not in PRECISIONS:
        raise GenerationError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}.")
    try:
        import open_clip
    except ImportError as error:
        raise GenerationError(f"Filtering needs the package open_clip_torch: {_INSTALL}.") from error
    folder = Path(model)
    if folder.is_dir():
        if weights is not None:
            raise GenerationError(f"{model} is a folder with weights of its own; leave out {weights!r}.")
        source, pretrained, quick = f"local-dir:{model}", None, False
        files = _files_of(folder)
        _check_config(files[0])
        name = f"open_clip {folder.resolve().name} {_digest(files)}"
    else:
        if model not in open_clip.list_models():
            raise GenerationError(_unknown_model(model, open_clip.list_models()))
        source, pretrained = model, weights or DEFAULT_WEIGHTS
        quick = _check_weights(open_clip, model, pretrained)
        name = f"open_clip {model} " + (_digest([Path(pretrained)]) if Path(pretrained).is_file() else pretrained)
    with _readable(model, pretrained):
        loaded, _, preprocess = open_clip.create_model_and_transforms(
            source, pretrained=pretrained, precision=precision, device=device, force_quick_gelu=quick
        )
    return OpenClipEmbedder(loaded, preprocess, name, device, precision, batch_size)


def _files_of(folder: Path) -> list[Path]:
    files = [folder / CONFIG_NAME, folder / WEIGHTS_NAME]
    for path in files:
        if not path.is_file():
            raise GenerationError(
                f"{folder} has no {path.name}; a filter's model is a folder with {CONFIG_NAME} and {WEIGHTS_NAME}."
            )
    return files


def _check_config(path: Path) -> None:
    """Refuse a description of a model that is none, which open_clip would look into without a question."""
    try:
        config = read_json(path, MAX_SETTINGS)
    except (OSError, ValueError) as error:
        raise GenerationError(f"{path} cannot be read: {why(error)}.") from error
    parts = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(parts, dict) or not isinstance(config.get("preprocess_cfg", {}), dict):
        raise GenerationError(f"{path} describes no model of open_clip: it has no object model_cfg.")


def _check_weights(open_clip: Any, model: str, pretrained: str) -> bool:
    """Refuse weights that cannot be loaded; returns whether they were trained with the quick form of GELU."""
    path = Path(pretrained)
    if path.suffix in _PICKLES:
        raise GenerationError(f"{pretrained} is a pickle, which can run any code; save the weights as .safetensors.")
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise GenerationError(f"{pretrained} is not a file.")
        return False
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained not in tags:
        raise GenerationError(
            f"open_clip has no weights {pretrained!r} for {model}; it has {', '.join(tags) or 'none'}. A .safetensors "
            "file does too."
        )
    # A model that was trained with the quick form gives other embeddings with the exact one.
    return bool(open_clip.get_pretrained_cfg(model, pretrained).get("quick_gelu", False))


def _unknown_model(model: str, known: list[str]) -> str:
    hint = nearest(model, known, "see open_clip.list_models().")
    if "/" in model or model.startswith("."):
        return f"{model} is not a folder, and no model of open_clip; {hint}"
    return f"open_clip has no model {model!r}; {hint}"


def _digest(files: list[Path]) -> str:
    """The first 12 digits of the SHA-256 of files."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:12]


@contextmanager
def _readable(model: str, pretrained: str | None) -> Iterator[None]:
    """Turn what open_clip, the hub and safetensors raise into one sentence, and keep their remarks off the screen."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)  # open_clip logs to the root, an error too that it then raises
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about deprecations inside; a mismatch of GELU was settled before
            yield
    except (
        OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError,
        SafetensorError,
    ) as error:  # fmt: skip
        what = model if pretrained is None else f"{model} with weights {pretrained}"
        raise GenerationError(
            f"{what} cannot be loaded ({clause(error)[:200]}); where there is no network, give a folder with the model "
            "or a .safetensors file of its weights."
        ) from error
    finally:
        root.setLevel(level)


class FileEmbedder(Protocol):
    """What is needed of a model: its name, and embeddings of files."""

    name: str

    def embed_files(self, paths: Sequence[Path], progress: Callable[[int, int], None]) -> EmbeddedFiles:
        """Embeddings on the CPU, and size and digest of each file as it was read for them."""
        ...


def real_embeddings(
    embedder: FileEmbedder,
    real: ImageFolderScan,
    cache: Path | None,
    progress: Callable[[int, int], None],
    say: Callable[[str], None] = lambda message: None,
) -> EmbeddedFiles:
    """The embeddings of an ImageFolder's samples, from the cache where it holds them.

    The cache belongs to one model and to files of certain names and content, for which every file is read and hashed;
    any other, and one that is damaged, is computed anew and replaced.

    Args:
        embedder: the model.
        real: the N real images.
        cache: a .safetensors file, whose folder is made if it is missing; None: nothing is kept.
        progress: gets (done, total) of the images that are embedded; it is not called where the cache serves.
        say: gets a remark for a person.

    Returns:
        Embeddings on the CPU and contents of the files, in the order of the samples.

    Raises:
        GenerationError: a real image cannot be read.
        StoreError: the cache cannot be written.
    """
    paths = [real.path(sample) for sample in range(len(real))]
    for path in paths:
        try:
            path.stat()
        except OSError as error:
            raise _unreadable(path, error) from error
    if cache is not None and cache.exists():
        contents = _contents(list(map_in_order(_content, paths, default_workers())))
        found = _read(cache, _key(embedder.name, real, contents), len(paths))
        if isinstance(found, Tensor):
            return EmbeddedFiles(found, contents)
        say(f"{cache} is computed anew: {found}.")
    embedded = embedder.embed_files(paths, progress)
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        key = _key(embedder.name, real, embedded.contents)
        replace_file(cache, save({_TENSOR: embedded.embeddings}, {"key": key, "model": embedder.name}))
    return embedded


def _unreadable(path: Path, error: OSError | ValueError) -> GenerationError:
    return GenerationError(f"{path} cannot be read: {why(error)}.")


def _content(path: Path) -> tuple[int, int]:
    try:
        return file_content(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _contents(read: Sequence[tuple[int, int]]) -> FileContents:
    contents = FileContents.unknown(len(read))
    contents.set(range(len(read)), read)
    return contents


def _key(model: str, real: ImageFolderScan, contents: FileContents) -> str:
    facts = [model, real.file_names, contents.checksum]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _read(cache: Path, key: str, count: int) -> Tensor | str:
    """The embeddings, or a clause that says why the file does not serve."""
    try:
        os.close(open_regular(cache))  # the package would wait for a pipe
        with safe_open(cache, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return "it belongs to another model or to other images"
            embeddings: Tensor = file.get_tensor(_TENSOR)
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError, AttributeError, KeyError) as error:
        return f"it is damaged ({clause(error)})"
    if embeddings.dtype != torch.float32 or embeddings.dim() != 2 or len(embeddings) != count:
        return "it does not hold unit embeddings of these images"
    lengths = torch.linalg.vector_norm(embeddings, dim=1)
    return (
        embeddings if bool(((lengths - 1).abs() < 1e-3).all()) else "it does not hold unit embeddings of these images"
    )
