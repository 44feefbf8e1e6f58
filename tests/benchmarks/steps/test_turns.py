"""Steps by turns: who trains when, what is counted, how a failure is kept, and how a run goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from diffcore_gpu.baselines import Batch, Mixed
from diffcore_gpu.benchmarks.steps.turns import Trainee, Turns, by_turns, figures, turns_of
from diffcore_gpu.benchmarks.training.step import Mix, Row, Trainer
from tests.benchmarks.harness.batches import OneBatch, WaitedFor

CPU = torch.device("cpu")
BATCH = Batch(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]), torch.arange(4))


def noting(name: str, calls: list[str], fails_at: int | None = None, error: type[Exception] = RuntimeError) -> Mix:
    def mix(batch: Batch, model: nn.Module) -> Mixed:
        calls.append(name)
        if calls.count(name) == fails_at:
            raise error("CUDA out of memory. Tried to allocate\nmore lines")
        return Mixed(batch.images, batch.labels)

    return mix


def train(
    mixes: dict[str, Mix], repeats: int, *, turns: Turns | None = None, ahead: bool = False, until: int | None = None,
    warmup: int = 1, steps: int = 1,
) -> Turns:  # fmt: skip
    """All turns, or those until one is over."""
    turns = Turns() if turns is None else turns
    trainer = Trainer(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)), CPU, amp=False)
    trainees = {name: Trainee(mix, (WaitedFor if ahead else OneBatch)(BATCH)) for name, mix in mixes.items()}
    for _ in by_turns(trainer, trainees, turns, repeats=repeats, warmup=warmup, steps=steps):
        if turns.count == until:
            break
    return turns


def split(calls: Sequence[str], size: int) -> list[str]:
    return ["".join(calls[start : start + size]) for start in range(0, len(calls), size)]


def test_methods_take_turns_in_changing_order_and_use_up_what_lay_ready() -> None:
    calls: list[str] = []
    turns = train({name: noting(name, calls) for name in "abc"}, 6, ahead=True, warmup=2, steps=2)
    assert turns.failed == {}
    assert {name: len(of) for name, of in turns.rows.items()} == {"a": 6, "b": 6, "c": 6}
    orders = split(calls, 15)
    assert len(orders) == 8
    for order in orders:  # three unmeasured steps, then two
        assert sorted(order) == sorted("abc" * 5)
        assert all(order[5 * k : 5 * k + 5] == order[5 * k] * 5 for k in range(3))
    assert len(set(orders)) > 1
    found = figures(turns, loader=True)
    for name in "abc":
        assert found["loader_share"][name] > 1  # a quarter of a second was said to be waited, which none took


def test_a_method_that_fails_takes_no_more_turns() -> None:
    calls: list[str] = []
    turns = train({"vanilla": noting("vanilla", calls), "failing": noting("failing", calls, fails_at=3)}, 5)
    assert turns.failed == {"failing": "CUDA out of memory. Tried to allocate"}
    assert list(turns.rows) == ["vanilla"]
    assert (calls.count("failing"), calls.count("vanilla")) == (3, 6)


def test_an_error_that_is_no_methods_own_is_raised() -> None:
    with pytest.raises(KeyError):
        train({"a": noting("a", [], fails_at=1, error=KeyError)}, 2)


def test_turns_that_were_cut_off_go_on_in_the_order_of_a_run_that_was_not() -> None:
    whole: list[str] = []
    train({name: noting(name, whole) for name in "abcd"}, 7, warmup=2)
    before: list[str] = []
    cut = train({name: noting(name, before, fails_at=3 if name == "b" else None) for name in "abcd"}, 7, until=4)
    kept = json.loads(json.dumps(figures(cut, loader=False)))
    calls: list[str] = []
    resumed = train({name: noting(name, calls) for name in "abcd"}, 7, turns=turns_of(kept), warmup=2)
    found = figures(resumed, loader=False)
    assert found["turns"] == 7
    assert found["failed"] == {"b": "CUDA out of memory. Tried to allocate"}
    assert set(found["times"]) == set("acd")
    for name in "acd":
        assert found["times"][name]["samples_ms"][:4] == kept["times"][name]["samples_ms"]
        assert len(found["times"][name]["samples_ms"]) == 7
        for stage, samples in found["stage_samples"][name].items():
            assert samples[:4] == kept["stage_samples"][name][stage]
    # Two turns of warming up, as the model is new, then the three that were left.
    assert split(calls, 3)[2:] == [order.replace("b", "") for order in split(whole, 4)[6:]]
    assert len(split(calls, 3)) == 5


def test_figures_are_medians_of_steps() -> None:
    rows = [Row(load=k, mix=2 * k, train=5 * k, waited=k / 2, step=8 * k) for k in (1.0, 2.0, 6.0)]
    found = figures(Turns({"some": rows}, {}, 3), loader=True)
    assert found["times"]["some"]["median_ms"] == 16_000
    assert found["stages"]["some"] == {"load_ms": 2000, "mix_ms": 4000, "train_ms": 10_000}
    assert found["stage_samples"]["some"]["waited_ms"] == [500, 1000, 3000]
    assert found["loader_share"]["some"] == pytest.approx(1 / 16)
    assert turns_of(found) == Turns({"some": rows}, {}, 3)


def test_the_figures_of_one_turn_are_complete() -> None:
    found: dict[str, Any] = figures(Turns({"some": [Row(1, 2, 3, 4, 6)]}, {"other": "why"}, 1), loader=False)
    assert found["times"]["some"] == {"median_ms": 6e3, "p10_ms": 6e3, "p90_ms": 6e3, "samples_ms": [6e3]}
    assert turns_of(found).count == 1
    assert turns_of(found).failed == {"other": "why"}
    assert turns_of(None) == Turns()
