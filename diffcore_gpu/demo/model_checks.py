"""Whether the demo's models mean something, measured on digits that they have not seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffcore_gpu.demo import digits
from diffcore_gpu.demo.pretraining.batches import PER_CLASS, SPLIT_SEED
from diffcore_gpu.demo.pretraining.captions import ink, slant
from diffcore_gpu.generation.embedding import load_embedder
from diffcore_gpu.generation.model_loading import load_text_to_image
from diffcore_gpu.generation.prompts import BUILT_IN
from diffcore_gpu.generation.settings import ModelOptions

MODELS = Path(__file__).parent / "models"
"""The models that are shipped."""
GAMMA, STEPS = 0.25, 20
"""The guidance γ and the steps that the demo generates with."""
_BATCH = 50


def text_to_image_options(folder: Path = MODELS) -> ModelOptions:
    """The demo's text-to-image model as the demo runs it."""
    return ModelOptions(str(folder / "digits-sd"), gamma=GAMMA, steps=STEPS, dtype="float32")


@dataclass(frozen=True)
class ModelChecks:
    """What was measured.

    Attributes:
        recognized: share of generated digits that a classifier trained on real digits takes for the digit of their
            prompt.
        recognized_real: the same classifier's accuracy on real digits that it has not seen.
        auc: probability that two real digits of one class are more similar than two of different classes (area under
            the ROC curve), by cosine similarity of the image embeddings.
        bold_minus_thin: mean ink of digits generated as bold less that of those generated as thin.
        right_minus_left: the same for the slant, right less left.
    """

    recognized: float
    recognized_real: float
    auc: float
    bold_minus_thin: float
    right_minus_left: float

    def lines(self) -> list[str]:
        """For a person."""
        return [
            f"Generated digits recognized by their prompt: {self.recognized:.1%} (unseen real digits: "
            f"{self.recognized_real:.1%}).",
            f"Similarity tells pairs of one class from others with an AUC of {self.auc:.3f}.",
            f"Bold digits have {self.bold_minus_thin:+.3f} of ink against thin ones, and those leaning to the right "
            f"{self.right_minus_left:+.3f} of slant against those leaning to the left.",
        ]


def generated_digits(folder: Path, per_prompt: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images for each label and each contextual prompt of the set `digit`.

    Returns:
        uint8 [N, 3, 32, 32], labels int64 [N], prompt ids int64 [N].
    """
    model = load_text_to_image(text_to_image_options(folder))
    prompts = BUILT_IN["digit"]
    wanted = [(label, prompt) for label in range(10) for prompt in range(len(prompts.contextual))] * per_prompt
    images = []
    for first in range(0, len(wanted), _BATCH):
        part = wanted[first : first + _BATCH]
        texts = [prompts.render(prompt, str(label)) for label, prompt in part]
        negative = [prompts.render_negative(str(label)) for label, _ in part]
        images.append(model.generate(texts, negative, range(first, first + len(part))))
    labels, ids = torch.tensor(wanted).T
    return torch.cat(images), labels, ids


def _features(images: digits.Array) -> digits.Array:
    """Pixels of [N, 32, 32] bytes at 8 × 8, as a classifier of these digits sees them."""
    blocks: digits.Array = images.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
    return blocks.reshape(len(images), -1) / 255


def check_models(folder: Path = MODELS, per_prompt: int = 4) -> ModelChecks:
    """Measure both models.

    Args:
        folder: holds `digits-sd` and `digits-clip`.
        per_prompt: images for each of the 10 digits and each prompt.
    """
    from sklearn.metrics import roc_auc_score
    from sklearn.svm import SVC

    real, labels = digits.load_digits()
    fitting, training, held_out = digits.split(labels, PER_CLASS, SPLIT_SEED)
    unseen = np.concatenate([training, held_out])
    large = np.stack([digits.enlarge(image) for image in real])
    judge = SVC(C=10, gamma="scale").fit(_features(large[unseen]), labels[unseen])
    other = SVC(C=10, gamma="scale").fit(_features(large[fitting]), labels[fitting])

    images, of_prompt, ids = generated_digits(folder, per_prompt)
    grey = images[:, :1].to(torch.float32) / 255
    texts = BUILT_IN["digit"].contextual

    def mean_where(values: Tensor, words: str) -> float:
        (chosen,) = (number for number, text in enumerate(texts) if words in text)
        return float(values[ids == chosen].mean())

    embedder = load_embedder(str(folder / "digits-clip"))
    shown = torch.from_numpy(large[unseen]).unsqueeze(1).expand(-1, 3, -1, -1).contiguous()
    embeddings = embedder.embed(shown)
    similarity = embeddings @ embeddings.T
    first, second = torch.triu_indices(len(unseen), len(unseen), offset=1)
    same = labels[unseen][first] == labels[unseen][second]
    return ModelChecks(
        recognized=float(np.mean(judge.predict(_features(images[:, 0].numpy())) == of_prompt.numpy())),
        recognized_real=float(other.score(_features(large[unseen]), labels[unseen])),
        auc=float(roc_auc_score(same, similarity[first, second].numpy())),
        bold_minus_thin=mean_where(ink(grey), "bold") - mean_where(ink(grey), "thin"),
        right_minus_left=mean_where(slant(grey), "to the right") - mean_where(slant(grey), "to the left"),
    )
