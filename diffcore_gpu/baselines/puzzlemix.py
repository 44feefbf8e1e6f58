"""PuzzleMix: Kim, Choo, Song, "Puzzle Mix: Exploiting Saliency and Local Statistics for Optimal Mixup", ICML 2020.

    x̃ = z⊙Π_0ᵀ x_0 + (1 − z)⊙Π_1ᵀ x_1,   ỹ = λ'·y_0 + (1 − λ')·y_1,   λ' = mean of z

on a grid of b × b blocks, b drawn from {2, 4, 8, 16} for each batch; x_1 is the permuted batch.

Mask. z has n levels {0, 1/(n−1), …, 1} per block and minimizes, with the shares s_0, s_1 of the blocks in the images'
saliency (`gradient_saliency`),

    Σ_blocks [(1 − z)·s_0 + z·s_1]  +  Σ_neighbours [β'·(z − z')² + β'γ·φ(z, z')]  −  η/b²·Σ_blocks log p(z)

β' = β/(16·b); φ is the mean difference of the pixels along the common border of two blocks, each block showing the
image that z selects; p the binomial distribution of n − 1 trials with probability λ ~ Beta(α, α). φ splits into a part
of each block alone and a weight on (z − z')². A graph cut per image (`graph_cut`) on the CPU.

Transport. Π moves blocks of an image into the part of the mask that shows it, for the least cost
ε·‖i − j‖²/(b − 1)² − s[i]·[z[j] > 0] of moving block i to place j: each block asks for its cheapest place, of those
that ask for one place the cheapest stays, the others must ask elsewhere. As published there are b rounds. A place that
shows the image has a block from the first round on; blocks that have no place by the end fill the hidden places that
are left, so that Π is a permutation. All on the device, for all images at once, as gathers of blocks.

Defaults are those of the authors' code: β 1.2, γ 0.5, η 0.2, n 3, ε 0.8, α 1, colours compared as means of 4 × 4 pixels
(fewer where 4 does not divide the block: at 224 pixels the authors' code has no result for b = 16). The saliency pass
is in eval(), as with their `clean_lam = 0`.

Left out: adversarial noise and the loss on clean images, which change the training rather than the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from diffcore_gpu.baselines._base import Baseline, Batch, Mixed, Need, check_count, check_number
from diffcore_gpu.baselines.features import evaluating
from diffcore_gpu.baselines.graph_cut import GridEnergy, gco, minimize_by_swaps
from diffcore_gpu.baselines.images import as_like, to_device
from diffcore_gpu.baselines.regions import check_divisible, cut
from diffcore_gpu.baselines.saliency import block_shares, gradient_saliency

FloatArray = npt.NDArray[np.float64]

_UNITS = 1000
"""Energy units of a block that holds 1/b² of the saliency; the resolution of the authors' code."""

_LOST = 1e3
"""Added to the cost of a place that a block may not have; far above any cost, which is at most 2ε."""


class MaskTerms(NamedTuple):
    """The energy of the mask but for the prior, for a batch of B.

    Attributes:
        first: [B, b, b], the cost of showing the first image in a block (z = 1).
        second: [B, b, b], the cost of showing the second (z = 0).
        down: [B, b − 1, b], the weight on (z − z')² between a block and the one below.
        right: [B, b, b − 1], likewise to the right.
    """

    first: Tensor
    second: Tensor
    down: Tensor
    right: Tensor


@dataclass(eq=False, kw_only=True)
class PuzzleMix(Baseline):
    """PuzzleMix with the authors' defaults.

    Args:
        alpha: of the Beta distribution of λ, above 0.
        beta: β, weight of the smoothness of the mask.
        gamma: γ, weight of the smoothness of the image, in [0, 1].
        eta: η, weight of the prior.
        levels: n, values that the mask takes, from 2 to 4.
        epsilon: ε, weight of the distance in the transport, above 0; None: nothing is moved.
        neighbourhood: side in pixels of the means in which colours are compared.
        block_counts: the values that b is drawn from, each from 2 to 32.
    """

    name, title = "puzzlemix", "PuzzleMix"
    needs = Need.PARTNERS | Need.GRADIENTS
    on_pixels = True

    alpha: float = 1.0
    beta: float = 1.2
    gamma: float = 0.5
    eta: float = 0.2
    levels: int = 3
    epsilon: float | None = 0.8
    neighbourhood: int = 4
    block_counts: tuple[int, ...] = (2, 4, 8, 16)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha", self.alpha, 0, above=True)
        check_number("beta", self.beta, 0)
        check_number("gamma", self.gamma, 0, 1)
        check_number("eta", self.eta, 0)
        check_count("levels", self.levels, 2, 4)
        if self.epsilon is not None:
            check_number("epsilon", self.epsilon, 0, 100, above=True)
        check_count("neighbourhood", self.neighbourhood, 1)
        for count in self.block_counts:
            check_count("block_counts", count, 2, 32)
        if not self.block_counts:
            raise ValueError("block_counts must have at least one value.")
        gco()

    def mix(self, batch: Batch, model: nn.Module) -> Mixed:
        """Mix each image with its partner in a random permutation."""
        images = batch.images
        check_divisible(images, math.lcm(*self.block_counts), "PuzzleMix")
        blocks = int(self._rng.choice(self.block_counts))
        lam = self._rng.beta(self.alpha, self.alpha)
        partner = self._draw_partner(images)
        with evaluating(model):
            saliency = gradient_saliency(model, images, batch.labels)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            shares = block_shares(saliency, blocks)
            terms = mask_terms(
                self._normalization.pixels(images), shares, partner, self.beta, self.gamma, self.neighbourhood
            )
            energies = mask_energies(terms, lam, self.beta, self.eta, self.levels)
            labels = np.stack(minimize_by_swaps(energies))
            mask = to_device(torch.from_numpy((1 - labels / (self.levels - 1)).astype(np.float32)), images.device)
            mixed = mix_blocks(images, partner, mask, shares, self.epsilon)
        own = mask.mean((1, 2))
        return self._mixed(mixed, batch.labels, partner, own, 1 - own)


def mask_terms(
    pixels: Tensor, shares: Tensor, partner: Tensor, beta: float, gamma: float, neighbourhood: int
) -> MaskTerms:
    """What the energy of the mask takes from the images.

    Args:
        pixels: float32 [B, C, H, W] in [0, 1].
        shares: float32 [B, b, b], s_0; b divides H and W.
        partner: int64 [B].
        beta: β.
        gamma: γ.
        neighbourhood: side in pixels of the means in which colours are compared, where it divides the blocks.
    """
    blocks = shares.shape[-1]
    scale = beta / (16 * blocks) * gamma
    pooled = _pooled(pixels, blocks, neighbourhood)
    down = [scale * term for term in _border_differences(pooled, partner, blocks)]
    right = [scale * term.mT for term in _border_differences(pooled.mT, partner, blocks)]
    first, second = shares[partner].clone(), shares.clone()
    for (both_second, second_first, first_second, both_first), axis in ((down, 1), (right, 2)):
        before, after = slice(0, blocks - 1), slice(1, blocks)
        for own, place, terms in (
            (first, before, first_second + both_first),
            (second, before, second_first + both_second),
            (first, after, second_first + both_first),
            (second, after, first_second + both_second),
        ):
            own.narrow(axis, place.start, blocks - 1).add_(terms, alpha=0.5)
    weights = [(terms[1] + terms[2] - terms[0] - terms[3]) / 2 for terms in (down, right)]
    return MaskTerms(first, second, *weights)


def _pooled(pixels: Tensor, blocks: int, neighbourhood: int) -> Tensor:
    """Means over cells that do not cross blocks: as large as divides the block, at most `neighbourhood` a side."""
    sides = [
        next(side for side in range(min(neighbourhood, size // blocks), 0, -1) if (size // blocks) % side == 0)
        for size in pixels.shape[-2:]
    ]
    return nn.functional.avg_pool2d(pixels, sides)


def _border_differences(pooled: Tensor, partner: Tensor, blocks: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """φ across the border of each block and the one below, [B, b − 1, b] each.

    Shown above and below the border are the images (1, 1), (1, 0), (0, 1), (0, 0) of the two.
    """
    per_block = pooled.shape[2] // blocks
    above, below = pooled[:, :, per_block - 1 : -1 : per_block], pooled[:, :, per_block::per_block]

    def difference(upper: Tensor, lower: Tensor) -> Tensor:
        by_block: Tensor = (upper - lower).abs().mean(1).unflatten(-1, (blocks, -1))
        return by_block.mean(-1)

    both_first = difference(above, below)
    return (
        both_first[partner],
        difference(above[partner], below),
        difference(above, below[partner]),
        both_first,
    )


def mask_energies(terms: MaskTerms, lam: float, beta: float, eta: float, levels: int) -> list[GridEnergy]:
    """The energy of each mask in integers; label l stands for z = 1 − l/(n − 1). One copy to the host."""
    blocks = terms.first.shape[-1]
    sizes = [term[0].numel() for term in terms]
    packed = torch.cat([term.flatten(1) for term in terms], dim=1).cpu().numpy().astype(np.float64)
    first, second, down, right = np.split(packed, np.cumsum(sizes)[:-1], axis=1)
    units = _UNITS * blocks**2
    # (levels − 1)² makes the squares of the mask's levels integers.
    finer = (levels - 1) ** 2
    unary = np.stack(
        [
            (1 - level) * first + level * second - eta / blocks**2 * log_prior
            for level, log_prior in zip(np.linspace(0, 1, levels), _log_binomial(lam, levels), strict=True)
        ],
        axis=-1,
    )
    smooth = np.subtract.outer(np.arange(levels), np.arange(levels)) ** 2
    base = beta / (16 * blocks)
    return [
        GridEnergy(u.reshape(blocks, blocks, levels), smooth.astype(np.intc), d, r)
        for u, d, r in zip(
            (units * unary).astype(np.intc) * np.intc(finer),
            (units * (down + base)).astype(np.intc).reshape(-1, blocks - 1, blocks),
            (units * (right + base)).astype(np.intc).reshape(-1, blocks, blocks - 1),
            strict=True,
        )
    ]


def _log_binomial(lam: float, levels: int) -> FloatArray:
    """The logarithms of C(n−1, l)·λ^(n−1−l)·(1 − λ)^l for l = 0 … n − 1, with 1e-8 added as the authors do."""
    trials = levels - 1
    probabilities = [math.comb(trials, k) * lam ** (trials - k) * (1 - lam) ** k for k in range(levels)]
    return np.log(np.array(probabilities) + 1e-8)


def mix_blocks(images: Tensor, partner: Tensor, mask: Tensor, shares: Tensor, epsilon: float | None) -> Tensor:
    """z⊙Π_0ᵀ x_0 + (1 − z)⊙Π_1ᵀ x_1, in the dtype and memory format of the images.

    Args:
        images: float [B, C, H, W].
        partner: int64 [B].
        mask: float32 [B, b, b], z.
        shares: float32 [B, b, b], the saliency of each image.
        epsilon: ε; None: Π is the identity.
    """
    batch, channels, height, width = images.shape
    blocks = mask.shape[-1]
    rows = cut(images, blocks).permute(0, 2, 4, 1, 3, 5).reshape(batch * blocks**2, -1)  # one for each block
    first_row = torch.arange(batch, device=images.device)[:, None] * blocks**2
    if epsilon is None:
        own = other = torch.arange(blocks**2, device=images.device).expand(batch, -1)
    else:
        own = transport(mask > 0, shares, epsilon)
        other = transport(mask < 1, shares[partner], epsilon)
    shown = rows[(own + first_row).flatten()]
    hidden = rows[(other + first_row[partner]).flatten()]
    mixed = torch.lerp(hidden, shown, mask.reshape(-1, 1).to(images.dtype))
    cells = mixed.reshape(batch, blocks, blocks, channels, height // blocks, width // blocks)
    return as_like(cells.permute(0, 3, 1, 4, 2, 5).reshape(images.shape), images)


def transport(shown: Tensor, shares: Tensor, epsilon: float) -> Tensor:
    """The permutation Π: which block comes to which place.

    Args:
        shown: bool [B, b, b], the places where the image is seen.
        shares: float32 [B, b, b], its saliency.
        epsilon: ε.

    Returns:
        int64 [B, b²]: the block that place j shows, blocks and places numbered row by row.
    """
    batch, blocks = shares.shape[:2]
    places = blocks**2
    cost = epsilon * _squared_distances(blocks, shares.device) - (
        shares.reshape(batch, places, 1) * shown.reshape(batch, 1, places)
    )
    number = torch.arange(places, device=shares.device).expand(batch, -1)
    for _ in range(blocks):
        price, place = cost.min(2)
        best = torch.full_like(price, math.inf).scatter_reduce_(1, place, price, "amin")
        contender = torch.where(price == best.gather(1, place), number, places)
        winner = torch.full_like(number, places).scatter_reduce_(1, place, contender, "amin")
        stays = winner.gather(1, place) == number
        cost.scatter_add_(2, place[..., None], torch.where(stays, 0.0, _LOST)[..., None])
    # As many places are empty as blocks are without one; both sorts put those first, in order.
    empty = torch.argsort((winner < places).to(torch.uint8), dim=1, stable=True)
    homeless = torch.argsort(stays.to(torch.uint8), dim=1, stable=True)
    place = torch.where(stays, place, torch.empty_like(place).scatter_(1, homeless, empty))
    source: Tensor = torch.empty_like(place).scatter_(1, place, number)
    return source


def _squared_distances(blocks: int, device: torch.device) -> Tensor:
    """‖i − j‖²/(b − 1)² between the places of a grid, float32 [b², b²]."""
    line = torch.arange(blocks, device=device, dtype=torch.float32)
    squares = (line[:, None] - line).square() / (blocks - 1) ** 2
    return (squares[:, None, :, None] + squares[None, :, None, :]).reshape(blocks**2, blocks**2)
