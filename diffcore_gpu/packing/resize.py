"""Bring an image of any size to the store's size, with antialiasing."""

from __future__ import annotations

from PIL import Image

from diffcore_gpu.packing.options import Fit


def resize(image: Image.Image, height: int, width: int, fit: Fit) -> Image.Image:
    """Resize with Pillow's BICUBIC filter, which widens with the scale: antialiased, and without LANCZOS's ringing.

    ``crop`` covers the target and cuts off evenly what stands over: for a square target exactly torchvision's
    ``Resize(size, BICUBIC)`` followed by ``CenterCrop(size)`` on a PIL image. ``stretch`` ignores the aspect ratio.

    Args:
        image: mode RGB or L.
        height: of the result, in pixels.
        width: of the result, in pixels.
        fit: what to do about the aspect ratio.

    Returns:
        A new image of the same mode.
    """
    source_width, source_height = image.size
    if (source_height, source_width) == (height, width):
        return image
    box = (0.0, 0.0, float(source_width), float(source_height))
    if fit is Fit.CROP:
        # The covering size, cut to whole pixels as torchvision does.
        if source_height * width >= source_width * height:
            cover_height, cover_width = width * source_height // source_width, width
        else:
            cover_height, cover_width = height, height * source_width // source_height
        top, left = round((cover_height - height) / 2), round((cover_width - width) / 2)
        # Only the part that stays is computed; a strip of 8 × 60000 pixels would otherwise be blown up whole.
        down, across = source_height / cover_height, source_width / cover_width
        box = (left * across, top * down, (left + width) * across, (top + height) * down)
        box = (box[0], box[1], min(box[2], float(source_width)), min(box[3], float(source_height)))
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)
