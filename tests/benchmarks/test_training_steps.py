"""Steps by turns: who trains when, what is counted, and how a failure is kept."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn

from diffcore_gpu import CounterpartStore
from diffcore_gpu.baselines import Batch
from diffcore_gpu.benchmarks.models import make_model
from diffcore_gpu.benchmarks.random_data import random_store_for
from diffcore_gpu.benchmarks.training_steps import (
    Mix,
    OneBatch,
    Row,
    ToTrain,
    Trainer,
    by_turns,
    figures,
    make_mix,
    why,
)

CPU = torch.device("cpu")
BATCH = Batch(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3]), torch.arange(4))


def small_model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 200))


class Ahead(OneBatch):
    """As a loader with three batches ready, each of which was waited for."""

    ahead = 3

    def next(self) -> tuple[Batch, float]:
        return self._batch, 0.25


def noting(name: str, calls: list[str]) -> Mix:
    def mix(batch: Batch, model: nn.Module) -> ToTrain:
        calls.append(name)
        return ToTrain(batch.images, batch.labels, nullcontext())

    return mix


def test_methods_take_turns_in_changing_order_and_use_up_what_lay_ready() -> None:
    calls: list[str] = []
    mixes = {name: noting(name, calls) for name in "abc"}
    trainer = Trainer(small_model(), CPU, amp=False)
    rows, failed = by_turns(trainer, Ahead(BATCH), mixes, repeats=6, warmup=2, steps=2)
    assert failed == {}
    assert list(rows) == ["a", "b", "c"]
    assert all(len(of) == 6 and all(row.steps == 2 for row in of) for of in rows.values())
    turns = ["".join(calls[15 * turn : 15 * turn + 15]) for turn in range(8)]
    for turn in turns:  # three unmeasured steps, then two
        assert sorted(turn) == sorted("abc" * 5)
        assert all(turn[5 * k : 5 * k + 5] == turn[5 * k] * 5 for k in range(3))
    assert len(set(turns)) > 1
    found = figures(rows, real_input=True)
    for name in "abc":
        assert found["loader_share"][name] > 1  # a quarter of a second was said to be waited, which none took


def test_a_method_that_fails_takes_no_more_turns() -> None:
    calls: list[str] = []

    def failing(batch: Batch, model: nn.Module) -> ToTrain:
        calls.append("failing")
        if calls.count("failing") == 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate\nmore lines")
        return ToTrain(batch.images, batch.labels, nullcontext())

    mixes = {"vanilla": noting("vanilla", calls), "failing": failing}
    rows, failed = by_turns(
        Trainer(small_model(), CPU, amp=False), OneBatch(BATCH), mixes, repeats=5, warmup=1, steps=1
    )
    assert failed == {"failing": "CUDA out of memory. Tried to allocate"}
    assert list(rows) == ["vanilla"]
    assert calls.count("failing") == 3
    assert calls.count("vanilla") == 6


def test_an_error_that_is_no_methods_own_is_raised() -> None:
    def wrong(batch: Batch, model: nn.Module) -> ToTrain:
        raise KeyError("a fault of the program")

    with pytest.raises(KeyError):
        by_turns(Trainer(small_model(), CPU, amp=False), OneBatch(BATCH), {"a": wrong}, repeats=2, warmup=1, steps=1)


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("name", ["vanilla", "diffcore-mix", "mixup", "manifold-mixup"])
def test_steps_train(name: str, amp: bool, small_store: CounterpartStore) -> None:
    pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = make_model("resnet18", 200)
    before = [part.detach().clone() for part in model.parameters()]
    row = Trainer(model, CPU, amp=amp).row(OneBatch(BATCH), make_mix(name, 200, small_store, CPU), 3)
    assert not any(torch.equal(part, old) for part, old in zip(model.parameters(), before, strict=True))
    assert all(torch.isfinite(part).all() for part in model.parameters())
    assert row.steps == 3
    assert 0 < row.mix < row.mix + row.train <= row.step * 3


def test_figures_are_medians_of_steps() -> None:
    rows = []
    for k in (1.0, 2.0, 6.0):
        row = Row(load=2 * k, mix=4 * k, train=10 * k, waited=k, steps=2)
        row.step = 8 * k
        rows.append(row)
    found = figures({"some": rows}, real_input=True)
    assert found["times"]["some"]["median_ms"] == 16_000
    assert found["stages"]["some"] == {"load_ms": 2000, "mix_ms": 4000, "train_ms": 10_000}
    assert found["loader_share"]["some"] == pytest.approx(1 / 16)


def test_why_is_one_line() -> None:
    assert why(RuntimeError("\nfirst\nsecond")) == "first"
    assert why(MemoryError()) == "MemoryError"


def test_a_random_store_for_a_dataset_has_a_row_of_its_class_for_each_sample(tmp_path: Path) -> None:
    labels = [2, 0, 2, 2, 1, 0] * 200
    store = random_store_for(tmp_path / "store", 8, labels, 4)
    assert store.coverage == 1
    assert store.num_rows <= 512
    assert torch.equal(store.labels, torch.tensor(labels))
    of_row = store.row_label()
    assert all(of_row[store.rows(sample)].tolist() == [label] for sample, label in enumerate(labels))
    store.verify()
