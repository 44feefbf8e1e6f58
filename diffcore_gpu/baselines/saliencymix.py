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

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from diffcore_gpu.baselines._base import Baseline, Batch, Mixed, Need, check_number, library
from diffcore_gpu.baselines.images import to_device
from diffcore_gpu.baselines.regions import cut_box

# By channels; ITU-R BT.601, as in OpenCV's conversion to grey.
_LUMA = {1: (1.0,), 3: (0.299, 0.587, 0.114)}


@dataclass(eq=False, kw_only=True)
class SaliencyMix(Baseline):
    """SaliencyMix with the authors' defaults, but the saliency of the pixels.

    Args:
        alpha: of the Beta distribution, above 0.
        saliency_of: "pixels", the 8-bit grey image, or "normalized", the float image as the authors' code passes it.
        ImportError: OpenCV or its contrib part is not installed.
    """

    name, title = "saliencymix", "SaliencyMix"
    needs = Need.PARTNERS
    on_pixels = True

    alpha: float = 1.0
    saliency_of: Literal["pixels", "normalized"] = "pixels"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.saliency_of not in ("pixels", "normalized"):
            raise ValueError(f'SaliencyMix needs saliency_of as "pixels" or "normalized", not {self.saliency_of!r}.')
        channels = self._normalization.channels
        if channels not in _LUMA:
            raise ValueError(f"SaliencyMix needs mean and std of 1 or 3 channels, not of {channels}.")
        cv2 = library("cv2", "SaliencyMix")
        if not hasattr(cv2, "saliency"):
            raise ImportError(
                "SaliencyMix needs OpenCV with its contrib part; install it with: pip uninstall opencv-python "
                "opencv-python-headless, then pip install 'diffcore-gpu[bench]'."
            )
        check_number("alpha of SaliencyMix", self.alpha, 0, above=True)
        self._detector = cv2.saliency.StaticSaliencyFineGrained_create()
        luma = np.array(_LUMA[channels])
        self._grey_weights = torch.from_numpy(255 * luma * self._normalization.std).float()
        self._grey_offset = float(255 * luma @ self._normalization.mean)

    def mix(self, batch: Batch, model: nn.Module) -> Mixed:
        """Paste the salient box of one image's place into every image."""
        images = batch.images
        size, _, height, width = images.shape
        permutation = self._draw_permutation(size)
        lam = float(self._rng.beta(self.alpha, self.alpha))
        box = cut_box(height, width, lam, self.most_salient_pixel(images[int(permutation[0])]))
        order = to_device(permutation, images.device)
        out = images.clone()
        window = (slice(None), slice(None), slice(box.top, box.bottom), slice(box.left, box.right))
        out[window] = images[window][order]
        lam = 1.0 - box.area / (height * width)
        return self._mixed(out, batch.labels, order, lam, 1.0 - lam)

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
