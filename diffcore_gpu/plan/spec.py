"""How plans are drawn: the settings of a user, and the integers that the draw works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

from torch import Tensor

from diffcore_gpu.plan.beta import GRID, Beta, beta_quantiles

LamSpec: TypeAlias = float | tuple[float, float] | Beta
BoxPlacement: TypeAlias = Literal["clipped", "inside"]
RowChoice: TypeAlias = Literal["random", "best"]


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
