"""Whether a dataset's files still hold what they held when a store was made for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from diffcore_gpu.documents import why
from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.contents import StoreContents
from diffcore_gpu.store.fingerprint import Int64Array
from diffcore_gpu.store.provenance import SAMPLED_FILES, file_content, spread
from diffcore_gpu.threads import map_in_order

Content: TypeAlias = Literal["sample", "full"]
"""Of which files the content is looked at: of 256 at most, spread evenly over those that the store knows, or of all."""

_THREADS = 16  # they mostly wait: for the disk, or for a server


def compare_content(
    store: StoreContents,
    path_of: Callable[[int], str],
    content: Content = "full",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Read files and compare their sizes and digests with those that the store knows.

    Args:
        store: knows some of the files, or none.
        path_of: the file of a sample.
        content: which files.
        progress: gets (done, total) of the files.

    Returns:
        How many were compared. With "sample" none is, where none of the sampled paths leads to a file: then the dataset
        keeps its images elsewhere, in an archive, say.

    Raises:
        StoreError: naming the first file that differs, or cannot be read.
    """
    contents = store.file_contents
    if contents is None:
        return 0
    samples = contents.known
    if content == "sample":
        samples = spread(samples, SAMPLED_FILES)
        if not any(os.path.lexists(path_of(sample)) for sample in samples.tolist()):
            return 0
    _compare(store, path_of, samples, progress)
    return len(samples)


def _compare(
    store: StoreContents, path_of: Callable[[int], str], samples: Int64Array, progress: Callable[[int, int], None]
) -> None:
    contents = store.file_contents
    assert contents is not None

    def read(sample: int) -> tuple[int, int]:
        try:
            return file_content(Path(path_of(sample)))
        except (OSError, ValueError) as error:
            raise StoreError(f"{path_of(sample)}: cannot be read, to compare it: {why(error)}.") from error

    wanted: Sequence[int] = samples.tolist()
    for done, (sample, found) in enumerate(zip(wanted, map_in_order(read, wanted, _THREADS), strict=True), 1):
        if found != (int(contents.size[sample]), int(contents.digest[sample])):
            raise StoreError(
                f"{path_of(sample)}: is not the file that {store.path} was made for: it held something else then; put "
                "that back, rebind the store to the dataset, or make it again."
            )
        progress(done, len(wanted))
