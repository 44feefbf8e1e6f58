"""SaliencyMix: one image's most salient pixel is the centre of one box for the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffcore_gpu.baselines import Batch
from diffcore_gpu.baselines.regions import cut_box
from diffcore_gpu.baselines.saliencymix import SaliencyMix
from tests.baselines.small_models import CLASSES, MEAN, STD, normalized_batch, small_model

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")


def with_object(row: int, column: int) -> torch.Tensor:
    """A grey image with one bright square, normalized."""
    pixels = torch.full((3, 96, 120), 0.4)
    pixels[:, row : row + 9, column : column + 9] = torch.tensor([0.9, 0.8, 0.1]).reshape(3, 1, 1)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    return (pixels - mean) / std


@pytest.mark.parametrize(("row", "column"), [(20, 30), (60, 90), (40, 60)])
def test_the_object_is_what_is_salient(row: int, column: int) -> None:
    found = SaliencyMix(CLASSES, mean=MEAN, std=STD).most_salient_pixel(with_object(row, column))
    assert row - 5 <= found[0] <= row + 14
    assert column - 5 <= found[1] <= column + 14


def test_the_most_salient_pixel_is_that_of_opencv_on_the_8_bit_image() -> None:
    method = SaliencyMix(CLASSES, mean=MEAN, std=STD)
    detector = cv2.saliency.StaticSaliencyFineGrained_create()
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    for image in normalized_batch(8, 64, 72).images:
        pixels = ((image * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
        _, saliency = detector.computeSaliency(cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY))
        levels = (saliency * 255).astype(np.uint8)
        row, column = method.most_salient_pixel(image)
        assert levels[row, column] >= 250  # the grey of OpenCV's integer arithmetic may be one level off


def test_the_published_call_is_repeated_where_it_is_asked_for() -> None:
    method = SaliencyMix(CLASSES, mean=MEAN, std=STD, saliency_of="normalized")
    detector = cv2.saliency.StaticSaliencyFineGrained_create()
    for image in normalized_batch(5, 40, 64).images:
        _, saliency = detector.computeSaliency(image.cpu().numpy().transpose(1, 2, 0))
        levels = (saliency * 255).astype("uint8")
        expected = np.unravel_index(np.argmax(levels, axis=None), levels.shape)
        assert method.most_salient_pixel(image) == expected


def test_one_box_for_the_batch_centred_and_weighed_after_clipping() -> None:
    size, places = 5, [(10, 12), (70, 20), (40, 100), (5, 60), (80, 105)]
    batch = Batch(torch.stack([with_object(*place) for place in places]), torch.arange(size), torch.arange(size))
    batch.images.add_(torch.arange(size).reshape(-1, 1, 1, 1) * 1e-3)  # every pixel tells its image
    method = SaliencyMix(CLASSES, mean=MEAN, std=STD)
    detected: list[tuple[int, int]] = []
    detect = method.most_salient_pixel
    method.most_salient_pixel = lambda image: detected.append(detect(image)) or detected[-1]  # type: ignore[method-assign]
    rng = np.random.default_rng(0)
    for call in range(8):
        mixed = method(batch, small_model())
        assert len(detected) == call + 1  # one image's saliency, not five
        permutation = torch.from_numpy(rng.permutation(size))
        box = cut_box(96, 120, float(rng.beta(1, 1)), detected[-1])
        assert detected[-1] == detect(batch.images[permutation[0]])
        expected = batch.images.clone()
        expected[:, :, box.top : box.bottom, box.left : box.right] = batch.images[
            permutation, :, box.top : box.bottom, box.left : box.right
        ]
        assert torch.equal(mixed.images, expected)
        lam = 1 - box.area / (96 * 120)
        one_hot = torch.eye(CLASSES)
        torch.testing.assert_close(mixed.targets, lam * one_hot + (1 - lam) * one_hot[permutation])


def test_grey_images() -> None:
    batch = normalized_batch()
    grey = Batch(batch.images[:, :1], batch.labels, batch.index)
    mixed = SaliencyMix(CLASSES, mean=(0.5,), std=(0.2,))(grey, small_model())
    assert mixed.images.shape == (6, 1, 32, 40)


def test_bad_settings_and_channels() -> None:
    with pytest.raises(ValueError, match='saliency_of as "pixels" or "normalized"'):
        SaliencyMix(CLASSES, mean=MEAN, std=STD, saliency_of="images")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one number for each channel"):
        SaliencyMix(CLASSES, mean=(0.5,), std=STD)
    with pytest.raises(ValueError, match="of 1 or 3 channels, not of 2"):
        SaliencyMix(CLASSES, mean=(0.5, 0.5), std=(0.5, 0.5))
    with pytest.raises(ValueError, match="alpha of SaliencyMix"):
        SaliencyMix(CLASSES, mean=MEAN, std=STD, alpha=0.0)
    with pytest.raises(ValueError, match=r"mean and std of 1 channel\(s\), and the images have 3"):
        SaliencyMix(CLASSES, mean=(0.5,), std=(0.2,))(normalized_batch(), small_model())
