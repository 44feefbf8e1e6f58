"""The random choices of generation: which samples get counterparts, and the seed and prompt of every image.

All are Philox4x32-10 words of the key `seed` and a counter, so a choice depends on nothing but its own number: not on
the batch, the device, or what was generated before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from diffcore_gpu.plan.philox import philox4x32, split_words

STREAM_COVERAGE = 64
"""Philox stream of (order of the samples of a class: high word, low word); the mixing plan uses streams below."""
STREAM_PROMPT = 65
"""Philox stream of (first prompt), the third counter word being the copy."""
STREAM_SEED = 66
"""Philox stream of (seed: low word, high word), the third counter word being copy · 2¹⁵ + attempt modulo 2³²."""

Int64s = npt.NDArray[np.int64]


class Draw(NamedTuple):
    """What an image is generated from.

    Attributes:
        seed: int64 in [0, 2⁶³).
        prompt_id: position in the prompt set.
    """

    seed: int
    prompt_id: int


def choose_samples(labels: Int64s, num_classes: int, fraction: float, seed: int) -> Int64s:
    """The samples that get counterparts, stratified: in each class of n samples, n · fraction rounded half up.

    A smaller fraction chooses a subset of what a larger one chooses.

    Args:
        labels: int64 [N], class number of each sample.
        num_classes: number of classes.
        fraction: in (0, 1].
        seed: of the choice.

    Returns:
        Sample numbers, ascending, int64.
    """
    samples = torch.arange(len(labels))
    low, high = split_words(samples)
    words = philox4x32((low, high, torch.zeros_like(low), torch.full_like(low, STREAM_COVERAGE)), seed)
    order = np.lexsort((words[1].numpy(), words[0].numpy(), labels))  # by class, then at random
    counts = np.bincount(labels, minlength=num_classes)
    wanted = np.floor(counts * fraction + 0.5).astype(np.int64)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[rank < np.repeat(wanted, counts)]).astype(np.int64)


def draw(seed: int, samples: Int64s, copies: Int64s, attempt: int, num_prompts: int) -> list[Draw]:
    """The seed and prompt of one attempt at each of some counterparts.

    The first prompt of a counterpart is drawn; each further attempt takes the next of the set.

    Args:
        seed: of the run.
        samples: int64 [n].
        copies: int64 [n], which counterpart of the sample.
        attempt: 0 for the first.
        num_prompts: prompts in the set.
    """
    low, high = split_words(torch.from_numpy(samples))
    copy = torch.from_numpy(copies)
    first = philox4x32((low, high, copy, torch.full_like(low, STREAM_PROMPT)), seed)[0]
    prompt_ids = ((first * num_prompts >> 32) + attempt) % num_prompts
    numbered = ((copy << 15) + attempt) & 0xFFFFFFFF
    words = philox4x32((low, high, numbered, torch.full_like(low, STREAM_SEED)), seed)
    seeds = words[0] | ((words[1] & 0x7FFFFFFF) << 32)
    return [Draw(*pair) for pair in zip(seeds.tolist(), prompt_ids.tolist(), strict=True)]
