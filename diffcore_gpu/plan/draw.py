"""Drawing a plan: what is done to each sample, as a function of (seed, round, dataset index) alone.

Not of the batch size, the position in the batch, the number of workers or ranks, or the device. It is bit-identical
here, in compiled code, in Triton's interpreter and on a GPU, because it is decided with integers and with single
float32 operations that IEEE 754 rounds exactly (conversion, square root, one product), which no compiler may contract.
What is drawn is pinned by recorded draws in `tests/golden`.

The draw is written once, for arrays of NumPy and of torch. On the CPU it runs in NumPy, since it takes some hundred
operations on a few numbers for each sample, and an operation of torch takes several times as long to start. Elsewhere,
and where torch traces, it runs in torch, and nothing is copied to the host.

The bits of an index above `SAMPLE_BITS` say how often the sample was drawn before in the round (its occurrence, see
`diffcore_gpu.occurrences`). They are a part of the counter; which rows a sample has is looked up by those below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffcore_gpu.kernels.spec import (
    CROP_ATTEMPTS,
    GRID_BITS,
    SAMPLE_MASK,
    STREAM_BOX,
    STREAM_CHOICE,
    STREAM_COUNTERPART_CROP,
    STREAM_CROP,
    STREAM_MIRROR,
    TABLE_BITS,
)
from diffcore_gpu.plan.fields import MixPlan
from diffcore_gpu.plan.philox import Array, philox4x32, split_words
from diffcore_gpu.plan.spec import BoxPlacement, DrawParameters, HasPairs, LamSpec, Pairs, PlanConfig, RowChoice

_ROOT_OF_GRID = 2.0 ** -(GRID_BITS // 2)


def bernoulli(word: Array, threshold: int) -> Array:
    """A Bernoulli trial with probability threshold·2⁻²⁴."""
    return word >> (32 - GRID_BITS) < threshold


def randint(word: Array, count: Array | int) -> Array:
    """An integer uniform on [0, count): the upper half of word · count, at most 2⁻³² · count from uniform."""
    return word * count >> 32


def _cast(value: Array, dtype: str) -> Array:
    return value.to(getattr(torch, dtype)) if isinstance(value, Tensor) else value.astype(dtype)


def _root(xp: Any, value: Array) -> Array:
    """The float32 square root of integers below 2²⁵, rounded exactly.

    torch's in float32 may be wrong in the last bit on the CPU; that of float64, rounded once more, is exact.
    """
    return _cast(xp.sqrt(_cast(value, "float64")), "float32")


def draw_words(xp: Any, index: Array, round: Array, seed: int, streams: Sequence[int]) -> tuple[Array, ...]:
    """The random words of some streams.

    Args:
        xp: `numpy` or `torch`.
        index: int64 [B].
        round: int64, one element.
        seed: 64-bit key.
        streams: the last words of the counters.

    Returns:
        Four arrays int64 [len(streams), B], values in [0, 2³²).
    """
    stream = xp.stack([xp.full_like(index, number) for number in streams])  # filled: a copy would wait for a GPU
    return philox4x32((*split_words(index), split_words(round.reshape(1))[0], stream), seed)


def _rows(xp: Any, index: Array, words: Sequence[Array], pairs: Sequence[Any], parameters: DrawParameters) -> Array:
    """int64 [B], the row of each sample, or −1."""
    pair_ptr, pair_row, num_rows = pairs
    if not pair_row.shape[0]:
        return xp.full_like(index, -1)
    sample = index & SAMPLE_MASK
    known = (index >= 0) & (sample < pair_ptr.shape[0] - 1)
    safe = xp.where(known, sample, 0)
    first = pair_ptr[safe]
    count = xp.where(known, pair_ptr[safe + 1] - first, 0)
    mixed = (count > 0) & bernoulli(words[0], parameters.mixed_below)
    position = first if parameters.best_row else first + randint(words[3], count)
    row = xp.where(mixed, pair_row[xp.where(mixed, position, 0)], -1)
    return xp.where(row < num_rows, row, -1)


def _side(xp: Any, area: Array, size: int) -> Array:
    """Side length in pixels of a box with that share (units of 2⁻²⁴) of the area, for one side of the image."""
    share = _root(xp, area) * _ROOT_OF_GRID  # a power of two, which only moves the exponent
    return xp.clip(_cast(share * size, "int64"), 1, size)


def _span(xp: Any, word: Array, side: Array, size: int, inside: int) -> tuple[Array, Array]:
    """Begin and end of the box along one axis."""
    start = randint(word, size - side + 1) if inside else randint(word, size) - side // 2
    return xp.clip(start, 0, None), xp.clip(start + side, None, size)


def _stacked(xp: Any, sides: Sequence[Array]) -> Array:
    return _cast(xp.stack(list(sides), -1), "int32")


def _draw_mix(
    xp: Any, index: Array, pairs: Sequence[Any], parameters: DrawParameters, lam_table: Array | None,
    height: int, width: int, seed: int, round: Array,
) -> tuple[Array, ...]:  # fmt: skip
    """The fields of a plan without crops, in the order of `MixPlan`."""
    drawn = draw_words(xp, index, round, seed, (STREAM_CHOICE, STREAM_BOX))
    choice, box_words = ([word[place] for word in drawn] for place in (0, 1))
    if lam_table is None:
        units = parameters.lam_low + randint(choice[2], parameters.lam_span)
        lam = _cast(units, "float32") * 2.0**-GRID_BITS
    else:
        lam = lam_table[choice[2] >> (32 - TABLE_BITS)]
    area = parameters.area_low + randint(box_words[0], parameters.area_span)
    top, bottom = _span(xp, box_words[1], _side(xp, area, height), height, parameters.box_inside)
    left, right = _span(xp, box_words[2], _side(xp, area, width), width, parameters.box_inside)
    return (
        _rows(xp, index, choice, pairs, parameters),
        bernoulli(choice[1], parameters.pixel_below),
        lam,
        _stacked(xp, (top, left, bottom, right)),
        bernoulli(box_words[3], parameters.real_patch_below),
    )


def _draw_crops(
    xp: Any, index: Array, area: tuple[int, int], mirror_below: int, central: Sequence[int], side_table: Array,
    height: int, width: int, seed: int, round: Array, counterpart: bool,
) -> tuple[Array, Array]:  # fmt: skip
    """Crop and mirror flag of each sample; `area` is (lowest, number of values) in units of 2⁻²⁴."""
    stream = STREAM_COUNTERPART_CROP if counterpart else STREAM_CROP
    words = draw_words(xp, index, round, seed, range(stream, stream + CROP_ATTEMPTS))  # each [attempts, B]
    # Every operation is rounded exactly by IEEE 754, and no product meets a sum: nothing here can be contracted.
    root = _root(xp, area[0] + randint(words[0], area[1])) * _ROOT_OF_GRID
    side = root * float(np.sqrt(np.float32(height * width)))
    shape = words[1] >> (32 - TABLE_BITS)
    crop_height = _cast(xp.round(side * side_table[0][shape]), "int64")
    crop_width = _cast(xp.round(side * side_table[1][shape]), "int64")
    fits = (crop_height >= 1) & (crop_height <= height) & (crop_width >= 1) & (crop_width <= width)
    top, left = randint(words[2], height - crop_height + 1), randint(words[3], width - crop_width + 1)
    box = _stacked(xp, (top, left, top + crop_height, left + crop_width))  # [attempts, B, 4]
    chosen = _stacked(xp, [xp.full_like(index, value) for value in central])
    for attempt in reversed(range(CROP_ATTEMPTS)):  # the first that fits is taken
        chosen = xp.where(fits[attempt][:, None], box[attempt], chosen)
    (mirror_words,) = draw_words(xp, index, round, seed, (STREAM_MIRROR,))[int(counterpart)]
    return chosen, bernoulli(mirror_words, mirror_below)


def _in_numpy(index: Tensor) -> bool:
    """Whether to draw in NumPy: on the CPU, and where no tracer looks on."""
    return index.is_cpu and type(index) is Tensor and not torch.compiler.is_compiling()


def _arrays(*tensors: Tensor | None) -> list[Any]:
    return [None if tensor is None else tensor.numpy() for tensor in tensors]


def draw_mix(
    index: Tensor,
    pairs: Pairs,
    parameters: DrawParameters,
    lam_table: Tensor | None,
    *,
    height: int,
    width: int,
    seed: int,
    round: Tensor,
    numpy: bool | None = None,
) -> MixPlan:
    """`draw_plan` on tensors of one device, without a look at their values.

    Args:
        index: int64 [B].
        pairs: which rows belong to which sample.
        parameters: `PlanConfig.parameters`.
        lam_table: `PlanConfig.lam_table`.
        height: of the images, in pixels.
        width: of the images, in pixels.
        seed: 64-bit key.
        round: int64, one element.
        numpy: draw in NumPy or in torch; None: in NumPy on the CPU. The plan is the same, bit for bit.

    Returns:
        The plan; an index outside the store, and a row outside it, give row −1.
    """
    if _in_numpy(index) if numpy is None else numpy:
        samples, pair_ptr, pair_row, table, counter = _arrays(index, *pairs[:2], lam_table, round)
        fields = _draw_mix(
            np, samples, (pair_ptr, pair_row, pairs.num_rows), parameters, table, height, width, seed, counter
        )
        return MixPlan(*map(torch.from_numpy, fields))
    return MixPlan(*_draw_mix(torch, index, pairs, parameters, lam_table, height, width, seed, round))


def draw_crop(
    index: Tensor,
    area: tuple[int, int],
    mirror_below: int,
    central: Sequence[int],
    side_table: Tensor,
    *,
    height: int,
    width: int,
    seed: int,
    round: Tensor,
    counterpart: bool,
    numpy: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """`diffcore_gpu.plan.crops.draw_crops` on tensors of one device, without a look at their values.

    Args:
        index: int64 [B].
        area: of the crop over that of the image, in units of 2⁻²⁴: the lowest, and the number of values.
        mirror_below: the probability of mirroring in units of 2⁻²⁴.
        central: (top, left, bottom, right) where no attempt fits.
        side_table: float32 [2, 65536], what the sides of a square are stretched by, on index's device.
        height: of the source images, in pixels.
        width: of the source images, in pixels.
        seed: 64-bit key.
        round: int64, one element.
        counterpart: with the random numbers of the counterparts.
        numpy: as in `draw_mix`.

    Returns:
        int32 [B, 4] (top, left, bottom, right), half-open, and bool [B].
    """
    if _in_numpy(index) if numpy is None else numpy:
        samples, table, counter = _arrays(index, side_table, round)
        crop, mirror = _draw_crops(
            np, samples, area, mirror_below, central, table, height, width, seed, counter, counterpart
        )
        return torch.from_numpy(crop), torch.from_numpy(mirror)
    return _draw_crops(torch, index, area, mirror_below, central, side_table, height, width, seed, round, counterpart)


def draw_plan(
    index: Tensor,
    store: HasPairs,
    *,
    height: int,
    width: int,
    seed: int = 0,
    round: int | Tensor = 0,
    p: float = 1.0,
    pixel_prob: float = 0.5,
    lam: LamSpec = (0.0, 1.0),
    box_area: float | tuple[float, float] = (0.0, 1.0),
    box_placement: BoxPlacement = "clipped",
    real_patch_prob: float = 0.5,
    row_choice: RowChoice = "random",
) -> MixPlan:
    """Draw what `DiffCoreMix` does to these samples (eqs. 6–8), on index's device.

    Args:
        index: int64 [B], the samples' dataset indices.
        store: the counterpart store, or anything with `pair_ptr`, `pair_row` and `num_rows`.
        height: height of the images in pixels.
        width: width of the images in pixels.
        seed: 64-bit key of the random numbers.
        round: which draw of these samples: an epoch or a step count, taken modulo 2³²; an int or an int64 tensor of
            one element on index's device.
        p, pixel_prob, lam, box_area, box_placement, real_patch_prob, row_choice: see `PlanConfig`.

    Returns:
        The plan of the batch. A sample without a counterpart, or not drawn by `p`, has row −1.

    Raises:
        ValueError: a setting is outside its range, index is not an int64 vector, or (on the CPU, where looking costs
            nothing) an index is outside the store. On a GPU such an index gives row −1.
    """
    config = PlanConfig(p, pixel_prob, lam, box_area, box_placement, real_patch_prob, row_choice)
    round = round_for(index, height, width, round)
    check_index_range(index, store.pair_ptr.shape[0] - 1)
    table = config.lam_table()
    return draw_mix(
        index,
        Pairs(store.pair_ptr.to(index.device), store.pair_row.to(index.device), store.num_rows),
        config.parameters(),
        None if table is None else table.to(index.device),
        height=height,
        width=width,
        seed=seed,
        round=round,
    )


def round_for(index: Tensor, height: int, width: int, round: int | Tensor) -> Tensor:
    """The round of a draw as an int64 tensor on index's device, if index and size are fit to be drawn for.

    Raises:
        ValueError: index is not an int64 vector, or a size is below 1.
    """
    if index.dim() != 1 or index.dtype != torch.int64:
        raise ValueError(f"index must be an int64 vector [B], got {index.dtype} {list(index.shape)}.")
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1, got {height} × {width}.")
    if isinstance(round, Tensor):
        return round
    return torch.full((), round, dtype=torch.int64, device=index.device)  # without a copy that waits for a GPU


def check_index_range(index: Tensor, num_samples: int) -> None:
    """Refuse dataset indices outside [0, num_samples), where index lies on the CPU.

    Raises:
        ValueError: naming the first such index.
    """
    if index.device.type != "cpu":
        return
    outside = (index < 0) | (index & SAMPLE_MASK >= num_samples)
    if outside.any():
        first = int(index[outside][0])
        sample = first if first < 0 else first & SAMPLE_MASK
        raise ValueError(
            f"index {sample} is outside the store, which was made for {num_samples} samples; "
            "is this the dataset that the store was made for?"
        )


def check_labels(index: Tensor, labels: Tensor, row: Tensor, row_label: Tensor) -> None:
    """Refuse a sample whose counterpart is of another class; all tensors int64 [B] on the CPU.

    Raises:
        ValueError: naming the first.
    """
    wrong = ((row >= 0) & (labels != row_label)).nonzero()
    if len(wrong):
        first = int(wrong[0])
        sample = int(index[first]) & SAMPLE_MASK
        raise ValueError(
            f"sample {sample} has label {int(labels[first])}, but its counterpart, row {int(row[first])} of "
            f"the store, is of class {int(row_label[first])}; was the store made for this dataset?"
        )
