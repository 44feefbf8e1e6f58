"""Turn the packed files into pairs of a sample and a row."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from diffcore_gpu.packing.assignment import assign
from diffcore_gpu.packing.imagefolder import ImageFolderScan
from diffcore_gpu.packing.layout import MatchedFile


def pair_up(
    real: ImageFolderScan, kept: Sequence[MatchedFile], limit: int | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pair the samples with the rows that may serve them, never with a row made from their own file.

    Args:
        real: the samples.
        kept: the file behind each row, in the order of the rows.
        limit: pairs for each sample, or None for all that are possible.

    Returns:
        The samples, int64 [pairs], ascending, and for each its row, int64 [pairs], ascending within a sample.
    """
    of_class: dict[int, list[int]] = defaultdict(list)
    of_sample: dict[int, list[int]] = defaultdict(list)
    for row, matched in enumerate(kept):
        if matched.sample < 0:
            of_class[matched.label].append(row)
        else:
            of_sample[matched.sample].append(row)
    limit = limit or len(kept)
    own = _own_rows(real, kept)
    hands = {sample: assign([sample], rows, limit, own)[0] for sample, rows in of_sample.items()}
    members: dict[int, list[int]] = defaultdict(list)
    for sample, label in enumerate(real.labels):
        members[label].append(sample)
    for label, rows in of_class.items():
        hands.update(zip(members[label], assign(members[label], rows, limit, own), strict=True))
    samples = sorted(hands)
    counts = [len(hands[sample]) for sample in samples]
    flat = np.fromiter((row for sample in samples for row in hands[sample]), np.int64, sum(counts))
    return np.repeat(np.array(samples, np.int64), counts), flat


def _own_rows(real: ImageFolderScan, kept: Sequence[MatchedFile]) -> dict[int, set[int]]:
    by_path: dict[str, list[int]] = defaultdict(list)
    for row, matched in enumerate(kept):
        by_path[matched.file.real_path].append(row)
    own: dict[int, set[int]] = {}
    for sample, file in enumerate(real.files):
        if file.real_path in by_path:
            own[sample] = set(by_path[file.real_path])
    return own
