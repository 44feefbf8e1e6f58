"""The crop kernel against the dense reference in float64, and its safety."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffcore_gpu.kernels import launch_resized_crop
from diffcore_gpu.ops.resized_crop.reference import resized_crop_reference
from diffcore_gpu.ops.runtime.normalization import affine_of
from tests.kernels.device import DEVICE

MEAN, STD = (0.485, 0.456, 0.406, 0.5), (0.229, 0.224, 0.225, 0.25)
FORMATS = (torch.contiguous_format, torch.channels_last)
# Of values up to about 2.7: float32 sums of some ten products, then the output's own rounding.
TOLERANCE = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def run(
    images: torch.Tensor, crop: torch.Tensor, mirror: torch.Tensor, size: tuple[int, int], dtype: torch.dtype,
    memory_format: torch.memory_format,
) -> torch.Tensor:  # fmt: skip
    batch, channels = images.shape[:2]
    out = torch.full((batch, channels, *size), 99, dtype=dtype).to(DEVICE, memory_format=memory_format)
    norm = affine_of(MEAN[:channels], STD[:channels], channels)
    launch_resized_crop(images.to(DEVICE), out, crop.to(DEVICE), mirror.to(DEVICE), norm.to(DEVICE))
    return out.cpu()


@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)),
    size=st.tuples(st.integers(6, 24), st.integers(6, 24)),  # the interpreter is slow where many pixels shrink to one
    dtype=st.sampled_from([*TOLERANCE, torch.uint8]),
    source_format=st.sampled_from(FORMATS),
    target_format=st.sampled_from(FORMATS),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_equals_the_reference(
    shape: tuple[int, int, int], size: tuple[int, int], dtype: torch.dtype, source_format: torch.memory_format,
    target_format: torch.memory_format, seed: int,
) -> None:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    channels, height, width = shape
    images = torch.randint(0, 256, (3, *shape), generator=generator, dtype=torch.uint8)
    images = images.to(memory_format=source_format)
    ends = [torch.randint(0, side + 1, (2, 3), generator=generator).sort(0).values for side in (height, width)]
    crop = torch.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], dim=1).to(torch.int32)
    mirror = torch.rand(3, generator=generator) < 0.5
    result = run(images, crop, mirror, size, dtype, target_format)
    if dtype == torch.uint8:
        expected = resized_crop_reference(images, crop, size, mirror=mirror) * 255
        # a value within float32's error of a tie may go either way
        assert (result.double() - expected).abs().max() <= 0.5 + 1e-3
    else:
        expected = resized_crop_reference(images, crop, size, mirror=mirror, mean=MEAN[:channels], std=STD[:channels])
        assert (result.double() - expected).abs().max() <= TOLERANCE[dtype]


@pytest.mark.parametrize("memory_format", FORMATS)
def test_the_whole_image_at_its_own_size_is_itself(memory_format: torch.memory_format) -> None:
    images = torch.randint(0, 256, (2, 3, 21, 19), dtype=torch.uint8).to(memory_format=memory_format)
    crop = torch.tensor([[0, 0, 21, 19]] * 2, dtype=torch.int32)
    assert torch.equal(run(images, crop, torch.tensor([False, False]), (21, 19), torch.uint8, memory_format), images)
    mirrored = run(images, crop, torch.tensor([True, True]), (21, 19), torch.uint8, memory_format)
    assert torch.equal(mirrored, images.flip(-1))


def test_boxes_beyond_the_image_are_clipped() -> None:
    images = torch.randint(0, 256, (4, 3, 10, 12), dtype=torch.uint8)
    wild = torch.tensor([[-5, -5, 99, 99], [50, 50, 60, 60], [3, 4, 3, 4], [9, 2, -4, 7]], dtype=torch.int32)
    tame = torch.tensor([[0, 0, 10, 12], [9, 11, 10, 12], [3, 4, 4, 5], [9, 2, 10, 7]], dtype=torch.int32)
    none = torch.zeros(4, dtype=torch.bool)
    results = [run(images, crop, none, (6, 6), torch.float32, torch.contiguous_format) for crop in (wild, tame)]
    assert torch.equal(*results)
