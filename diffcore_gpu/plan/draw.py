"""What will be done to each sample of one batch, and how it is drawn.

A plan is a function of (seed, round, dataset index) alone: not of the batch size, the position in the batch, the number
of workers or ranks, or the device. It is bit-identical in this module, in Triton's interpreter and on a GPU, because it
is decided with integers and with single float32 operations that IEEE 754 rounds exactly (conversion, square root,
one product), which no compiler may contract.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from diffcore_gpu.plan.beta import GRID, TABLE_BITS, Beta, beta_quantiles
from diffcore_gpu.plan.philox import philox4x32, split_words

STREAM_CHOICE = 0
"""Philox stream of (mixed or not, pixel or patch, λ, which row)."""
STREAM_BOX = 1
"""Philox stream of (box area, box row, box column, direction)."""

LamSpec: TypeAlias = float | tuple[float, float] | Beta
BoxPlacement: TypeAlias = Literal["clipped", "inside"]
RowChoice: TypeAlias = Literal["random", "best"]


@dataclass(frozen=True)
class MixPlan:
    """What is done to each sample of a batch of B; all tensors on one device.

    Attributes:
        row: int64 [B], the counterpart's row in the store; −1: none, the sample passes through unchanged.
        pixel: bool [B], η of eq. 8. True: pixel-wise mixing (eq. 6); False: patch-wise (eq. 7).
        lam: float32 [B], λ of eq. 6, the share of the real image, in [0, 1], a multiple of 2⁻²⁴. Used where `pixel`.
        box: int32 [B, 4], (top, left, bottom, right) in pixels, half-open and clipped to the image. Used where not
            `pixel`; together with `inside_real` it is the mask M_p of eq. 7.
        inside_real: bool [B]. True: inside the box the real image, outside it the counterpart. False: the reverse.
        crop: int32 [B, 4], (top, left, bottom, right) in pixels of the real image before it is resized, half-open; the
            mix above then happens in the resized images. None, as the other three: nothing is cropped.
        mirror: bool [B], True: left and right of the real image are swapped.
        counterpart_crop: the same for the counterpart.
        counterpart_mirror: the same for the counterpart.
    """

    row: Tensor
    pixel: Tensor
    lam: Tensor
    box: Tensor
    inside_real: Tensor
    crop: Tensor | None = None
    mirror: Tensor | None = None
    counterpart_crop: Tensor | None = None
    counterpart_mirror: Tensor | None = None

    def __len__(self) -> int:
        return self.row.shape[0]

    def to(self, device: torch.device | str) -> "MixPlan":
        """The same plan on another device."""

        def moved(name: str) -> Any:
            value = getattr(self, name)
            return None if value is None else value.to(device)

        return MixPlan(**{field.name: moved(field.name) for field in fields(self)})


class HasPairs(Protocol):
    """What a plan needs of a store: which rows belong to which sample (CSR arrays) and how many rows there are."""

    @property
    def pair_ptr(self) -> Tensor:
        """int64 [num_samples + 1]."""

    @property
    def pair_row(self) -> Tensor:
        """int64 [num_pairs]."""

    @property
    def num_rows(self) -> int:
        """The number of counterparts."""


class Pairs(NamedTuple):
    """The pairs of a store on one device: CSR arrays by sample, and the number of rows."""

    pair_ptr: Tensor
    pair_row: Tensor
    num_rows: int


class DrawParameters(NamedTuple):
    """A `PlanConfig` in the integers that the draw works with; probabilities, λ and areas in units of 2⁻²⁴."""

    mixed_below: int
    pixel_below: int
    real_patch_below: int
    lam_low: int
    lam_span: int
    area_low: int
    area_span: int
    box_inside: int
    best_row: int


def _units(name: str, value: float) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number in [0, 1], got {value!r}.")
    if not 0 <= value <= 1:  # also refuses NaN
        raise ValueError(f"{name} must lie in [0, 1], got {value}.")
    return round(value * GRID)


def _unit_interval(name: str, value: float | tuple[float, float]) -> tuple[int, int]:
    if isinstance(value, int | float):
        value = (value, value)
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(f"{name} must be a number or an interval (low, high), got {value!r}.")
    low, high = _units(name, value[0]), _units(name, value[1])
    if low > high:
        raise ValueError(f"{name} must be an interval (low, high) with low ≤ high, got {tuple(value)}.")
    return low, high


@dataclass(frozen=True)
class PlanConfig:
    """How plans are drawn. Each part of the method is a switch of its own, so that an ablation can select any arm.

    The arms of the paper's Table 7, for a store of generated counterparts (“GenAug”) or one packed from the real images
    themselves: counterparts instead of half of the real images ``p=0.5, pixel_prob=1, lam=0``; pixel-wise only
    ``pixel_prob=1``; patch-wise only ``pixel_prob=0``; both ``pixel_prob=0.5``. Coverage is a property of the store.

    Attributes:
        p: probability that a sample with a counterpart is mixed at all.
        pixel_prob: π of eq. 8, the probability of pixel-wise mixing; otherwise patch-wise.
        lam: λ of eq. 6: a number, an interval (low, high) on which it is uniform, or `Beta(alpha)`.
        box_area: area of the box over the area of the image, uniform on an interval (or a number), before clipping.
            The box has the image's aspect ratio and is at least one pixel.
        box_placement: "clipped": the centre is uniform over the image and the box is cut off at its border, as in
            CutMix; "inside": the box is uniform over the positions where it fits whole.
        real_patch_prob: probability that the box shows the real image on the counterpart; otherwise the counterpart
            is pasted on the real image.
        row_choice: "random": uniform among the sample's rows; "best": the row of highest similarity.

    Raises:
        ValueError: a value is outside its range.
    """

    p: float = 1.0
    pixel_prob: float = 0.5
    lam: LamSpec = (0.0, 1.0)
    box_area: float | tuple[float, float] = (0.0, 1.0)
    box_placement: BoxPlacement = "clipped"
    real_patch_prob: float = 0.5
    row_choice: RowChoice = "random"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("box_placement", self.box_placement, ("clipped", "inside")),
            ("row_choice", self.row_choice, ("random", "best")),
        ):
            if value not in known:
                raise ValueError(f'{name} must be "{known[0]}" or "{known[1]}", got {value!r}.')
        self.parameters()

    def parameters(self) -> DrawParameters:
        """The settings as integers; of λ only where it is uniform (`lam_table` holds it otherwise)."""
        lam_low, lam_high = (0, 0) if isinstance(self.lam, Beta) else _unit_interval("lam", self.lam)
        area_low, area_high = _unit_interval("box_area", self.box_area)
        return DrawParameters(
            mixed_below=_units("p", self.p),
            pixel_below=_units("pixel_prob", self.pixel_prob),
            real_patch_below=_units("real_patch_prob", self.real_patch_prob),
            lam_low=lam_low,
            lam_span=lam_high - lam_low + 1,
            area_low=area_low,
            area_span=area_high - area_low + 1,
            box_inside=int(self.box_placement == "inside"),
            best_row=int(self.row_choice == "best"),
        )

    def lam_table(self) -> Tensor | None:
        """float32 [65536] quantiles of λ where it follows a Beta distribution, else None."""
        return beta_quantiles(self.lam.alpha) if isinstance(self.lam, Beta) else None


def _below(word: Tensor, threshold: int) -> Tensor:
    """A Bernoulli trial with probability threshold·2⁻²⁴."""
    return (word >> 8) < threshold


def _pick(word: Tensor, count: Tensor | int) -> Tensor:
    """An integer uniform on [0, count): the upper half of word · count, at most 2⁻³² · count from uniform."""
    return (word * count) >> 32


def _box_side(area: Tensor, size: int) -> Tensor:
    """Side length in pixels of a box with that share (units of 2⁻²⁴) of the area, for one side of the image."""
    # torch's float32 square root on the CPU may be wrong in the last bit; that of float64, rounded once, is exact.
    side = area.to(torch.float64).sqrt().to(torch.float32) * 2**-12  # 2^-12 only moves the exponent
    return (side * size).to(torch.int64).clamp(1, size)


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
) -> MixPlan:
    """`draw_plan` on tensors of one device, without a look at their values: nothing is copied to the host.

    Args:
        index: int64 [B].
        pairs: which rows belong to which sample.
        parameters: `PlanConfig.parameters`.
        lam_table: `PlanConfig.lam_table`.
        height: of the images, in pixels.
        width: of the images, in pixels.
        seed: 64-bit key.
        round: int64, one element.

    Returns:
        The plan; an index outside the store, and a row outside it, give row −1.
    """
    pair_ptr, pair_row, num_rows = pairs
    low, high = split_words(index)
    counter = low, high, split_words(round.reshape(()))[0]
    words = philox4x32((*counter, torch.full_like(low, STREAM_CHOICE)), seed)
    box_words = philox4x32((*counter, torch.full_like(low, STREAM_BOX)), seed)

    known = (index >= 0) & (index < pair_ptr.shape[0] - 1)
    if pair_row.shape[0]:
        safe = torch.where(known, index, 0)
        first = pair_ptr[safe]
        count = torch.where(known, pair_ptr[safe + 1] - first, 0)
        mixed = (count > 0) & _below(words[0], parameters.mixed_below)
        position = first if parameters.best_row else first + _pick(words[3], count)
        row = torch.where(mixed, pair_row[torch.where(mixed, position, 0)], -1)
        row = torch.where(row < num_rows, row, -1)
    else:
        row = torch.full_like(index, -1)

    if lam_table is None:
        lam = (parameters.lam_low + _pick(words[2], parameters.lam_span)).to(torch.float32) * (1 / GRID)
    else:
        lam = lam_table[words[2] >> (32 - TABLE_BITS)]

    area = parameters.area_low + _pick(box_words[0], parameters.area_span)
    box_height, box_width = _box_side(area, height), _box_side(area, width)
    if parameters.box_inside:
        top = _pick(box_words[1], height - box_height + 1)
        left = _pick(box_words[2], width - box_width + 1)
    else:
        top = _pick(box_words[1], height) - box_height // 2
        left = _pick(box_words[2], width) - box_width // 2
    box = torch.stack(
        [
            top.clamp(min=0),
            left.clamp(min=0),
            (top + box_height).clamp(max=height),
            (left + box_width).clamp(max=width),
        ],
        dim=-1,
    ).to(torch.int32)
    return MixPlan(
        row=row,
        pixel=_below(words[1], parameters.pixel_below),
        lam=lam,
        box=box,
        inside_real=_below(box_words[3], parameters.real_patch_below),
    )


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
    outside = (index < 0) | (index >= num_samples)
    if outside.any():
        raise ValueError(
            f"index {int(index[outside][0])} is outside the store, which was made for {num_samples} samples; "
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
        raise ValueError(
            f"sample {int(index[first])} has label {int(labels[first])}, but its counterpart, row {int(row[first])} of "
            f"the store, is of class {int(row_label[first])}; was the store made for this dataset?"
        )
