"""Intervals for medians by order statistics, which assume nothing about how the values are distributed.

Of n independent values, the number below their median is binomial with n and 1/2. So the interval from the k-th
smallest to the k-th largest misses the median with probability 2·P(Bin(n, 1/2) < k): the sign test turned round.
`scipy.stats.quantile_test` finds the same interval, but gives none where the values are too few for its coverage, and
does not tell the coverage that is reached; a bootstrap of so few values promises none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr  # the binomial distribution: importing scipy.stats for it takes seconds

CONFIDENCE = 0.95
"""With which all intervals of one table hold their medians together."""


class Interval(NamedTuple):
    """An interval for a median.

    Attributes:
        low, high: values of the sample.
        coverage: the probability, at least, that the median lies between them.
    """

    low: float
    high: float
    coverage: float


def corrected(comparisons: int) -> float:
    """The coverage that each of some intervals needs for all together to have `CONFIDENCE` (Bonferroni).

    Args:
        comparisons: how many intervals.
    """
    return 1 - (1 - CONFIDENCE) / max(comparisons, 1)


def median_interval(values: Sequence[float], coverage: float) -> Interval:
    """The narrowest symmetric interval of order statistics that holds the median with `coverage`.

    Where the values are too few for that, it is their whole range, which holds the median with 1 − 2^(1−n).

    Args:
        values: n, one at least, in any order.
        coverage: in [0, 1).
    """
    ordered = sorted(values)
    n = len(ordered)
    outside = 2 * bdtr(np.arange((n + 1) // 2), n, 0.5)  # the probability of missing it, for each k from 1
    k = max(1, int((outside <= 1 - coverage).sum()))
    return Interval(ordered[k - 1], ordered[n - k], max(0.0, 1 - float(outside[k - 1])))
