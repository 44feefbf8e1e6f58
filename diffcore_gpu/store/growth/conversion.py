"""A store in another form: of version 1 in the newest version, or with its images kept by another codec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.codecs import codec_named
from diffcore_gpu.store.format import RAW
from diffcore_gpu.store.growth.staging import require_folder
from diffcore_gpu.store.reader import CounterpartStore
from diffcore_gpu.store.tables import written_pairs
from diffcore_gpu.store.writer import CounterpartWriter

_READ_BYTES = 16 << 20


def convert(
    source: str | Path,
    out: str | Path,
    *,
    codec: str = RAW,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CounterpartStore:
    """Write a store again in the newest version of the format, with the same rows, pairs and metadata.

    Every image is compared with its digest; a store of version 1, which has none, is verified first. Interrupted at any
    moment, the same call goes on with what was done; when `out` is finished, it opens it.

    Args:
        source: the store's folder.
        out: the new store's folder.
        codec: how the new store keeps its images, as `CounterpartWriter` takes it. Similarities are kept, also where a
            codec loses something.
        progress: gets (done, total) of the rows.

    Returns:
        The new store. Its shards are equal, byte for byte, for equal images and `rows_per_shard`.

    Raises:
        StoreError: the store is damaged, `out` is the store itself or holds another one, or it cannot be written.
    """
    require_folder(out)
    store = CounterpartStore.open(source)
    target = Path(out).absolute()
    if isinstance(store.path, Path) and target.resolve() == store.path.resolve():
        raise StoreError(f"{target}: is the store to convert; give another folder for the new one.")
    manifest = store.manifest
    if manifest.version > 1:
        store = CounterpartStore.open(source, verify="lazy")
    else:
        store.verify()
    kept = {"codec": codec_named(codec).setting} if "codec" in store.metadata else {}
    entry = {
        "operation": "convert",
        "before": store.checksum,
        "version": manifest.version,
        "codecs": sorted({shard.codec for shard in manifest.shards}),
    }
    with CounterpartWriter(
        target,
        num_samples=store.num_samples,
        image_shape=store.image_shape,
        class_names=store.class_names,
        labels=store.labels,
        file_names=store.file_name_digests,
        file_contents=store.file_contents,
        metadata={**store.metadata, **kept},
        rows_per_shard=manifest.rows_per_shard,
        codec=codec,
        history=(*manifest.history, entry),
        resume=True,
    ) as writer:
        if not writer.finished:
            _copy_rows(store, writer, progress)
            pairs = written_pairs(store)[writer.num_pairs :]
            writer.add_pairs(pairs["sample"], pairs["row"], pairs["similarity"])
    return CounterpartStore.open(target)


def _copy_rows(store: CounterpartStore, writer: CounterpartWriter, progress: Callable[[int, int], None]) -> None:
    columns = {name: store.row_column(name).tolist() for name in store.row_columns}
    step = max(1, _READ_BYTES // int(np.prod(store.image_shape)))
    for first in range(writer.num_rows, store.num_rows, step):
        rows = np.arange(first, min(first + step, store.num_rows))
        for row, image in zip(rows.tolist(), store.images(rows), strict=True):
            prompt = columns["prompt"][row]
            writer.add_row(
                image,
                label=columns["label"][row],
                prompt=None if prompt < 0 else store.prompts[prompt],
                seed=columns["seed"][row],
                attempt=columns["attempt"][row],
                source=columns["source"][row] if "source" in columns else 0,
            )
        progress(int(rows[-1]) + 1, store.num_rows)
