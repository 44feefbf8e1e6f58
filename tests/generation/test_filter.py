"""τ of eq. 5 against brute force over all pairs, and the hard filter."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation.filter import (
    SimilarityFilter,
    class_thresholds,
    sampled_class_thresholds,
    similarities,
)


def random_embeddings(count: int, width: int = 7, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) + 0.5


def brute_force(embeddings: Tensor, labels: Tensor, label: int) -> float:
    """The mean over all unordered pairs, one by one in float64."""
    unit = torch.nn.functional.normalize(embeddings.double()[labels == label], dim=1)
    return float(torch.stack([a @ b for a, b in itertools.combinations(unit, 2)]).mean())


@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=6), seed=st.integers(0, 10**6))
@settings(max_examples=60)
def test_equals_brute_force_over_all_pairs(counts: list[int], seed: int) -> None:
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)]).to(torch.int64)
    embeddings = random_embeddings(len(labels), seed=seed)
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    thresholds = class_thresholds(embeddings[shuffled], labels[shuffled], len(counts))
    assert thresholds.dtype == torch.float64
    known = [brute_force(embeddings, labels, label) for label, count in enumerate(counts) if count >= 2]
    for label, count in enumerate(counts):
        value = float(thresholds[label])
        if count >= 2:
            assert value == pytest.approx(brute_force(embeddings, labels, label), abs=1e-12)
        elif count == 1 and known:
            assert value == pytest.approx(sum(known) / len(known), abs=1e-12)
        else:
            assert value != value


def test_lengths_do_not_matter_and_duplicates_are_similar() -> None:
    embeddings = random_embeddings(6)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    scaled = embeddings * torch.tensor([1e-3, 1, 10, 1e4, 2, 0.5])[:, None]
    torch.testing.assert_close(class_thresholds(scaled, labels, 2), class_thresholds(embeddings, labels, 2))
    same = embeddings[:1].expand(5, -1)
    assert float(class_thresholds(same, torch.zeros(5, dtype=torch.int64), 1)) == pytest.approx(1.0, abs=1e-7)


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, labels = random_embeddings(50), torch.arange(50) % 3
    whole = class_thresholds(embeddings, labels, 3)
    monkeypatch.setattr("diffcore_gpu.generation.filter._CHUNK", 7)
    torch.testing.assert_close(class_thresholds(embeddings, labels, 3), whole, rtol=0, atol=1e-14)


def test_the_sampled_estimate_approaches_the_mean_and_repeats() -> None:
    embeddings, labels = random_embeddings(30), torch.arange(30) % 3
    exact = class_thresholds(embeddings, labels, 4)
    estimates = [sampled_class_thresholds(embeddings, labels, 4, pairs_per_class=20_000, seed=s) for s in (1, 1, 2)]
    assert torch.equal(estimates[0], estimates[1]) or bool(estimates[0][3].isnan())
    assert torch.equal(estimates[0][:3], estimates[1][:3])
    assert not torch.equal(estimates[0][:3], estimates[2][:3])
    torch.testing.assert_close(estimates[0][:3], exact[:3], rtol=0, atol=0.02)


def test_a_sampled_pair_is_never_an_image_with_itself() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    labels = torch.zeros(2, dtype=torch.int64)
    assert float(sampled_class_thresholds(embeddings, labels, 1, pairs_per_class=500, seed=3)) == -1.0


@pytest.mark.parametrize(
    ("embeddings", "labels", "num_classes", "message"),
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), 1, "embeddings must be floating"),
        (torch.ones(3, 2), torch.zeros(2, dtype=torch.int64), 1, r"labels must be int64 \[3\]"),
        (torch.ones(3, 2), torch.zeros(3), 1, r"labels must be int64 \[3\]"),
        (torch.ones(3, 2), torch.tensor([0, 2, 0]), 2, "sample 1 has label 2"),
        (torch.ones(3, 2), torch.tensor([0, 0, 0]), 0, "num_classes must be at least 1"),
        (torch.tensor([[1.0, 0], [0, 0], [1, 1]]), torch.tensor([0, 0, 0]), 1, "embedding of sample 1 is zero or not"),
        (torch.tensor([[1.0, 0], [1, 1], [float("nan"), 1]]), torch.tensor([0, 0, 0]), 1, "embedding of sample 2"),
    ],
)
def test_bad_input_is_refused(embeddings: Tensor, labels: Tensor, num_classes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_thresholds(embeddings, labels, num_classes)
    with pytest.raises(ValueError, match=message):
        sampled_class_thresholds(embeddings, labels, num_classes, pairs_per_class=3, seed=0)


class Given:
    """Embeddings that the images carry in their first pixels."""

    name = "given"

    def __init__(self, embeddings: Tensor) -> None:
        self.embeddings = embeddings

    def embed(self, images: Tensor) -> Tensor:
        return self.embeddings[images[:, 0, 0, 0].long()]


def judged(threshold: float) -> tuple[Tensor, Tensor]:
    real = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    generated = torch.tensor([[0.6, 0.8], [1.0, 0.0], [-1.0, 0.0]])
    images = torch.arange(3, dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 3, 2, 2)
    judge = SimilarityFilter(
        Given(generated), real, torch.tensor([0, 1]), torch.tensor([threshold, -0.5], dtype=torch.float64)
    )
    assert judge.model == "given"
    return judge.judge([0, 1, 0], images)


def test_accepted_iff_above_the_threshold_of_the_class() -> None:
    similarity, accepted = judged(0.5)
    assert similarity.dtype == torch.float32
    torch.testing.assert_close(similarity, torch.tensor([0.6, 0.0, -1.0]))
    assert accepted.tolist() == [True, True, False]


def test_equality_is_not_enough_and_is_decided_on_the_stored_number() -> None:
    stored = float(similarities(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]]))[0])
    assert judged(stored)[1].tolist() == [False, True, False]
    assert judged(stored - 1e-9)[1].tolist() == [True, True, False]
    assert judged(float("nan"))[1].tolist() == [False, True, False]


def test_embeddings_of_another_number_of_images_are_refused() -> None:
    with pytest.raises(GenerationError, match="2 embeddings for 3 real images"):
        SimilarityFilter(Given(torch.ones(1, 2)), torch.ones(2, 2), torch.zeros(3, dtype=torch.int64), torch.zeros(1))
