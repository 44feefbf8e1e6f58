"""SaliencyMix: Uddin, Monira, Shin, Chung, Bae, "SaliencyMix: A Saliency Guided Data Augmentation Strategy for Better
Regularization", ICLR 2021.

    x̃_i = M⊙x_i + (1 − M)⊙x_j,   ỹ_i = λ'·y_i + (1 − λ')·y_j

M is 0 inside a box of CutMix's size, λ ~ Beta(1, 1), centred on the most salient pixel and clipped at the borders;
λ' = 1 − (area of the clipped box)/(H·W). As in the authors' code, the box comes from one image, the first of the
permuted batch, and is used for the whole batch. The saliency is `cv2.saliency.StaticSaliencyFineGrained` of OpenCV
contrib, on the CPU; rounded down to 256 levels, the first of the most salient pixels is taken.

OpenCV's detector reads 8-bit images. The authors' training code hands it the normalized float image, whose bytes it
then reads as if they were pixels: the place that it finds has little to do with the image. The default here is what the
paper describes, the saliency of the 8-bit grey image, so its boxes lie elsewhere than those of the authors' code;
`saliency_of="normalized"` repeats the authors' call. The default sends one byte per pixel to the CPU, a twelfth of what
the authors' code sends.

Left out: the probability of mixing (1 for ImageNet, 0.5 for CIFAR in the paper), which is 1 here.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from diffcore_gpu.baselines._base import Batch, Mixed, Need
from diffcore_gpu.baselines.arguments import check_number
from diffcore_gpu.baselines.images import Normalization
from diffcore_gpu.baselines.pairs import (
    check_number_of_classes,
    check_pairs,
    draw_permutation,
    library,
    mixed_targets,
    to_device,
)
from diffcore_gpu.baselines.regions import cut_box

# By channels; ITU-R BT.601, as in OpenCV's conversion to grey.
_LUMA = {1: (1.0,), 3: (0.299, 0.587, 0.114)}


class SaliencyMix:
    """SaliencyMix with the authors' defaults, but the saliency of the pixels.

    Args:
        num_classes: K.
        mean: of the normalization, for images in [0, 1], one number for each channel.
        std: of the normalization, likewise.
        seed: of the method's own generator.
        alpha: of the Beta distribution, above 0.
        saliency_of: "pixels", the 8-bit grey image, or "normalized", the float image as the authors' code passes it.

    Raises:
        ValueError: a setting is outside its range.
        ImportError: OpenCV or its contrib part is not installed.
    """

    name = "saliencymix"
    needs = Need.PAIRS

    def __init__(
        self,
        num_classes: int,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        seed: int = 0,
        alpha: float = 1.0,
        saliency_of: Literal["pixels", "normalized"] = "pixels",
    ) -> None:
        self.num_classes = check_number_of_classes(num_classes, "SaliencyMix")
        if saliency_of not in ("pixels", "normalized"):
            raise ValueError(f'SaliencyMix needs saliency_of as "pixels" or "normalized", not {saliency_of!r}.')
        normalization = Normalization(mean, std)
        if normalization.channels not in _LUMA:
            raise ValueError(f"SaliencyMix needs mean and std of 1 or 3 channels, not of {normalization.channels}.")
        cv2 = library("cv2", "SaliencyMix")
        if not hasattr(cv2, "saliency"):
            raise ImportError(
                "SaliencyMix needs OpenCV with its contrib part; install it with: pip uninstall opencv-python "
                "opencv-python-headless, then pip install 'diffcore-gpu[bench]'."
            )
        self.alpha = check_number("alpha of SaliencyMix", alpha, 0, above=True)
        self.saliency_of = saliency_of
        self._detector = cv2.saliency.StaticSaliencyFineGrained_create()
        luma = np.array(_LUMA[normalization.channels])
        self._grey_weights = torch.from_numpy(255 * luma * normalization.std).float()
        self._grey_offset = float(255 * luma @ normalization.mean)
        self._rng = np.random.default_rng(seed)

    def __call__(self, batch: Batch, model: nn.Module) -> Mixed:
        """Paste the salient box of one image's place into every image.

        Raises:
            ValueError: the batch cannot be paired, or has another number of channels than `mean`.
        """
        check_pairs(batch, self.num_classes, "SaliencyMix")
        images = batch.images
        size, channels, height, width = images.shape
        if channels != len(self._grey_weights):
            raise ValueError(
                f"SaliencyMix was made with mean and std of {len(self._grey_weights)} channel(s), "
                f"and the images have {channels}."
            )
        permutation = draw_permutation(self._rng, size)
        lam = float(self._rng.beta(self.alpha, self.alpha))
        box = cut_box(height, width, lam, self.most_salient_pixel(images[int(permutation[0])]))
        order = to_device(permutation, images.device)
        out = images.clone()
        window = (slice(None), slice(None), slice(box.top, box.bottom), slice(box.left, box.right))
        out[window] = images[window][order]
        lam = 1.0 - box.area / (height * width)
        return Mixed(out, mixed_targets(batch.labels, order, lam, 1.0 - lam, self.num_classes))

    def most_salient_pixel(self, image: Tensor) -> tuple[int, int]:
        """(row, column) of the most salient pixel of a normalized image, float [C, H, W]. Waits for the device."""
        if self.saliency_of == "normalized":
            pixels = np.ascontiguousarray(image.float().cpu().numpy().transpose(1, 2, 0))
        else:
            self._grey_weights = self._grey_weights.to(image.device)
            grey = (image.float() * self._grey_weights[:, None, None]).sum(0) + self._grey_offset
            pixels = grey.round_().clamp_(0, 255).to(torch.uint8).cpu().numpy()
        _, saliency = self._detector.computeSaliency(pixels)
        row, column = divmod(int((saliency * 255).astype(np.uint8).argmax()), image.shape[2])
        return row, column
