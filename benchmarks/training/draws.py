"""Seeds of the parts of a run, each from what it belongs to: so a run that goes on draws what it would have drawn."""

from __future__ import annotations

import hashlib
from enum import IntEnum


class Use(IntEnum):
    """What a seed is for; different uses have different seeds."""

    MODEL = 1
    ORDER = 2
    AUGMENTATION = 3
    METHOD = 4
    LAYERS = 5


def seed_of(use: Use, seed: int, *numbers: int) -> int:
    """A seed in [0, 2⁶³).

    Args:
        use: what for.
        seed: of the run.
        numbers: such as the epoch, or epoch and sample; not negative.
    """
    key = "/".join(map(str, (int(use), seed, *numbers)))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) >> 1
