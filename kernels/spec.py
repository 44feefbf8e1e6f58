"""The numbers that define the stream of random draws, and the order in which constants reach the kernels.

This module imports nothing and is imported by everything that draws: torch, NumPy, numba and Triton. A change of any
number of the first part changes what is drawn, so it is a new `STREAM_VERSION`, which checkpoints name, and fails
`tests/golden`.
"""

from __future__ import annotations

STREAM_VERSION = 1
"""The version of the stream of random draws that this package draws."""

# Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011). The key is the
# 64-bit seed, the counter (index low, index high, round, stream).
PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
PHILOX_ROUNDS = 10

STREAM_CHOICE = 0
"""Stream of (mixed or not, pixel or patch, λ, which row)."""
STREAM_BOX = 1
"""Stream of (box area, box row, box column, direction)."""
STREAM_MIRROR = 2
"""Stream of the mirror flags: (of the image, of its counterpart)."""
STREAM_CROP = 16
"""The first of the streams of (area, aspect ratio, top, left) of an image's crop, one stream for each attempt."""
STREAM_COUNTERPART_CROP = 32
"""The same for the crops of counterparts."""
CROP_ATTEMPTS = 10
"""Crops that are drawn for a sample until one fits."""

GRID_BITS = 24
"""Probabilities, areas and λ are multiples of 2⁻²⁴: λ and 1 − λ are exact in float32, and bytes mix in integers."""
TABLE_BITS = 16
"""The upper bits of a word choose an entry of a table (quantiles of λ, aspect ratios)."""

SAMPLE_BITS = 40
"""The lower bits of an index say which sample it is, those above how often it was drawn before in the round."""

SAMPLE_MASK = (1 << SAMPLE_BITS) - 1
"""Of those lower bits."""

PLAN_PADDING = 16
"""Samples of a packed plan are padded to a multiple of this, so that every field of it is aligned to 16 bytes."""

CONSTANTS = (
    # Addresses on the device that mixes; 0: there is none.
    "store",  # uint8 [num_rows, C, H, W]
    "pair_ptr",  # int64 [num_samples + 1]
    "pair_row",  # int64 [num_pairs]
    "row_label",  # int64 [num_rows]
    "lam_table",  # float32 [2 ** TABLE_BITS]
    "side_table",  # float32 [2, 2 ** TABLE_BITS]
    "norm",  # float32 [2, C, 4]
    # Numbers.
    "num_samples",
    "num_rows",
    "seed",
    "mixed_below",
    "pixel_below",
    "real_patch_below",
    "lam_low",
    "lam_span",
    "area_low",
    "area_span",
    "crop_area_low",
    "crop_area_span",
    "mirror_below",
)
"""What is the same for every batch, packed into one int64 vector in this order: a launch takes few arguments."""
