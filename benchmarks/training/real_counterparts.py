"""Counterparts that are other real images of the same class: what the method brings without generated ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

from diffcore_gpu import CounterpartStore
from diffcore_gpu.benchmarks.training.data import Data
from diffcore_gpu.packing import Layout, PackOptions
from diffcore_gpu.packing.pack import pack
from diffcore_gpu.store.format import MANIFEST_NAME

PARTNERS = 64
"""At most so many images of the class for each sample."""


def real_store(data: Data, size: int, out: Path, workers: int | None = None) -> CounterpartStore:
    """The store of the images that are trained on, of which none is paired with itself; written if it is not there.

    Args:
        data: whose `part` the images are taken from, and no others.
        size: height and width of the counterparts.
        out: the store's folder.
        workers: threads that decode; None: one for each processor.

    Raises:
        PackError, StoreError: the images cannot be packed, or `out` holds something else.
    """
    if not (out / MANIFEST_NAME).exists():
        with tempfile.TemporaryDirectory() as folder:
            chosen = data.folder / "train"
            if len(data.part) < len(data.train):
                chosen = Path(folder) / chosen.name
                _link(data, chosen)
            pack(
                PackOptions(
                    real=data.folder / "train",
                    generated=chosen,
                    out=out,
                    height=size,
                    width=size,
                    layout=Layout.CLASS,
                    max_per_sample=PARTNERS,
                    workers=workers,
                    resume=True,
                )
            )
    return CounterpartStore.open(out).bind(data.train)


def _link(data: Data, folder: Path) -> None:
    """A folder of links to the images of the part; packing follows them and knows each image by its own path."""
    names = data.names()
    root = (data.folder / "train").resolve()
    for sample in data.part.tolist():
        link = folder / names[sample]
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(root / names[sample])
