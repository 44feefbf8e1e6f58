"""Co-Mixup: Kim, Choo, Jeong, Song, "Co-Mixup: Saliency Guided Joint Mixup with Supermodular Diversity", ICLR 2021.

    x̃_j = Σ_i z_ji⊙x_i,   ỹ_j = Σ_i (mean of z_ji)·y_i

The batch is cut into partitions of 20, in order; each gives as many mixed images as it has inputs, each of them a
mosaic of b × b blocks from any of the inputs. The labeling z is found jointly (`comixup_labeling`): salient, smooth
and diverse. The saliency is the size of the loss gradient (`gradient_saliency`), the most salient place of an image the
8 × 8 pixels of largest mean.

Defaults are those of the authors' code: b 4, β 0.32, γ 1, threshold τ 0.83 (hard), η 0.05, ω 0.001, Dirichlet α 2, 4
rounds, outputs with the same inputs driven apart.

Of inputs that are shown equally often, the first counts as shown more; the authors' code takes them in no given order,
so from the second round on the labelings may differ.

Everything small (the labeling of 20 × 16 blocks) happens on the CPU, for which the device is waited for once; the
published code goes back and forth for each of the 80 graph cuts. The images are mixed on the device, as one matrix
product per block.

The saliency pass is in eval(), as with the authors' `clean_lam = 0`. Left out: the loss on clean images, which their
script adds by default (`clean_lam = 1`); it changes the training rather than the batch. A last partition of one image
is not mixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from diffcore_gpu.baselines._base import Baseline, Batch, Mixed, Need, check_count, check_number, one_hot
from diffcore_gpu.baselines.comixup_labeling import Labeling, find_labelings
from diffcore_gpu.baselines.features import evaluating
from diffcore_gpu.baselines.graph_cut import gco
from diffcore_gpu.baselines.images import as_like, to_device
from diffcore_gpu.baselines.regions import check_divisible, cut
from diffcore_gpu.baselines.saliency import block_shares, gradient_saliency

FloatArray = npt.NDArray[np.float64]

_SALIENT_SIDE = 8
"""Side in pixels of the most salient place."""


@dataclass(eq=False, kw_only=True)
class CoMixup(Baseline):
    """Co-Mixup with the authors' defaults.

    Args:
        blocks: b, per side.
        partition: inputs that are mixed with each other, at least 2.
        beta: β, weight of smoothness.
        gamma: γ, weight of diversity.
        eta: η, weight of the prior.
        omega: ω, weight of the distances of salient places, in [0, 1].
        threshold: τ, in units of the blocks of an image.
        alpha: of the Dirichlet distribution, above 0.
        rounds: over all outputs.
        resolve: drive outputs that use the same inputs apart.
    """

    name, title = "comixup", "Co-Mixup"
    needs = Need.PARTNERS | Need.GRADIENTS

    blocks: int = 4
    partition: int = 20
    beta: float = 0.32
    gamma: float = 1.0
    eta: float = 0.05
    omega: float = 0.001
    threshold: float = 0.83
    alpha: float = 2.0
    rounds: int = 4
    resolve: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("blocks", self.blocks, 2, 32)
        check_count("partition", self.partition, 2)
        check_number("beta", self.beta, 0, 100)
        check_number("gamma", self.gamma, 0)
        check_number("eta", self.eta, 0)
        check_number("omega", self.omega, 0, 1)
        check_number("threshold", self.threshold, 0)
        check_number("alpha", self.alpha, 0, above=True)
        check_count("rounds", self.rounds, 1)
        gco()

    def mix(self, batch: Batch, model: nn.Module) -> Mixed:
        """Mix each partition of the batch."""
        images = batch.images
        check_divisible(images, self.blocks, "Co-Mixup")
        with evaluating(model):
            saliency = gradient_saliency(model, images, batch.labels)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            shares, places = self._to_host(saliency)
            parts = [slice(start, start + self.partition) for start in range(0, len(images), self.partition)]
            labelings = [self._labeling(shares[part], places[part]) for part in parts]
            find_labelings(labelings, rounds=self.rounds, resolve=self.resolve)
            classes = one_hot(batch.labels, self.num_classes)
            mixed, targets = [], []
            for part, labeling in zip(parts, labelings, strict=True):
                shows = to_device(torch.from_numpy(labeling.shows.astype(np.float32)), images.device)
                mixed.append(mosaic(images[part], shows))
                targets.append(shows.mean((1, 2)) @ classes[part])
        return Mixed(as_like(torch.cat(mixed), images), torch.cat(targets))

    def _to_host(self, saliency: Tensor) -> tuple[FloatArray, FloatArray]:
        """The shares of the blocks, [B, b, b], and the most salient places, [B, 2] in pixels, in one copy."""
        shares, places = block_shares(saliency, self.blocks), most_salient_places(saliency)
        packed = torch.cat([shares.flatten(1), places.to(shares.dtype)], dim=1).cpu().numpy().astype(np.float64)
        return packed[:, :-2].reshape(-1, self.blocks, self.blocks), packed[:, -2:]

    def _labeling(self, shares: FloatArray, places: FloatArray) -> Labeling:
        inputs = len(shares)
        prior = self._rng.dirichlet(np.full(inputs, self.alpha))[:, None, None]
        return Labeling(
            -shares - self.eta / self.blocks**2 * np.log(prior + 1e-8),
            compatibility(places, self.omega),
            beta=self.beta,
            gamma=self.gamma,
            threshold=self.threshold,
            start=self._rng.integers(inputs, size=shares.shape),
        )


def most_salient_places(saliency: Tensor) -> Tensor:
    """Row and column of the first pixel of the most salient 8 × 8 pixels (fewer in small images): int64 [B, 2].

    Args:
        saliency: float32 [B, H, W].
    """
    window = min(_SALIENT_SIDE, *saliency.shape[-2:])
    means = nn.functional.avg_pool2d(saliency[:, None], window, stride=1)[:, 0]
    place = means.flatten(1).argmax(1)
    return torch.stack([place // means.shape[-1], place % means.shape[-1]], dim=1)


def compatibility(places: FloatArray, omega: float) -> FloatArray:
    """A = (1 − ω)·I + ω·D·n/ΣD, D the city-block distances of the places [n, 2]; D = 0 where they are all one."""
    inputs = len(places)
    distances: FloatArray = np.abs(places[:, None] - places[None]).sum(-1)
    total = distances.sum()
    scaled = distances * (inputs / total) if total > 0 else distances
    return (1 - omega) * np.eye(inputs) + omega * scaled


def mosaic(images: Tensor, shows: Tensor) -> Tensor:
    """Each block of each output as the mean, weighted by `shows`, of that block of the inputs.

    Args:
        images: float [n, C, H, W].
        shows: float32 [m, b, b, n], weights that sum to 1 over the inputs; b divides H and W.

    Returns:
        [m, C, H, W] of the images' dtype.
    """
    blocks = shows.shape[1]
    # Weights are 0, ½ and 1, which every dtype holds.
    mixed = torch.einsum("myxn,ncyhxw->mcyhxw", shows.to(images.dtype), cut(images, blocks))
    return mixed.reshape(len(shows), *images.shape[1:])
