"""Accuracies are counted right, and tables and lines say what was found."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from diffcore_gpu.benchmarks.training.accuracies import (
    accuracy_table,
    difference,
    duration,
    epoch_line,
    run_line,
)
from diffcore_gpu.benchmarks.training.loop import Epoch, evaluate


@given(st.integers(1, 8), st.integers(1, 30), st.integers(0, 1000))
def test_top_1_and_top_5_by_sorting(classes: int, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.permuted(np.tile(np.arange(classes, dtype=np.float32), (count, 1)), axis=1)
    labels = random.integers(classes, size=count)
    order = np.argsort(-logits, axis=1)
    expected = {f"top{k}": float(np.mean([labels[i] in order[i, :k] for i in range(count)])) for k in (1, 5)}
    batches = [(torch.from_numpy(logits[i : i + 7]), torch.from_numpy(labels[i : i + 7])) for i in range(0, count, 7)]
    images = [(batch.reshape(-1, classes, 1, 1), of) for batch, of in batches]
    found = evaluate(nn.Flatten(), images, torch.device("cpu"), nullcontext(), torch.contiguous_format)
    assert found == pytest.approx(expected)


def test_a_difference_within_the_spread_is_noise() -> None:
    assert difference([0.61, 0.63], [0.60, 0.62]) == "+1.00 (noise)"
    assert difference([0.70, 0.72], [0.60, 0.62]) == "+10.00"
    assert difference([0.50, 0.52], [0.60, 0.62]) == "-10.00"
    assert difference([0.70], [0.60, 0.62]) == "+9.00 (spread unknown)"


def result(arm: str, seed: int, top1: float, top5: float) -> dict[str, Any]:
    return {"arm": arm, "seed": seed, "epochs": 3, "seconds": 90, "splits": {"val": {"top1": top1, "top5": top5}}}


def test_the_table_has_the_papers_numbers_beside() -> None:
    results = [
        result("plain", 0, 0.50, 0.8),
        result("mixed", 0, 0.70, 0.9),
        result("plain", 1, 0.52, 0.8),
        result("mixed", 1, 0.71, 0.9),
        {"arm": "mixed", "seed": 2, "failed": "out of memory"},
        result("single", 0, 0.51, 0.8),
    ]
    paper = {"mixed": {"val": {"top1": 68.73}}, "lost": {"test": {"top1": 1.0}}}
    lines = accuracy_table(results, ["plain", "mixed", "single", "lost"], "val", paper).splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "val seeds top-1 paper top-5 paper top-1 − plain",
        "plain 2 51.00 ± 1.41 – 80.00 ± 0.00 – –",
        "mixed 2 70.50 ± 0.71 68.73 90.00 ± 0.00 – +19.50",
        "single 1 51.00 ± – – 80.00 ± – – +0.00 (spread unknown)",
        "lost 0 – – – – –",
    ]
    empty = accuracy_table([], ["plain"], "val", paper).splitlines()
    assert " ".join(empty[1].split()) == "plain 0 – – – – –"


def test_lines_about_runs_and_epochs() -> None:
    assert run_line(result("mixed", 1, 0.5, 1.0)) == (
        "mixed, seed 1: val top-1 50.00 %, top-5 100.00 % after 3 epochs in 2 min"
    )
    assert run_line({"arm": "a", "seed": 2, "failed": "out of memory"}) == "a, seed 2: failed: out of memory"
    epoch = Epoch(3, 300, 1.25, 0.001, 2.0, 100, {"val": {"top1": 0.125, "top5": 0.5}})
    assert epoch_line("[1 of 2] a, seed 2", epoch, 7300) == (
        "[1 of 2] a, seed 2: epoch 3/300 · loss 1.2500 · lr 0.001 · val 12.50 % · 50.0 images/s · 2 h 02 min left"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (3570, "1 h 00 min"), (3569, "59 min"), (86399, "1 d 00 h"),
     (86400 * 3 + 3600 * 4, "3 d 04 h")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
