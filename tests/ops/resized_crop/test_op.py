"""The crop op on the CPU: against the dense reference, against torchvision, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffcore_gpu.ops.resized_crop.op import resized_crop
from diffcore_gpu.ops.resized_crop.reference import axis_weights, resized_crop_reference
from diffcore_gpu.ops.runtime.normalization import affine_of
from diffcore_gpu.plan.crops import CropPlan, RandomResizedCropMirror, draw_crops

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
B, H, W = 6, 48, 40


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    return torch.randint(0, 256, (B, 3, H, W), generator=generator, dtype=torch.uint8)


@pytest.fixture
def plan() -> CropPlan:
    return draw_crops(torch.arange(B), RandomResizedCropMirror((32, 32)), height=H, width=W)


@pytest.mark.parametrize("size", [(32, 32), (64, 56), (7, 90)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_equals_the_reference(
    images: Tensor, plan: CropPlan, size: tuple[int, int], memory_format: torch.memory_format
) -> None:
    result = resized_crop(
        images, plan.crop, size, mirror=plan.mirror, mean=MEAN, std=STD, memory_format=memory_format
    )  # fmt: skip
    expected = resized_crop_reference(images, plan.crop, size, mirror=plan.mirror, mean=MEAN, std=STD)
    assert result.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("dtype", "mean_bound"), [(torch.float32, 1e-3), (torch.uint8, 0.35)])
def test_equals_torchvision(images: Tensor, plan: CropPlan, dtype: torch.dtype, mean_bound: float) -> None:
    """Within 1/255 on average; torchvision rounds uint8 after each of its two passes, so it may differ by 1."""
    functional = pytest.importorskip("torchvision.transforms.v2.functional", reason="torchvision is not installed")
    ours = resized_crop(images, plan.crop, (32, 32), dtype=dtype)
    for image, (top, left, bottom, right), result in zip(images, plan.crop.tolist(), ours, strict=True):
        source = image if dtype == torch.uint8 else image.float() / 255
        theirs = functional.resized_crop(source, top, left, bottom - top, right - left, [32, 32], antialias=True)
        difference = (result.double() - theirs.double()).abs() * (1 if dtype == torch.uint8 else 255)
        assert difference.mean() <= mean_bound
        assert difference.max() <= (1 if dtype == torch.uint8 else 1e-2)


@pytest.mark.parametrize(("length", "out"), [(10, 10), (7, 20), (100, 9), (1, 5), (5, 1)])
def test_weights_are_those_of_torchs_antialiased_interpolation(length: int, out: int) -> None:
    weights = axis_weights(0, length, out)
    torch.testing.assert_close(weights.sum(1), torch.ones(out, dtype=torch.float64))
    unit = torch.eye(length, dtype=torch.float64).reshape(length, 1, 1, length)
    theirs = torch.nn.functional.interpolate(unit, (1, out), mode="bilinear", antialias=True).reshape(length, out)
    torch.testing.assert_close(weights, theirs.T, rtol=0, atol=1e-12)


def test_no_mirror_and_empty_batches(images: Tensor, plan: CropPlan) -> None:
    none = torch.zeros(B, dtype=torch.bool)
    assert torch.equal(resized_crop(images, plan.crop, 20), resized_crop(images, plan.crop, (20, 20), mirror=none))
    assert resized_crop(images[:0], plan.crop[:0], 20).shape == (0, 3, 20, 20)


def test_obeys_torchs_rules_for_operators(images: Tensor, plan: CropPlan) -> None:
    arguments = (images, plan.crop, plan.mirror, affine_of(MEAN, STD, 3), 16, 24, torch.bfloat16, True)
    result = torch.library.opcheck(
        torch.ops.diffcore.resized_crop.default, arguments, test_utils=("test_schema", "test_faketensor")
    )
    assert set(result.values()) == {"SUCCESS"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(B, 3, H, W)}, "images must be uint8"),
        ({"images": torch.zeros(3, H, W, dtype=torch.uint8)}, "images must be uint8"),
        ({"crop": torch.zeros(B, 4)}, "crop must be int32"),
        ({"crop": torch.zeros(B - 1, 4, dtype=torch.int32)}, r"crop must be int32 \[6, 4\]"),
        ({"crop": torch.zeros(B, 4, dtype=torch.int32, device="meta")}, "crop lies on meta, but the images on cpu"),
        ({"mirror": torch.zeros(B)}, "mirror must be bool"),
        ({"size": 0}, "size must be at least 1 × 1"),
        ({"dtype": torch.float64}, "dtype must be float32"),
        ({"memory_format": torch.preserve_format}, "memory_format must be contiguous or channels_last"),
        ({"std": [1.0, 0.0, 1.0]}, "std must be above 0"),
    ],
)
def test_bad_input_is_refused(change: dict[str, object], message: str, images: Tensor, plan: CropPlan) -> None:
    arguments = {"images": images, "crop": plan.crop, "size": 32, "mirror": plan.mirror, **change}
    with pytest.raises(ValueError, match=message):
        resized_crop(**arguments)
