"""Tensors from files that anyone may have written: nothing in them is run, and what they claim is bounded by them."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from diffcore_gpu.documents import open_regular
from diffcore_gpu.errors import clause


def load_saved(path: Path, device: torch.device | None = None, *, mmap: bool = False) -> Any:
    """What `torch.save` wrote: tensors, numbers, texts, and lists and dicts of them.

    Args:
        path: the file.
        device: of the tensors; None: the CPU.
        mmap: read no tensor before it is used.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is something else, holds more than that, or is compressed, which `torch.save` does not do: a
            small file could ask for any amount of memory.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            is_zip = zipfile.is_zipfile(file)
            if is_zip:
                _check_sizes(file, size)
            file.seek(0)
            # Only the zip can be mapped, and only by its name.
            source: Any = os.fspath(path) if mmap and is_zip else file
            return torch.load(source, map_location=device or "cpu", weights_only=True, mmap=mmap and is_zip)
        except OSError as error:
            if error.errno is not None:
                raise
            raise ValueError(f"is damaged: {clause(error)}.") from error
        except Exception as error:
            # zipfile, the unpickler and torch raise whatever their steps raise on bytes that make no sense: from
            # struct.error and KeyError to AssertionError and MemoryError. The cause stays attached.
            raise ValueError(f"is damaged, or holds more than tensors and plain values: {clause(error)}.") from error


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, on the CPU.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is something else.
    """
    os.close(open_regular(path))  # the package would wait for a pipe
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"is damaged: {clause(error)}.") from error
    return tensors


def _check_sizes(file: Any, size: int) -> None:
    with zipfile.ZipFile(file) as content:
        entries = content.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its parts are compressed.")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("its parts are larger than the file.")
