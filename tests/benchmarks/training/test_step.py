"""Training steps: that they train, and what of them is timed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffcore_gpu import CounterpartStore, DiffCoreMix
from diffcore_gpu.baselines import Batch
from diffcore_gpu.benchmarks.harness.random_data import random_store_for
from diffcore_gpu.benchmarks.training.models import make_model
from diffcore_gpu.benchmarks.training.step import Trainer, make_mix, mix_of
from tests.benchmarks.harness.batches import OneBatch

CPU = torch.device("cpu")
BATCH = Batch(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3]), torch.arange(4))


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("name", ["vanilla", "diffcore-mix", "mixup", "manifold-mixup"])
def test_steps_train(name: str, amp: bool, small_store: CounterpartStore) -> None:
    pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = make_model("resnet18", 200)
    mix = mix_of(DiffCoreMix(small_store)) if name == "diffcore-mix" else make_mix(name, 200, small_store)
    before = [part.detach().clone() for part in model.parameters()]
    row = Trainer(model, CPU, amp=amp).row(OneBatch(BATCH), mix, 3)
    assert not any(torch.equal(part, old) for part, old in zip(model.parameters(), before, strict=True))
    assert all(torch.isfinite(part).all() for part in model.parameters())
    assert 0 < row.mix < row.mix + row.train <= row.step


def test_a_random_store_for_a_dataset_has_a_row_of_its_class_for_each_sample(tmp_path: Path) -> None:
    labels = [2, 0, 2, 2, 1, 0] * 200
    store = random_store_for(tmp_path / "store", 8, labels, 4)
    assert store.coverage == 1
    assert store.num_rows <= 512
    assert torch.equal(store.labels, torch.tensor(labels))
    of_row = store.row_label()
    assert all(of_row[store.rows(sample)].tolist() == [label] for sample, label in enumerate(labels))
    store.verify()
