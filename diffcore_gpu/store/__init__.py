"""The counterpart store: generated images and the samples they are paired with, in safetensors files."""

from __future__ import annotations

from diffcore_gpu.store.fingerprint import dataset_fingerprint
from diffcore_gpu.store.format import FORMAT_VERSION
from diffcore_gpu.store.growth import convert, merge, prune, rebind
from diffcore_gpu.store.reader import CounterpartStore
from diffcore_gpu.store.writer import CounterpartWriter

__all__ = [
    "FORMAT_VERSION",
    "CounterpartStore",
    "CounterpartWriter",
    "convert",
    "dataset_fingerprint",
    "merge",
    "prune",
    "rebind",
]
