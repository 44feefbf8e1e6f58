"""A model and a filter that take no time, whose images and verdicts follow from the seeds, and their real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from diffcore_gpu.generation.prompts import PromptSet
from diffcore_gpu.generation.settings import GenerationSettings
from diffcore_gpu.store.provenance import FileContents
from tests.images import write_noise

PROMPTS = PromptSet("test", ("{a} {label} in snow", "{a} {label} in rain", "the {label}"), "no {label}, blurred")
CLASSES = {"001.Owl": 5, "002.Red_fox": 4, "8": 2}
THRESHOLDS = torch.tensor([0.4, 0.6, 0.5], dtype=torch.float64)


def real_images(root: Path) -> Path:
    """An ImageFolder of `CLASSES`."""
    names = [f"{name}/{number}.png" for name, count in CLASSES.items() for number in range(count)]
    return write_noise(root, names, 8, 8)


def settings(**changes: object) -> GenerationSettings:
    """Settings of a small run, with changes."""
    values = {"prompts": PROMPTS, "height": 4, "width": 4, "max_attempts": 3, "batch_size": 4, "seed": 11, **changes}
    return GenerationSettings(**values)


class FakeTextToImage:
    """Makes noise of the seed; remembers what it was asked for.

    With `rounding`, one value of the image depends on the batch too, as a real model's rounding may.
    """

    def __init__(self, gamma: float = 3.0, size: int = 4, rounding: bool = False) -> None:
        self.gamma, self.size, self.rounding = gamma, size, rounding
        self.seconds: dict[str, float] = {}
        self.asked: list[tuple[str, str, int]] = []
        self.calls = 0

    def describe(self) -> dict[str, object]:
        return {"model": "fake", "gamma": self.gamma, "w": 1 + self.gamma, "steps": 1}

    def generate(self, prompts: list[str], negative_prompts: list[str], seeds: list[int]) -> torch.Tensor:
        self.calls += 1
        self.asked += zip(prompts, negative_prompts, seeds, strict=True)
        shape = (3, self.size, self.size)
        images = np.stack([np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8) for seed in seeds])
        if self.rounding:
            images[:, 2, 3, 3] = sum(seeds) % 256
        return torch.from_numpy(images)


class FakeFilter:
    """Similarity is the first value of the image, on [0, 1], and so is even; τ differs by class."""

    model = "fake filter"

    def __init__(
        self, labels: list[int], thresholds: torch.Tensor = THRESHOLDS, contents: FileContents | None = None
    ) -> None:
        self.thresholds, self.contents = thresholds, contents
        self._labels = torch.tensor(labels)

    def judge(self, samples: list[int], images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        similarity = images[:, 0, 0, 0].float() / 255
        return similarity, similarity > self.thresholds[self._labels[samples]]


def labels() -> list[int]:
    """Of the real images, in their order."""
    return [label for label, count in enumerate(CLASSES.values()) for _ in range(count)]


def contents(out: Path) -> dict[str, bytes]:
    """Every file of the store and of the folder beside it, but for the report, which holds times."""
    return {
        str(file.relative_to(out.parent)): file.read_bytes()
        for folder in (out, out.with_name(out.name + ".report"))
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "report.json"
    }
