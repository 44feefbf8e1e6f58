"""Checks of what a caller hands to the store: each gives the value in one form or raises a `StoreError`."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from diffcore_gpu.errors import StoreError, clause
from diffcore_gpu.store.fingerprint import Int64Array, as_labels

INT64 = range(-(1 << 63), 1 << 63)
_MAX_FLOAT32 = float(np.finfo(np.float32).max)


def integer(name: str, value: object, allowed: range) -> int:
    """An integer of any type (not bool, not float) inside `allowed`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise StoreError(f"{name} must be an integer, not {type(value).__name__}.")
    try:
        number = operator.index(value)
    except TypeError as error:  # a tensor or array of several elements has __index__ too
        raise StoreError(f"{name} must be one integer ({clause(error)}).") from error
    if number not in allowed:
        raise StoreError(f"{name} {number} is outside [{allowed.start}, {allowed.stop - 1}].")
    return number


def count(name: str, value: object) -> int:
    """A number of things, at least 1."""
    return integer(name, value, range(1, 1 << 48))


def shape(name: str, value: object) -> tuple[int, int, int]:
    """(C, H, W), each at least 1."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 3:
        raise StoreError(f"{name} must be (C, H, W), not {value!r}.")
    channels, height, width = (integer(name, side, range(1, 1 << 20)) for side in value)
    return channels, height, width


def text(name: str, value: object) -> str:
    """A string that can be written as UTF-8."""
    if not isinstance(value, str):
        raise StoreError(f"{name} must be a string, not {type(value).__name__}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise StoreError(f"{name} {value!r} is not valid Unicode text.") from error
    return value


def texts(name: str, values: object) -> tuple[str, ...]:
    """At least one string."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise StoreError(f"{name} must be a list of at least one string.")
    return tuple(text(f"{name}[{index}]", value) for index, value in enumerate(values))


def class_names(name: str, values: object) -> tuple[str, ...]:
    """At least one string, all different."""
    names = texts(name, values)
    if len(set(names)) < len(names):
        twice = next(value for value in names if names.count(value) > 1)
        raise StoreError(f"{name} has {twice!r} twice; two classes must not have the same name.")
    return names


def json_object(name: str, value: object) -> dict[str, Any]:
    """A mapping in the form that JSON gives back: tuples become lists, keys become strings."""
    if not isinstance(value, Mapping):
        raise StoreError(f"{name} must be a dictionary, not {type(value).__name__}.")
    try:
        written = json.dumps(dict(value), allow_nan=False)
        written.encode()
        if "\\ud" in written:  # escaped halves of pairs are fine, lone ones cannot be written to the file
            json.dumps(json.loads(written), ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{name} must hold only what JSON can: {clause(error)}.") from error
    result: dict[str, Any] = json.loads(written)
    return result


def dataset_labels(labels: object, num_samples: int, num_classes: int) -> Int64Array:
    """The class number of each sample, int64 [num_samples], in [0, num_classes)."""
    array = as_labels(labels)
    if len(array) != num_samples:
        raise StoreError(f"labels: {len(array)} labels for {num_samples} samples.")
    outside = (array < 0) | (array >= num_classes)
    if outside.any():
        at = int(outside.argmax())
        raise StoreError(f"labels: sample {at} has label {array[at]}, and there are {num_classes} classes.")
    return array


def image(name: str, value: object, expected: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """A uint8 tensor or array of the expected shape [C, H, W], as an array that may share its memory."""
    if isinstance(value, torch.Tensor):
        if value.dtype != torch.uint8:
            raise StoreError(f"{name} must be uint8, not {value.dtype}.")
        value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8:
        kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise StoreError(f"{name} must be a uint8 tensor or array, not {kind}.")
    if value.shape != expected:
        raise StoreError(f"{name} must have the shape [C, H, W] = {list(expected)}, not {list(value.shape)}.")
    return value


def similarity(name: str, value: object) -> float:
    """A finite float32, or NaN."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise StoreError(f"{name} must be a number, not {value!r}.") from error
    if math.isinf(number) or abs(number) > _MAX_FLOAT32:
        raise StoreError(f"{name} {number} is not a finite float32.")
    return number


def similarities(name: str, values: object, expected: int) -> npt.NDArray[np.float32]:
    """Finite float32 numbers or NaN, [n]; None gives `expected` NaN."""
    if values is None:
        return np.full(expected, np.nan, np.float32)
    if isinstance(values, torch.Tensor):
        values = values.detach().double().cpu().numpy()
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{name} must be numbers ({clause(error)}).") from error
    if array.ndim != 1 or bool((np.abs(array) > _MAX_FLOAT32).any()):
        raise StoreError(f"{name} must be a list of finite float32 numbers.")
    return array.astype(np.float32)
