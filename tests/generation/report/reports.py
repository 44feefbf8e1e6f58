"""A small run for the tests of its report: real image files, candidates, and the report that counts them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffcore_gpu.generation.report.records import Candidate, GenerationReport, NeverPassed
from diffcore_gpu.generation.report.tally import ReportTally

Offered = tuple[Candidate, Path, Path | Tensor]
PROMPTS = ("a {label}, in the rain", "a {label}, at dusk")


@dataclass(frozen=True)
class Run:
    """A report and what it was counted from."""

    report: GenerationReport
    items: list[Offered]

    @property
    def candidates(self) -> list[Candidate]:
        return [candidate for candidate, _, _ in self.items]


def make_run(
    folder: Path,
    class_names: list[str],
    per_class: int = 6,
    *,
    thresholds: list[float] | None = None,
    hopeless: int | None = None,
    size: int = 32,
    attempts: int = 3,
) -> Run:
    """A run over `per_class` samples of each class; no candidate of class `hopeless` passes."""
    random = np.random.default_rng(5)
    thresholds = thresholds or [0.70 + 0.01 * label for label in range(len(class_names))]
    labels = [label for label in range(len(class_names)) for _ in range(per_class)]
    tally = ReportTally(class_names, labels, range(len(labels)), thresholds, PROMPTS)
    items: list[Offered] = []
    for sample, label in enumerate(labels):
        real = folder / f"{sample}.png"
        Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(real)
        best = -1.0
        for attempt in range(attempts):
            shift = -0.2 if label == hopeless else 0.03
            similarity = float(np.float32(thresholds[label] + shift + random.normal(0, 0.05)))
            accepted = label != hopeless and similarity > thresholds[label]
            if label == hopeless:
                similarity = min(similarity, thresholds[label] - 0.01)
            prompt_id = int(random.integers(len(PROMPTS)))
            candidate = Candidate(
                sample=sample,
                label=label,
                attempt=attempt,
                seed=int(random.integers(1 << 62)),
                prompt=PROMPTS[prompt_id].format(label=class_names[label]),
                negative_prompt="blurred",
                similarity=similarity,
                accepted=accepted,
                prompt_id=prompt_id,
            )
            tally.add(candidate)
            best = max(best, similarity)
            image = torch.from_numpy(random.integers(0, 256, (3, size, size), dtype=np.uint8))
            items.append((candidate, real, image))
            if accepted:
                break
        else:
            tally.give_up(NeverPassed(sample, label, f"{class_names[label]}/{real.name}", attempts, best))
    report = tally.report(
        model={"model": "a model", "gamma": 11.0, "w": 12.0, "steps": 50, "revision": None},
        settings={"filter": "open_clip ViT-B-32 openai", "max_attempts": attempts, "prompts": {"name": "bird"}},
        seconds={"denoiser": 8.0, "vae": 1.5, "filter": 0.3, "write": 0.2},
        wall_seconds=10.0,
        timed_images=len(items),
    )
    return Run(report, items)
