"""The paper's own figures, to stand beside those that are measured here.

DiffCoRe-Mix (context-guided diffusion augmentation): Table 6, the sentences on Fig. 6, and Table 4's column for CUB.
"""

from __future__ import annotations

VANILLA, AGAIN, OURS = "vanilla", "vanilla again", "diffcore-mix"
"""How the suites name training without a method, the same a second time in each turn, and this library's transform."""

OVERHEAD = {
    "mixup": (0.9, 0.6, 0.4),
    "cutmix": (1.5, 1.0, 0.6),
    "saliencymix": (353.3, 701.8, 923.3),
    "snapmix": (67.4, 64.9, 60.2),
    "puzzlemix": (138.5, 139.9, 134.1),
    "comixup": (292.1, 490.2, 716.6),
    "guided-ap-random": (87.8, 81.9, 70.1),
    "guided-ap-greedy": (89.2, 83.0, 77.5),
    OURS: (68.2, 59.3, 58.9),
}
"""Table 6: overhead in percent at the batch sizes of `BATCHES`, CUB with ResNet-50."""

BATCH_SECONDS = {"mixup": (0.39, 0.52, 0.74), OURS: (1.37, 0.54, 0.73)}
"""Fig. 6 as far as the text states it: seconds of a batch at the sizes of `BATCHES`, on CUB."""

BATCHES = (16, 32, 64)

CUB_ACCURACY = {
    "mixup": 74.23,
    "cutmix": 74.30,
    "saliencymix": 68.75,
    "puzzlemix": 77.27,
    "comixup": 77.05,
    "guided-ap-greedy": 77.52,
    "diffusemix": 77.82,
    OURS: 79.52,
}
"""Table 4, CUB: top-1 in percent with DenseNet-121; ours is its -100. Which Guided-AP it ran is not said."""


def at_batch(figures: dict[str, tuple[float, float, float]], method: str, batch: int) -> float | None:
    """The paper's figure of a method at a batch size, or None where it has none."""
    if method not in figures or batch not in BATCHES:
        return None
    return figures[method][BATCHES.index(batch)]
