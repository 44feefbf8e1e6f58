"""`PrefetchLoader`: the next batches and their counterparts are brought to the device while this one trains.

What happens to a sample is a function of seed, round and dataset index, so the plan of a coming batch is drawn on the
host, bit-identical to the one that `DiffCoreMix` would draw on the device. The rows that it names are gathered out of
the mapped store by a background thread, into page-locked memory if the device is a GPU, and copied on a stream of their
own together with the batch. `DiffCoreMix` then mixes by that plan. Bytes that move to the device per sample beside the
batch itself: C·H·W of the counterpart (once for samples that share a row), 46 of the plan, and 34 of crops with a
geometry.

The round is not known ahead, only guessed: that of the current batch plus one for each batch between. A guess is
compared when its batch is handed out, and the batch is prepared anew, without overlap, where it was wrong. So the
images are those of the loop without a loader, whatever the loop does.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from diffcore_gpu.fetch import Fetcher, to_device
from diffcore_gpu.handover import Draw, Prefetched
from diffcore_gpu.transform import DiffCoreMix


@dataclass(frozen=True)
class _Ready:
    """A batch on its way to the device."""

    batch: Any
    given: Any  # as the loader yielded it, on the host
    prefetched: Prefetched | None
    tensors: list[Tensor]
    copied: torch.cuda.Event | None


class PrefetchLoader:
    """Brings the next batches of a loader, and their counterparts, to the device while the current one trains.

    >>> mix = dc.DiffCoreMix(store, residency="disk").cuda()
    >>> for images, labels, index in dc.PrefetchLoader(loader, mix, "cuda"):
    ...     images = mix(images, index)

    The loop is the same for every residency, and so are the images, bit for bit; where the counterparts lie on the
    device already, only the batch is copied ahead. On a GPU, "disk" and "host" need it. Hand the index to `mix` as it
    was yielded, before the next batch is taken. Batches of a `mix` in `eval()` bring no counterparts.

    Like a `DataLoader` it can be iterated any number of times, and every iteration starts anew. An exception of the
    loader is raised in the place of the batch that it stopped. Batches are taken from the loader `depth` batches ahead
    and by the caller's own thread, so that a dataset which uses torch's global random numbers repeats from run to run.
    It does not share batches among ranks: where a trainer does that to loaders, wrap the loader that it has prepared.

    Args:
        loader: yields tuples or lists (images, …, index) whose last entry is an int64 vector [B] of dataset indices,
            as a `DataLoader` of an `IndexedDataset` does; new tensors for every batch. With ``pin_memory=True`` it
            saves the background thread a copy. Tensors in tuples, lists and dicts are moved; other things pass through.
        mix: the transform that will mix the batches; None: batches of any form are moved, nothing is prepared.
        device: where the batches go; None: to the device of `mix`.
        depth: how many batches are prepared ahead, at least 1; as many more batches and their counterparts lie in the
            device's memory.

    Raises:
        TypeError: `mix` is not a `DiffCoreMix`.
        ValueError: depth is below 1; or neither a device nor a mix is given. While iterating: `mix` is on another
            device, a batch has no index, or an index is outside the store.
        StoreError: while iterating, where the store's files have changed.
    """

    def __init__(
        self,
        loader: Any,
        mix: DiffCoreMix | None,
        device: torch.device | str | int | None = None,
        *,
        depth: int = 2,
    ) -> None:
        given: Any = getattr(mix, "_orig_mod", mix)  # torch.compile(mix)
        if given is not None and not isinstance(given, DiffCoreMix):
            raise TypeError(f"mix must be a DiffCoreMix or None, got {type(given).__name__}.")
        mix = given
        if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
            raise ValueError(f"depth must be an integer of at least 1, got {depth!r}.")
        if device is None:
            if mix is None:
                raise ValueError("PrefetchLoader needs a device or a mix to know where the batches go.")
            device = mix.round.device
        device = torch.device(device)
        if device.type not in ("cpu", "cuda"):
            raise ValueError(f"PrefetchLoader brings batches to the CPU and to CUDA or ROCm GPUs, not to {device}.")
        if device == torch.device("cuda"):  # without a number, unlike the devices of tensors
            device = torch.device("cuda", torch.cuda.current_device())
        self.loader = loader
        self.mix = mix
        self.device = device
        self.depth = depth
        self._fetcher = None if mix is None else Fetcher(mix.store, mix.config, mix.geometry, device, mix.decoder)

    def __len__(self) -> int:
        """The number of batches, if the loader knows it."""
        if not isinstance(self.loader, Sized):
            raise TypeError(f"{type(self.loader).__name__} has no length.")
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        if self.mix is not None and self.mix.round.device != self.device:
            raise ValueError(
                f"DiffCoreMix is on {self.mix.round.device}, but the PrefetchLoader brings batches to {self.device}; "
                "move it there."
            )
        return self._batches()

    def _batches(self) -> Iterator[Any]:
        stream = _copy_stream(self.device) if self.device.type == "cuda" else None
        source = iter(self.loader)
        coming: deque[Future[_Ready]] = deque()
        more, failure = True, None
        with _background_thread() as background:
            while True:
                while more and len(coming) <= self.depth:
                    try:
                        batch = next(source)
                    except StopIteration:
                        more = False
                    except Exception as error:  # noqa: BLE001  the batches before it come first
                        more, failure = False, error
                    else:
                        made = _event_of(batch)
                        draw = self._draw_in(len(coming))
                        coming.append(background.submit(self._prepare, batch, draw, stream, made))
                        del batch
                if not coming:
                    break
                yield self._hand_out(coming.popleft().result(), stream)
        if self.mix is not None:
            self.mix.handover.clear()
        if failure is not None:
            raise failure
        if self.mix is not None:
            self.mix.check()

    def _draw_in(self, batches: int) -> Draw | None:
        """What the mix will draw with, that many batches from now; None: nothing needs to be prefetched."""
        mix = self.mix
        if mix is None or not mix.training or mix.residency == "device":
            return None
        now = mix.next_draw()
        return now._replace(round=now.round + batches) if mix.counts_rounds else now

    def _prepare(
        self, batch: Any, expected: Draw | None, stream: torch.cuda.Stream | None, made: torch.cuda.Event | None
    ) -> _Ready:
        """Start the copies of a batch; in the background."""
        with record_function("diffcore::prefetch"), _on(stream):
            if stream is not None and made is not None:
                stream.wait_event(made)
            tensors: list[Tensor] = []
            moved = batch if stream is None else self._move(batch, tensors)
            prefetched = None if expected is None else self._fetch(batch, expected, tensors)
            return _Ready(moved, batch, prefetched, tensors, None if stream is None else stream.record_event())

    def _hand_out(self, ready: _Ready, stream: torch.cuda.Stream | None) -> Any:
        now = self._draw_in(0)
        prefetched, copied = ready.prefetched, ready.copied
        if now is not None and (prefetched is None or prefetched.draw != now):
            with record_function("diffcore::prefetch"), _on(stream):
                prefetched = self._fetch(ready.given, now, ready.tensors)
                copied = None if stream is None else stream.record_event()
        if copied is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(copied)
            for tensor in ready.tensors:  # their memory belongs to the other stream, which must not reuse it too early
                tensor.record_stream(current)
        if now is not None and prefetched is not None and self.mix is not None:
            self.mix.handover.put(ready.batch[-1], prefetched)
        return ready.batch

    def _move(self, value: Any, tensors: list[Tensor]) -> Any:
        if isinstance(value, Tensor):
            moved = to_device(value, self.device)
            tensors.append(moved)
            return moved
        if isinstance(value, dict):
            return {key: self._move(entry, tensors) for key, entry in value.items()}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(self._move(entry, tensors) for entry in value))
        if isinstance(value, tuple | list):
            return type(value)(self._move(entry, tensors) for entry in value)
        return value

    def _fetch(self, batch: Any, using: Draw, tensors: list[Tensor]) -> Prefetched:
        """Draw the plan of a batch and start to copy it and its counterparts; adds them to `tensors`."""
        assert self._fetcher is not None
        assert self.mix is not None
        size = None if self.mix.geometry is None else _image_size(batch)
        prefetched, held = self._fetcher.fetch(_index_of(batch), size, using)
        tensors += held
        return prefetched


@contextlib.contextmanager
def _background_thread() -> Iterator[ThreadPoolExecutor]:
    """One thread; leaving drops what has not begun and waits for the batch that has."""
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="diffcore-prefetch")
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream of all copies to a device: memory that was allocated on one stream is used again on that one alone."""
    return torch.cuda.Stream(device)


def _event_of(batch: Any) -> torch.cuda.Event | None:
    """When a batch that the loader made on a GPU will be there; None: it was made on the host, and is."""
    if isinstance(batch, Tensor):
        return torch.cuda.current_stream(batch.device).record_event() if batch.is_cuda else None
    if not isinstance(batch, dict | tuple | list):
        return None
    entries = batch.values() if isinstance(batch, dict) else batch
    return next((event for entry in entries if (event := _event_of(entry)) is not None), None)


def _on(stream: torch.cuda.Stream | None) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if stream is None else torch.cuda.stream(stream)


def _index_of(batch: Any) -> Tensor:
    """The last entry of a batch, on the CPU."""
    index = batch[-1] if isinstance(batch, tuple | list) and len(batch) >= 2 else None
    if not isinstance(index, Tensor) or index.dtype != torch.int64 or index.dim() != 1:
        got = f"{index.dtype} {list(index.shape)}" if isinstance(index, Tensor) else type(batch).__name__
        raise ValueError(
            f"PrefetchLoader needs batches (images, …, index) that end with an int64 vector [B], got {got}; wrap the "
            "dataset in IndexedDataset."
        )
    return index.cpu()


def _image_size(batch: Any) -> tuple[int, int]:
    """Height and width of a batch's first entry, the images."""
    images = batch[0]
    if not isinstance(images, Tensor) or images.dim() != 4:
        raise ValueError("PrefetchLoader needs batches (images, …, index) that begin with images [B, C, H, W].")
    return images.shape[-2], images.shape[-1]
