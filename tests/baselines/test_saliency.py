"""Saliency maps, against NumPy and against gradients that are known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor, nn

from diffcore_gpu.baselines.saliency import as_distribution, block_shares, blurred, gradient_saliency, spectral_residual
from tests.baselines.small_models import CLASSES, normalized_batch, small_model

functional = pytest.importorskip("torchvision.transforms.v2.functional", reason="torchvision is not installed")


def residual_in_numpy(image: np.ndarray) -> np.ndarray:
    """The equations of the module for one [3, H, W] image of at most 128 rows, by NumPy and SciPy in float64."""
    grey = np.tensordot([0.2989, 0.587, 0.114], image.astype(np.float64), 1)
    spectrum = np.fft.fft2(grey)
    amplitude = np.sqrt(np.abs(spectrum) ** 2 + 1e-10)
    log = np.log(amplitude)
    residual = log - scipy.ndimage.uniform_filter(log, 3, mode="nearest")
    saliency = np.abs(np.fft.ifft2(spectrum / amplitude * np.exp(residual)))
    return scipy.ndimage.gaussian_filter(saliency, 3.0, mode="mirror", radius=3)


def test_spectral_residual_of_small_images() -> None:
    images = normalized_batch(3, 48, 56).images
    ours = spectral_residual(functional, images)
    expected = np.stack([residual_in_numpy(image) for image in images.numpy()])
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours.numpy(), expected, rtol=2e-3, atol=1e-4 * expected.max())


def test_large_images_are_shrunk_to_128_and_the_map_brought_back() -> None:
    small = normalized_batch(2, 128, 128).images
    large = functional.resize(small, [256, 256], interpolation=functional.InterpolationMode.NEAREST)
    ours = spectral_residual(functional, large)
    assert ours.shape == (2, 256, 256)
    # Nearest-neighbour doubling and averaging down again gives nearly the small image.
    expected = functional.resize(spectral_residual(functional, small), [256, 256], antialias=True)
    correlation = np.corrcoef(ours.flatten().numpy(), expected.flatten().numpy())[0, 1]
    assert correlation > 0.9


@pytest.mark.parametrize("shape", [(1, 32, 40), (2, 128, 128), (5, 64, 64), (16, 33, 47), (3, 224, 224)])
def test_blurring_maps_as_channels_gives_the_bits_of_blurring_them_as_images(shape: tuple[int, int, int]) -> None:
    maps = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for kernel_size, sigma in ((7, 3.0), (3, 0.5)):
        ours = blurred(functional, maps, kernel_size=kernel_size, sigma=sigma)
        expected = functional.gaussian_blur(maps[:, None], [kernel_size, kernel_size], [sigma, sigma])[:, 0]
        assert torch.equal(ours, expected)


def test_an_odd_one_out_is_salient() -> None:
    row = torch.arange(128).remainder(8).lt(4).float()
    image = (row[None, :] * row[:, None]).repeat(3, 1, 1)
    image[:, 60:68, 84:92] = 0.5
    ours = as_distribution(spectral_residual(functional, image[None]))[0]
    around = ours[52:76, 76:100]
    assert float(around.mean()) > 1.3 * float(ours.mean())


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="1 or 3 channels, not of 4"):
        spectral_residual(functional, torch.rand(2, 4, 32, 32))


class Scores(nn.Module):
    """logits = [Σ w·x, 0], so the gradient of the loss is known."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.weight).sum((1, 2, 3))
        return torch.stack([score, torch.zeros_like(score)], dim=1)


def test_gradient_saliency_is_the_root_mean_square_of_the_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 6, 7, generator=generator)
    images = torch.randn(4, 3, 6, 7, generator=generator)
    labels = torch.tensor([0, 1, 0, 1])
    ours = gradient_saliency(Scores(weight), images, labels)
    score = (images * weight).sum((1, 2, 3))
    slope = torch.where(labels == 0, 1 - score.sigmoid(), score.sigmoid())  # |∂ℓ/∂score|
    expected = slope[:, None, None] * weight.square().mean(0).sqrt()
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_gradient_saliency_is_that_of_the_published_pass() -> None:
    batch, model, other = normalized_batch(), small_model().eval(), small_model().eval()
    ours = gradient_saliency(model, batch.images, batch.labels)
    leaf = batch.images.clone().requires_grad_()
    nn.CrossEntropyLoss()(other(leaf), batch.labels).backward()
    assert leaf.grad is not None
    theirs = (leaf.grad**2).mean(1).sqrt()
    torch.testing.assert_close(as_distribution(ours), as_distribution(theirs), rtol=1e-4, atol=1e-9)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert batch.images.grad is None
    assert not batch.images.requires_grad


def test_gradients_are_taken_where_the_caller_records_none_and_round_a_wrapper() -> None:
    batch = normalized_batch()
    with torch.no_grad():
        ours = gradient_saliency(nn.DataParallel(small_model().eval()), batch.images, batch.labels)
    assert torch.equal(ours, gradient_saliency(small_model().eval(), batch.images, batch.labels))
    assert not ours.requires_grad


def test_float16_gradients_do_not_vanish() -> None:
    batch, model = normalized_batch(8), small_model().eval()
    full = as_distribution(gradient_saliency(model, batch.images, batch.labels))
    with torch.autocast("cpu", dtype=torch.float16):
        half = as_distribution(gradient_saliency(model, batch.images, batch.labels))
    assert bool((half > 0).float().mean() > 0.99)
    assert np.corrcoef(half.flatten().numpy(), full.flatten().numpy())[0, 1] > 0.99


def test_models_without_logits_or_gradient_get_a_sentence() -> None:
    class Odd(nn.Module):
        def __init__(self, output: object) -> None:
            super().__init__()
            self.output = output

        def forward(self, x: Tensor) -> object:
            return self.output

    batch = normalized_batch()
    with pytest.raises(ValueError, match="must return logits as a tensor"):
        gradient_saliency(Odd({"scores": 1}), batch.images, batch.labels)
    with pytest.raises(ValueError, match="Odd gives no gradient at its input"):
        gradient_saliency(Odd(torch.zeros(6, CLASSES)), batch.images, batch.labels)


def test_maps_are_divided_by_their_sums_and_empty_ones_are_uniform() -> None:
    maps = torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(0))
    maps[1] = 0.0
    maps[2, 0, 0] = torch.inf
    maps[3, 0, 0] = torch.nan
    shares = as_distribution(maps)
    torch.testing.assert_close(shares.sum((1, 2)), torch.ones(4))
    torch.testing.assert_close(shares[0], maps[0] / maps[0].sum())
    assert bool((shares[1:] == torch.tensor(1 / 15)).all())


def test_shares_sum_to_one_and_follow_the_saliency() -> None:
    saliency = torch.rand(3, 8, 12)
    shares = block_shares(saliency, 4)
    torch.testing.assert_close(shares.sum((1, 2)), torch.ones(3))
    torch.testing.assert_close(shares[1, 2, 3], saliency[1, 4:6, 9:12].sum() / saliency[1].sum())


def test_maps_without_use_become_uniform() -> None:
    saliency = torch.zeros(3, 4, 4)
    saliency[1, 0, 0] = torch.nan
    saliency[2, 0, 0] = torch.inf
    torch.testing.assert_close(block_shares(saliency, 2), torch.full((3, 2, 2), 0.25))
