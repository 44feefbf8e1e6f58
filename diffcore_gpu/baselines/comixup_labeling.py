"""The labeling of Co-Mixup: which input each block of each output shows.

For a partition of n inputs and as many outputs on b × b blocks, the labeling z (z[j] of output j holds for each block a
distribution over the inputs) minimizes

    Σ_j Σ_blocks c·z[j]  +  β'/2·Σ_j Σ_neighbours ‖z[j] − z[j]'‖²  +  γ'·(‖Σ_j t[j]‖² − Σ_j ‖t[j]‖²),

c = −(share of the block in the saliency of the input) − η'·log α with α ~ Dirichlet; t[j] counts the blocks that output
j takes from each input; β', γ' and η' are β, γ and η over b². The last term keeps outputs apart and is not submodular.
So one output after the other is labeled anew, the others fixed: the term is then the linear cost 2γ'·A·Σ_(k≠j) t[k] of
an input, and what remains is a graph cut. It is charged only where it exceeds the threshold τ·b². A = (1 − ω)·I + ω·D,
D the distances between the inputs' most salient places, scaled to sum n: inputs whose salient places are far apart from
those in use are dearer.

From the second round on an output of two or three inputs may also show two of them half and half in a block. Before the
last round, outputs that use the same inputs are driven apart by an extra cost γ'.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from diffcore_gpu.baselines.graph_cut import ENERGY_LIMIT, GridEnergy, IntArray, minimize_by_swaps

FloatArray = npt.NDArray[np.float64]

_UNITS = 100_000
"""Energy units of 1; the resolution of the authors' code."""

_HALF_AND_HALF_GAIN = 5e-4
"""What a block that shows two inputs is cheaper than the mean of the two, in the authors' code."""

_STANDS_STILL = 1e-6
"""Relative change of the objective below which the rounds end."""


class Labeling:
    """The labeling of one partition while it is found.

    Attributes:
        shows: float64 [n, b, b, n], z: the weight of each input (last) in each block of each output (first).
        objectives: the objective at the start and after each round.

    Args:
        cost: float64 [n, b, b], c.
        compatibility: float64 [n, n], A.
        beta: β.
        gamma: γ.
        threshold: τ, a share of the b² blocks.
        start: integers [n, b, b] in [0, n), the input of each block of each output.
    """

    def __init__(
        self,
        cost: FloatArray,
        compatibility: FloatArray,
        *,
        beta: float,
        gamma: float,
        threshold: float,
        start: npt.NDArray[np.integer],
    ) -> None:
        self.inputs, self.blocks = cost.shape[0], cost.shape[1]
        places = self.blocks**2
        self._cost = np.ascontiguousarray(cost.transpose(1, 2, 0))
        self._compatibility = compatibility
        self._beta, self._gamma, self._threshold = beta / places, gamma / places, threshold * places
        self.shows: FloatArray = np.eye(self.inputs)[start]
        self._counts = self.shows.sum((1, 2))
        self._total = self._counts.sum(0)
        self._apart: FloatArray = np.zeros_like(self._counts)
        self.objectives = [self.objective()]

    def objective(self) -> float:
        """The objective of the module docstring, without the threshold."""
        vertical, horizontal = np.diff(self.shows, axis=1), np.diff(self.shows, axis=2)
        return float(
            (self._cost * self.shows).sum()
            + self._beta / 2 * ((vertical**2).sum() + (horizontal**2).sum())
            + self._gamma * ((self._total**2).sum() - (self._counts**2).sum())
        )

    def stands_still(self) -> bool:
        """Whether the last round changed next to nothing."""
        before, after = self.objectives[-2:]
        return abs(before - after) < _STANDS_STILL * abs(after)

    def drive_apart(self) -> None:
        """Make outputs that use the same inputs, two or more, use different ones in the next round."""
        used = self._counts > 0
        same = np.triu((used[:, None] == used[None]).all(-1), k=1) & (used.sum(1) > 1)[:, None]
        for one, other in np.argwhere(same):
            first, second = np.flatnonzero(used[one])[:2]
            self._apart[one, first] = self._apart[other, second] = 1

    def mixtures(self, output: int, half_and_half: bool) -> FloatArray:
        """What a block of an output may show: float64 [K, n], first the n inputs, then two of them half and half."""
        single = np.eye(self.inputs)
        used = np.flatnonzero(self._counts[output])
        if not half_and_half or len(used) < 2:
            return single
        # The three that it shows most, by number.
        most = np.sort(used[np.argsort(-self._counts[output, used], kind="stable")[:3]])
        halves = [(single[a] + single[b]) / 2 for a, b in combinations(most, 2)]
        return np.concatenate([single, halves])

    def energy(self, output: int, mixtures: FloatArray) -> GridEnergy:
        """The energy of one output's labeling, the other outputs fixed; labels count the rows of `mixtures`."""
        others = self._total - self._counts[output]
        charged = self._compatibility @ others > self._threshold
        # As in the authors' code, the threshold takes an input out of the sum, not its cost.
        penalty = 2 * self._gamma * (self._compatibility @ (charged * others))
        cost = self._cost + penalty + self._gamma * self._apart[output]
        halves = mixtures[self.inputs :]
        if len(halves):
            cost = np.concatenate([cost, cost @ halves.T - _HALF_AND_HALF_GAIN], axis=-1)
        unary = (_UNITS * cost).astype(np.int64)
        # The smallest is taken off, so that what is cut at the limit is never chosen.
        unary = np.minimum(unary - unary.min(-1, keepdims=True), ENERGY_LIMIT).astype(np.intc)
        smooth = _smooth(mixtures)
        weight = np.full((self.blocks, self.blocks), round(_UNITS * self._beta / 4), dtype=np.intc)
        return GridEnergy(unary, smooth, weight[1:], weight[:, 1:])

    def show(self, output: int, weights: FloatArray) -> None:
        """Let an output show these weights of the inputs, [b, b, n]."""
        counts = weights.sum((0, 1))
        self._total += counts - self._counts[output]
        self._counts[output] = counts
        self.shows[output] = weights


def _smooth(mixtures: FloatArray) -> IntArray:
    """4 between two mixtures, 1 between two inputs half and half and either of them; the authors' code has no more."""
    inputs = mixtures.shape[1]
    smooth = np.full((len(mixtures), len(mixtures)), 4, dtype=np.intc)
    smooth[inputs:, :inputs][mixtures[inputs:] > 0] = 1
    smooth[:inputs, inputs:] = smooth[inputs:, :inputs].T
    np.fill_diagonal(smooth, 0)
    return smooth


def find_labelings(labelings: Sequence[Labeling], *, rounds: int, resolve: bool) -> None:
    """Improve each labeling, output by output, until it stands still or `rounds` are over.

    Partitions know nothing of each other; they go in step, so that their graphs are cut at one time.

    Args:
        labelings: of all partitions of a batch; of one input or more.
        rounds: over all outputs, at least 1.
        resolve: drive outputs that use the same inputs apart before the last round.
    """
    going = [labeling for labeling in labelings if labeling.inputs > 1]
    for number in range(rounds):
        for output in range(max((labeling.inputs for labeling in going), default=0)):
            turn = [labeling for labeling in going if output < labeling.inputs]
            mixtures = [labeling.mixtures(output, half_and_half=number > 0) for labeling in turn]
            found = minimize_by_swaps([one.energy(output, mix) for one, mix in zip(turn, mixtures, strict=True)])
            for labeling, mix, labels in zip(turn, mixtures, found, strict=True):
                labeling.show(output, mix[labels])
        for labeling in going:
            if resolve and number == rounds - 2:
                labeling.drive_apart()
            labeling.objectives.append(labeling.objective())
        going = [labeling for labeling in going if not labeling.stands_still()]
