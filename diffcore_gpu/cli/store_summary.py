"""What a store holds, as JSON-able values."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.store.codecs import CODECS

_QUANTILES = {"min": 0.0, "5%": 0.05, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95, "max": 1.0}
_BINS = 10


def summarize(store: CounterpartStore) -> dict[str, Any]:
    """Counts, classes, similarities, prompts, files and metadata of a store.

    Raises:
        StoreError: its columns cannot be read.
    """
    per_sample = np.diff(store.pair_ptr.numpy())
    covered = per_sample[per_sample > 0]
    return {
        "store": str(store.path),
        "checksum": store.checksum,
        "version": store.manifest.version,
        "reading": store.reading,
        "image_shape": list(store.image_shape),
        "samples": store.num_samples,
        "known_files": 0 if store.file_contents is None else len(store.file_contents.known),
        "rows": store.num_rows,
        "pairs": store.num_pairs,
        "coverage": store.coverage,
        "rows_per_sample": {
            "min": int(covered.min()) if len(covered) else 0,
            "mean": float(covered.mean()) if len(covered) else 0.0,
            "max": int(covered.max()) if len(covered) else 0,
        },
        "classes": _classes(store, per_sample > 0),
        "similarity": _similarity(store),
        "prompts": _prompts(store),
        "files": _files(store),
        "metadata": dict(store.metadata),
        "history": [dict(entry) for entry in store.manifest.history],
    }


def _classes(store: CounterpartStore, covered: np.ndarray[Any, np.dtype[np.bool_]]) -> list[dict[str, Any]]:
    count = len(store.class_names)
    labels = store.labels.numpy()
    samples = np.bincount(labels, minlength=count)
    with_rows = np.bincount(labels[covered], minlength=count)
    rows = np.bincount(store.row_label().numpy(), minlength=count)
    return [
        {"name": name, "samples": int(samples[k]), "covered": int(with_rows[k]), "rows": int(rows[k])}
        for k, name in enumerate(store.class_names)
    ]


def _similarity(store: CounterpartStore) -> dict[str, Any] | None:
    values = store.pair_similarity.numpy()
    values = values[~np.isnan(values)].astype(np.float64)
    if not len(values):
        return None
    counts, edges = np.histogram(values, _BINS)
    return {
        "measured": len(values),
        "quantiles": {name: float(np.quantile(values, share)) for name, share in _QUANTILES.items()},
        "histogram": [
            {"low": float(low), "high": float(high), "pairs": int(pairs)}
            for low, high, pairs in zip(edges[:-1], edges[1:], counts, strict=True)
        ],
    }


def _prompts(store: CounterpartStore) -> list[dict[str, Any]]:
    if not store.prompts:
        return []
    ids = store.row_prompt().numpy()
    counts = np.bincount(ids[ids >= 0], minlength=len(store.prompts))
    return [{"text": text, "rows": int(rows)} for text, rows in zip(store.prompts, counts, strict=True)]


def _files(store: CounterpartStore) -> list[dict[str, Any]]:
    shards = [
        {
            "name": shard.name,
            "rows": shard.rows,
            "bytes": shard.size,
            "codec": shard.codec,
            "decoder": CODECS[shard.codec].decoder,
        }
        for shard in store.manifest.shards
    ]
    tables = [
        {"name": table.name, "rows": None, "bytes": table.size, "codec": None, "decoder": None}
        for table in store.manifest.tables
    ]
    return [*shards, *tables]
