"""The settings whose draws are recorded: every setting, every stream, and the edges of what is counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffcore_gpu.plan import Pairs
from diffcore_gpu.plan.beta import Beta

COUNTS = (1, 0, 2, 5, 1, 1, 3, 0, 4, 1, 2, 1, 5, 1, 1, 2)
"""Counterparts of each sample of the store that the plans are drawn for."""
NUM_ROWS = 23
"""Its rows. Three of its pairs name rows beyond them, which draws must take for none."""

EDGE_INDICES = (2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 2**39, 2**40 - 1, -1)
"""Indices at which a word of the counter is all ones, or begins to be counted in the next; no sample of the store."""


def pairs() -> Pairs:
    """The pairs of the store, as arithmetic says and no helper that may change."""
    pair_ptr = torch.tensor([sum(COUNTS[:k]) for k in range(len(COUNTS) + 1)])
    pair_row = torch.tensor([7 * k % (NUM_ROWS + 3) for k in range(sum(COUNTS))])
    return Pairs(pair_ptr, pair_row, NUM_ROWS)


AGAIN = (3 | 1 << 40, 3 | 2 << 40, 12 | 1 << 40, 6 | (2**23 - 1) << 40)
"""Samples of the store that were drawn before in the same round: once, twice, and as often as can be counted."""


def plan_index() -> Tensor:
    """int64, the samples of the plans: every one of the store, the edges, and some that are drawn again."""
    return torch.tensor([*range(len(COUNTS)), *EDGE_INDICES, *AGAIN])


def crop_index() -> Tensor:
    """int64, the samples of the crops: enough that every attempt is the last of some sample, and the same."""
    return torch.tensor([*range(64), *EDGE_INDICES, *AGAIN])


@dataclass(frozen=True)
class PlanCase:
    """One setting of a plan: what `PlanConfig` takes, the size of the images, and the counter."""

    settings: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (224, 224)
    seed: int = 0
    round: int = 0


@dataclass(frozen=True)
class CropCase:
    """One setting of crops: what `RandomResizedCropMirror` takes, the sizes of both images, and the counter."""

    settings: dict[str, Any] = field(default_factory=dict)
    image: tuple[int, int] = (256, 256)
    counterpart: tuple[int, int] = (224, 224)
    seed: int = 0
    round: int = 0


PLANS = {
    "default": PlanCase(),
    "seed": PlanCase(seed=2**40 + 12345),
    "largest seed": PlanCase(seed=2**64 - 1),
    "sign bit of the seed": PlanCase(seed=2**63),
    "round": PlanCase(round=1),
    "round of 31 bits": PlanCase(round=2**31),
    "largest round": PlanCase(round=2**32 - 1),
    "round beyond 32 bits": PlanCase(round=2**32 + 1),
    "p": PlanCase({"p": 0.4}),
    "pixel_prob": PlanCase({"pixel_prob": 0.8}, round=2),
    "real_patch_prob": PlanCase({"real_patch_prob": 0.1}, round=3),
    "lam is a number": PlanCase({"lam": 0.3}),
    "lam on an interval": PlanCase({"lam": (0.25, 0.75)}, round=4),
    "lam below one": PlanCase({"lam": Beta(0.2)}),
    "lam above one": PlanCase({"lam": Beta(8.0)}),
    "box_area is a number": PlanCase({"box_area": 0.3}),
    "box_area on an interval": PlanCase({"box_area": (0.1, 0.5)}, round=5),
    "inside": PlanCase({"box_placement": "inside"}),
    "inside, large boxes": PlanCase({"box_placement": "inside", "box_area": (0.7, 1.0)}, (97, 331)),
    "best": PlanCase({"row_choice": "best"}),
    "flat": PlanCase(size=(1, 33)),
    "one pixel": PlanCase(size=(1, 1)),
    "odd": PlanCase(size=(7, 5), seed=3, round=9),
    "large": PlanCase(size=(4096, 3000)),
}

CROPS = {
    "default": CropCase(),
    "seed": CropCase(seed=2**40 + 12345),
    "largest seed": CropCase(seed=2**64 - 1),
    "round": CropCase(round=1),
    "largest round": CropCase(round=2**32 - 1),
    "round beyond 32 bits": CropCase(round=2**32 + 1),
    "scale": CropCase({"scale": (0.3, 0.5)}),
    "ratio": CropCase({"ratio": (0.5, 3.0)}, round=2),
    "mirror_prob": CropCase({"mirror_prob": 0.2}),
    "rarely fits": CropCase({"scale": (0.3, 1.0)}, image=(60, 200), counterpart=(220, 70)),
    "never fits": CropCase({"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}, image=(10, 100), counterpart=(100, 10)),
    "one pixel": CropCase(image=(1, 1), counterpart=(1, 50)),
    "odd": CropCase(image=(7, 5), counterpart=(333, 501), seed=3, round=9),
    "large": CropCase(image=(4096, 3000), counterpart=(1536, 2048)),
}
