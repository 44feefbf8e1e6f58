"""How crops are drawn: the distribution of torchvision's RandomResizedCrop, and what a crop depends on.

Significance is 10⁻⁶ with fixed seeds, as in `test_plan.py`.
"""

from __future__ import annotations

import pytest
import scipy.stats
import torch

from diffcore_gpu.plan.crops import CropPlan, RandomResizedCropMirror, center_crop, draw_crops, whole_image

SIGNIFICANCE = 1e-6
N = 20_000


def draw_many(n: int = N, height: int = 600, width: int = 800, seed: int = 1, **settings: object) -> CropPlan:
    config = RandomResizedCropMirror((224, 224), **settings)
    return draw_crops(torch.arange(n), config, height=height, width=width, seed=seed)


@pytest.mark.parametrize(("height", "width"), [(600, 800), (800, 300)])
def test_crops_are_distributed_as_torchvisions(height: int, width: int) -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2", reason="torchvision is not installed")
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(224)
    image = torch.empty(3, height, width)
    theirs = [crop.make_params([image]) for _ in range(3000)]
    ours = draw_many(height=height, width=width).crop
    top, left, bottom, right = ours.T
    for name, values in (("top", top), ("left", left), ("height", bottom - top), ("width", right - left)):
        p = scipy.stats.ks_2samp(values.numpy(), [params[name] for params in theirs]).pvalue
        assert p > SIGNIFICANCE, name


def test_area_and_ratio_follow_their_intervals() -> None:
    top, left, bottom, right = draw_many(scale=(0.1, 0.4), ratio=(0.8, 1.25)).crop.double().T
    area = (bottom - top) * (right - left) / (600 * 800)
    ratio = (right - left) / (bottom - top)
    assert 0.099 < area.min() < area.max() < 0.401
    assert 0.79 < ratio.min() < ratio.max() < 1.26
    assert scipy.stats.kstest(area.numpy(), "uniform", (0.1, 0.3)).statistic < 0.02  # sides are whole pixels


def test_mirror_rate_and_independence_of_the_crop() -> None:
    plan = draw_many(mirror_prob=0.3)
    assert scipy.stats.binomtest(int(plan.mirror.sum()), N, 0.3).pvalue > SIGNIFICANCE
    assert scipy.stats.spearmanr(plan.mirror.numpy(), plan.crop[:, 0].numpy()).pvalue > SIGNIFICANCE
    assert not draw_many(100, mirror_prob=0.0).mirror.any()
    assert draw_many(100, mirror_prob=1.0).mirror.all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50), (50, 1), (3, 1000), (224, 224)])
def test_crops_lie_in_the_image(height: int, width: int) -> None:
    top, left, bottom, right = draw_many(500, height, width).crop.T
    assert bool(((top >= 0) & (left >= 0) & (bottom <= height) & (right <= width)).all())
    assert bool(((top < bottom) & (left < right)).all())


def test_where_nothing_fits_it_is_the_central_crop() -> None:
    plan = draw_many(5, height=10, width=100, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    assert plan.crop.tolist() == [[0, 45, 10, 55]] * 5


def test_a_sample_is_cropped_alike_in_any_batch() -> None:
    config = RandomResizedCropMirror((32, 32))
    order = torch.randperm(40)
    common = {"height": 50, "width": 60, "seed": 3, "round": 7}
    whole = draw_crops(torch.arange(40), config, **common)
    for part in order.split(7):
        piece = draw_crops(part, config, **common)
        assert torch.equal(piece.crop, whole.crop[part])
        assert torch.equal(piece.mirror, whole.mirror[part])
    other = draw_crops(torch.arange(40), config, **{**common, "round": torch.tensor([8])})
    assert not torch.equal(other.crop, whole.crop)


def test_evaluation_crops() -> None:
    assert whole_image(2, height=30, width=40).crop.tolist() == [[0, 0, 30, 40]] * 2
    assert center_crop(1, height=256, width=320, size=(224, 224)).crop.tolist() == [[16, 48, 240, 272]]
    assert center_crop(1, height=100, width=50, size=(10, 10), share=1.0).crop.tolist() == [[25, 0, 75, 50]]
    assert not center_crop(3, height=9, width=9, size=(4, 4)).mirror.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (0, 4)}, "size must be"),
        ({"scale": (0.0, 1.0)}, "scale must be"),
        ({"scale": (0.5, 0.2)}, "scale must be"),
        ({"ratio": (0.0, 1.0)}, "ratio must be"),
        ({"mirror_prob": 1.5}, "mirror_prob must lie"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomResizedCropMirror(**{"size": (8, 8), **settings})


def test_bad_arguments_are_refused() -> None:
    config = RandomResizedCropMirror((8, 8))
    with pytest.raises(ValueError, match="int64 vector"):
        draw_crops(torch.zeros(2), config, height=4, width=4)
    with pytest.raises(ValueError, match="at least 1"):
        draw_crops(torch.arange(2), config, height=0, width=4)
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\]"):
        center_crop(1, height=4, width=4, size=(2, 2), share=0.0)
