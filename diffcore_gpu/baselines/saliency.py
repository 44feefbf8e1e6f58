"""Saliency maps [B, H, W]: the spectral residual of the image, and the gradient of the loss.

Spectral residual (Hou, Zhang, "Saliency Detection: A Spectral Residual Approach", CVPR 2007), of the grey image, shrunk
to 128×128 where it is larger:

    F = FFT(grey),   A = sqrt(|F|² + 10⁻¹⁰),   R = log A − box₃(log A),   s = blur(|IFFT(F/A · exp R)|)

with a 3×3 box filter that repeats the border, a Gaussian blur of 7×7 and σ = 3, and the map brought back to the image's
size. Gradient (Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks: Visualising Image Classification
Models and Saliency Maps", ICLR Workshops 2014, as Puzzle Mix and GuidedMixup use it), with the loss ℓ of the image
under the model that is trained:

    s = sqrt(mean over channels of (∂ℓ/∂x)²)

Grey, resize and blur are torchvision's, the transform is `torch.fft`. All of it is float32, under autocast too.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, pad

from diffcore_gpu.baselines.features import logits_of, unwrapped

SIDE = 128
"""Pixels; what larger images are shrunk to for the spectral residual."""
_TINY = 1e-10
_HALF_SCALE = 1024.0
"""Factor of the loss where gradients pass through float16, in which those of an image's pixels would be 0. It is what a
GradScaler's first factor, 2¹⁶, comes to for the sum of a batch of 64."""


def spectral_residual(functional: ModuleType, images: Tensor, *, kernel_size: int = 7, sigma: float = 3.0) -> Tensor:
    """Spectral-residual saliency.

    Args:
        functional: `torchvision.transforms.v2.functional`.
        images: float [B, C, H, W], C = 1 or 3; normalized images, as GuidedMixup's authors pass them.
        kernel_size: side of the Gaussian blur, pixels, odd.
        sigma: of the Gaussian blur, pixels.

    Returns:
        float32 [B, H, W], from 0.

    Raises:
        ValueError: the images have another number of channels.
    """
    if images.shape[1] not in (1, 3):
        raise ValueError(f"The spectral residual needs images of 1 or 3 channels, not of {images.shape[1]}.")
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        grey = functional.rgb_to_grayscale(images.float())
        # The authors look at the height alone.
        shrunk = images.shape[2] > SIDE
        if shrunk:
            grey = functional.resize(grey, [SIDE, SIDE], antialias=True)
        spectrum = torch.fft.fft2(grey)
        amplitude = (spectrum.real.square() + spectrum.imag.square() + _TINY).sqrt()
        log = amplitude.log()
        smooth = avg_pool2d(pad(log, (1, 1, 1, 1), mode="replicate"), kernel_size=3, stride=1)
        saliency = torch.fft.ifft2(spectrum * ((log - smooth).exp() / amplitude)).abs()[:, 0]
        saliency = blurred(functional, saliency, kernel_size=kernel_size, sigma=sigma)
        if shrunk:
            saliency = functional.resize(saliency, list(images.shape[2:]), antialias=True)
        result: Tensor = saliency
        return result


def blurred(functional: ModuleType, maps: Tensor, *, kernel_size: int, sigma: float) -> Tensor:
    """Gaussian blur of maps, by torchvision.

    The maps are handed over as the channels of one image, as GuidedMixup's authors do it, and not as images of one
    channel. On the CPU that is the same, bit for bit, in a fraction of the time: torch has a kernel for a convolution
    of each channel by itself.

    Args:
        functional: `torchvision.transforms.v2.functional`.
        maps: float [B, H, W].
        kernel_size: side of the kernel, pixels, odd.
        sigma: pixels.

    Returns:
        As `maps`.
    """
    result: Tensor = functional.gaussian_blur(maps, [kernel_size, kernel_size], [sigma, sigma])
    return result


def gradient_saliency(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Saliency as the size of the loss gradient at each pixel, by one forward and one backward pass.

    The pass runs in the mode in which the model is, as in the authors' code: in training mode dropout draws, and
    BatchNorm uses the batch's statistics and counts them in its running ones. Unlike in that code, gradients are taken
    of the images alone, so `grad` of the parameters is not touched and their share of the work is saved. The scale of
    the result is arbitrary.

    Args:
        model: returns logits [B, K].
        images: float [B, C, H, W]; not changed.
        labels: int64 [B].

    Returns:
        float32 [B, H, W], from 0.

    Raises:
        ValueError: the model does not return logits, or gives no gradient at its input.
    """
    with torch.enable_grad():
        inputs = images.detach().requires_grad_()
        logits = logits_of(unwrapped(model)(inputs))
        loss = cross_entropy(logits.float(), labels, reduction="sum")
        if not loss.requires_grad:
            raise ValueError(f"{type(model).__name__} gives no gradient at its input; use it without torch.no_grad.")
        (gradient,) = torch.autograd.grad(loss * (_HALF_SCALE if logits.dtype == torch.float16 else 1.0), inputs)
    return gradient.float().square_().mean(1).sqrt_()


def as_distribution(saliency: Tensor) -> Tensor:
    """Maps [B, H, W] divided by their sums; a map without mass, or with an infinite one, becomes uniform."""
    total = saliency.sum((1, 2), keepdim=True)
    usable = (total > 0) & total.isfinite()
    uniform = 1.0 / (saliency.shape[1] * saliency.shape[2])
    return torch.where(usable, saliency / total, uniform)


def block_shares(saliency: Tensor, blocks: int) -> Tensor:
    """The share of each block in its image's saliency.

    Args:
        saliency: float32 [B, H, W], not negative; `blocks` divides H and W.
        blocks: per side.

    Returns:
        float32 [B, blocks, blocks], sum 1 over an image; all equal where the saliency is zero or not finite.
    """
    height, width = saliency.shape[-2:]
    return as_distribution(avg_pool2d(saliency[:, None], (height // blocks, width // blocks))[:, 0])
