"""Top-1 and top-5 accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn


def count_hits(logits: Tensor, labels: Tensor) -> Tensor:
    """How many samples have their class first, and among the first five (or all K, if there are fewer).

    Args:
        logits: [B, K].
        labels: int64 [B].

    Returns:
        int64 [2], on the device of the logits.
    """
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
    return torch.stack((best[:, 0].sum(), best.any(dim=1).sum()))


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    device: torch.device,
    autocast: AbstractContextManager[object],
    memory_format: torch.memory_format,
) -> dict[str, float]:
    """Accuracies of a model, which is left in eval().

    Args:
        model: on the device.
        batches: (images, labels), at least one.
        device: waited for once, at the end.
        autocast: entered around each forward pass.
        memory_format: of the images.

    Returns:
        "top1" and "top5", fractions in [0, 1].
    """
    model.eval()
    hits = torch.zeros(2, dtype=torch.int64, device=device)
    total = 0
    for images, labels in batches:
        images = images.to(device, memory_format=memory_format, non_blocking=True)
        with autocast:
            logits = model(images)
        hits += count_hits(logits, labels.to(device, non_blocking=True))
        total += len(labels)
    first, five = hits.tolist()
    return {"top1": first / total, "top5": five / total}
