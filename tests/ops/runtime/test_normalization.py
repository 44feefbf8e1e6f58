"""The affine map of the counterparts and its splits."""

from __future__ import annotations

import pytest
import torch

from diffcore_gpu.ops.runtime.normalization import affine_of

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def exact() -> torch.Tensor:
    mean, std = torch.tensor(MEAN, dtype=torch.float64), torch.tensor(STD, dtype=torch.float64)
    return torch.stack([1 / (255 * std), -mean / std], dim=1)


def test_value_and_remainder_hold_48_bits() -> None:
    split = affine_of(MEAN, STD, 3)[0].to(torch.float64)
    assert ((split[:, 0::2] + split[:, 1::2] - exact()).abs() <= exact().abs() * 2**-48).all()


def test_the_second_split_makes_every_byte_exact() -> None:
    scale, scale_low, shift, shift_low = affine_of(MEAN, STD, 3)[1].to(torch.float64).T.unsqueeze(2)
    byte = torch.arange(256, dtype=torch.float64)
    high = byte * scale + shift  # exact in float64
    assert torch.equal(high.to(torch.float32).to(torch.float64), high)
    true = byte * exact()[:, :1] + exact()[:, 1:]
    assert (high + byte * scale_low + shift_low - true).abs().max() <= 2**-39  # of values up to 2.7


@pytest.mark.parametrize("value", [0.5, [0.5] * 3, (0.5,) * 3, torch.full((3,), 0.5), torch.full((1, 3, 1, 1), 0.5)])
def test_forms_of_mean_and_std(value: object) -> None:
    assert torch.equal(affine_of(value, value, 3), affine_of([0.5] * 3, [0.5] * 3, 3))


def test_none_is_the_unit_interval() -> None:
    scale = affine_of(None, None, 1)[0, 0]
    assert scale[0] == torch.tensor(1 / 255)
    assert scale[2:].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.5], None, "mean has 1 values, but the images have 3 channels"),
        (None, [0.5] * 4, "std has 4 values"),
        (None, [0.5, 0.0, 0.5], "std must be above 0"),
        (None, -1.0, "std must be above 0"),
        ([0.1, float("nan"), 0.2], None, "mean must be finite"),
    ],
)
def test_bad_values_are_refused(mean: object, std: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        affine_of(mean, std, 3)
