"""Where the counterparts live while a model trains: in the memory of the device that mixes, or in the store's files."""

from __future__ import annotations

import math
import os
import warnings
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor

from diffcore_gpu.errors import StoreError
from diffcore_gpu.plan import Pairs
from diffcore_gpu.store.durable import named_os_errors
from diffcore_gpu.store.nvjpeg import Decoder, decode_on_gpu
from diffcore_gpu.store.verification import check_pair_numbers

if TYPE_CHECKING:
    from diffcore_gpu.store.reader import CounterpartStore

Residency: TypeAlias = Literal["auto", "device", "disk", "host"]
RESIDENCIES: tuple[Residency, ...] = ("auto", "device", "disk", "host")

_COPY_BYTES = 64 << 20  # of host memory, while the rows are copied
_RESERVE = 512 << 20
"""Bytes of GPU memory that a store leaves free; a training step needs far more, and fails clearly by itself."""


class ResidentStore:
    """A store's rows and pairs as tensors on one device. Immutable, so copies of a module share it.

    Raw files are mapped into memory where that is safe, so all processes of a machine that read the same store share
    one copy of it in the operating system's page cache.

    Attributes:
        device: where the rows are mixed.
        residency: where they live: "device", "host" or "disk"; never "auto".
        shards: uint8 [n_i, C, H, W] each, in row order, readable from the device; on a GPU exactly one, contiguous or
            channels_last, or none where `prefetched` or `fetched`.
        prefetched: whether the device cannot read the rows by itself, so that `PrefetchLoader` must bring them: "host"
            and "disk" with a GPU.
        fetched: whether the rows of each batch are read out of the files for it, by a `PrefetchLoader` ahead or by
            `DiffCoreMix` itself: "host" and "disk" on the CPU, where the store is not mapped.
        mapped: whether `shards` are the store's own maps of its files.
        pairs: CSR arrays of the pairs, on the device; where `prefetched`, on the CPU.
        row_label: int64 [num_rows], the class of each row, likewise.

    Args:
        store: an open store.
        device: the device that mixes.
        residency: "device": the whole store is copied, decoded, to the device's memory; "disk": read out of its files;
            "host": likewise, and the operating system is asked to read all of them into host memory at once, in the
            background; "auto": "disk" on the CPU, on a GPU "device" if the store fits into its free memory, else
            "disk".
        decoder: what decodes rows on their way to a GPU; `check_decoder` must have accepted it.

    Raises:
        StoreError: the pairs lead out of the store; or it does not fit: "device" into the device's free memory, "host"
            into the machine's memory.
        ValueError: a residency or a device that is not supported.
    """

    def __init__(
        self, store: CounterpartStore, device: torch.device, residency: Residency = "auto", decoder: Decoder = "cpu"
    ) -> None:
        if residency not in RESIDENCIES:
            raise ValueError(f"residency must be one of {', '.join(RESIDENCIES)}, got {residency!r}.")
        if device.type not in ("cpu", "cuda"):
            raise ValueError(f"DiffCoreMix runs on the CPU and on CUDA or ROCm GPUs, not on {device}.")
        check_pair_numbers(store)  # a kernel follows them without looking
        self._source = store, residency, decoder
        self.device = device
        if residency == "auto":
            residency = "device" if device.type == "cuda" and image_bytes(store) <= _room(device) else "disk"
        self.residency = residency
        if residency == "host":
            _read_ahead(store)
        self.prefetched = residency != "device" and device.type != "cpu"
        self.fetched = residency != "device" and device.type == "cpu" and not store.is_mapped
        self.mapped = residency != "device" and not self.prefetched and not self.fetched
        self.shards: list[Tensor] = []
        if residency == "device":
            self.shards = [_copy_to(store, device, decoder)]
        elif self.mapped:
            self.shards = list(store.image_shards)
        near = torch.device("cpu") if self.prefetched else device
        self.pairs = Pairs(store.pair_ptr.to(near), store.pair_row.to(near), store.num_rows)
        self.row_label = store.row_label().to(near)

    def laid_out(self, memory_format: torch.memory_format) -> ResidentStore:
        """The same with its rows in another memory format, so that a kernel reads them as widely as its images.

        It takes their size once more until what is there is freed; where a GPU has no room for that, the rows stay as
        they are, and a warning says so.
        """
        (rows,) = self.shards
        if self.device.type == "cuda" and rows.nbytes > _room(self.device):
            warnings.warn(
                f"{self._source[0].path}: {rows.nbytes / 2**30:.1f} GiB more in the memory of {self.device} would let "
                "channels_last images be mixed faster.",
                stacklevel=2,
            )
            return self
        other = object.__new__(ResidentStore)  # copies of this class are itself
        vars(other).update(vars(self), shards=[rows.contiguous(memory_format=memory_format)])
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> ResidentStore:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        store, residency, decoder = self._source
        return ResidentStore, (store, self.device, residency, decoder)


def image_bytes(store: CounterpartStore) -> int:
    """The size of all images of a store in bytes."""
    return torch.Size((store.num_rows, *store.image_shape)).numel()


def _room(device: torch.device) -> int:
    """Bytes of a GPU's memory that a store may take."""
    return torch.cuda.mem_get_info(device)[0] - _RESERVE


def _copy_to(store: CounterpartStore, device: torch.device, decoder: Decoder) -> Tensor:
    """All rows in one tensor on the device, read and decoded part by part."""
    if device.type == "cuda" and image_bytes(store) > (room := _room(device)):
        raise StoreError(
            f"{store.path}: its images need {image_bytes(store) / 2**30:.1f} GiB in the memory of {device}, where "
            f'{max(room + _RESERVE, 0) / 2**30:.1f} GiB are free; use residency="disk" with a PrefetchLoader, or '
            "pack the store at a smaller --size."
        )
    rows = torch.empty((store.num_rows, *store.image_shape), dtype=torch.uint8, device=device)
    step = max(1, _COPY_BYTES // torch.Size(store.image_shape).numel())
    for first in range(0, store.num_rows, step):
        part = rows[first : first + step]
        numbers = torch.arange(first, first + len(part))
        if device.type == "cpu":
            store.images(numbers, out=part)
        elif decoder == "nvjpeg":
            part.copy_(decode_on_gpu(store, numbers, device))
        else:
            part.copy_(store.images(numbers))
    return rows


def _read_ahead(store: CounterpartStore) -> None:
    """Ask the operating system to bring the files into the page cache; returns at once."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf
    size = sum(shard.size for shard in store.manifest.shards)
    if size > memory:
        raise StoreError(
            f"{store.path}: its images need {size / 2**30:.1f} GiB of host memory, but this machine has "
            f'{memory / 2**30:.1f} GiB; use residency="disk".'
        )
    if not hasattr(os, "posix_fadvise"):  # then the first epoch reads them
        return
    for shard in store.manifest.shards:
        path = store.path_of(shard)
        with named_os_errors(path, "cannot be read"), path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
