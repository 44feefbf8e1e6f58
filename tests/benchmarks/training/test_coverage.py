"""Coverage is exact in every class, nested, and takes only samples that have pairs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu import CounterpartStore
from diffcore_gpu.benchmarks.training.data import Data, open_data
from diffcore_gpu.benchmarks.training.preparation import covered_samples, restrict
from diffcore_gpu.errors import BenchmarkError
from diffcore_gpu.generation.draws import choose_samples


@st.composite
def samples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    labels = draw(st.lists(st.integers(0, 3), min_size=1, max_size=60))
    pairs = draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels)))
    return np.array(labels, dtype=np.int64), np.array(pairs, dtype=np.bool_)


FRACTIONS = st.floats(0.01, 1.0)


@given(samples(), FRACTIONS, FRACTIONS)
def test_exact_per_class_and_nested(given_samples: tuple[np.ndarray, np.ndarray], one: float, other: float) -> None:
    labels, pairs = given_samples
    fraction, more = sorted((one, other))
    chosen, missing = covered_samples(labels, 4, pairs, fraction)
    assert (np.diff(chosen) > 0).all()
    assert pairs[chosen].all()
    lacking = 0
    for label in range(4):
        members = labels == label
        wanted = int(np.floor(members.sum() * fraction + 0.5))
        there = int((members & pairs).sum())
        assert (labels[chosen] == label).sum() == min(wanted, there)
        lacking += max(0, wanted - there)
    assert missing == lacking
    assert set(chosen) <= set(covered_samples(labels, 4, pairs, more)[0])


@given(samples(), FRACTIONS)
def test_a_whole_store_is_covered_as_generation_chooses(
    given_samples: tuple[np.ndarray, np.ndarray], fraction: float
) -> None:
    labels = given_samples[0]
    chosen, missing = covered_samples(labels, 4, np.ones(len(labels), dtype=np.bool_), fraction)
    assert chosen.tolist() == choose_samples(labels, 4, fraction, 0).tolist()
    assert missing == 0


def test_the_store_of_an_arm_has_pairs_for_its_samples_alone(store: CounterpartStore, data: Data) -> None:
    half, covered = restrict(store, data, "half", 0.5, 0.0)
    has = [sample for sample in range(18) if len(half.rows(sample))]
    assert covered == 0.5
    assert np.bincount(data.labels[has]).tolist() == [3, 3, 3]
    assert all(half.rows(sample).tolist() == store.rows(sample).tolist() for sample in has)


def test_of_a_part_of_the_images_a_share_has_counterparts(store: CounterpartStore, dataset: Path) -> None:
    data = open_data(dataset, ["test"], 4)
    half, covered = restrict(store, data, "half", 0.5, 0.0)
    has = {sample for sample in range(18) if len(half.rows(sample))}
    assert covered == 0.5
    assert has <= set(data.part.tolist())
    assert np.bincount(data.labels[sorted(has)]).tolist() == [2, 2, 2]


def test_too_few_pairs_are_refused_or_accepted(store: CounterpartStore, data: Data) -> None:
    poor = store.restricted_to([0, 1, 2, 6, 7, 8, 12, 13])
    with pytest.raises(BenchmarkError) as error:
        restrict(poor, data, "all", 1.0, 0.0)
    assert str(error.value) == (
        f"the arm all asks for counterparts for 100% of the training samples of each class, but {store.path} has them "
        "for 44.4% of all, so 10 of 18 samples would lack one; make the missing ones, or accept it with "
        "--allow-missing 0.556."
    )
    found = re.search(r"--allow-missing ([\d.]+\d)", str(error.value))
    assert found is not None
    accepted, covered = restrict(poor, data, "all", 1.0, float(found[1]))
    assert covered == pytest.approx(8 / 18)
    assert [sample for sample in range(18) if len(accepted.rows(sample))] == [0, 1, 2, 6, 7, 8, 12, 13]
    with pytest.raises(BenchmarkError, match="so 1 of 18 samples would lack one"):
        restrict(poor, data, "half", 0.5, 0.0)
