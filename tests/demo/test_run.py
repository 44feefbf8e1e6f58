"""The demo, with one seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffcore_gpu.demo import digits, training
from diffcore_gpu.demo import run as demo
from diffcore_gpu.demo.run import run
from diffcore_gpu.errors import DiffcoreError
from diffcore_gpu.store import CounterpartStore

for package in ("sklearn", "diffusers", "transformers", "open_clip"):
    pytest.importorskip(package, reason=f"the demo needs {package}")


def test_the_whole_demo_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_EPOCHS", 4)
    monkeypatch.setattr(demo, "_PER_SAMPLE", 1)
    out, said, ticks = tmp_path / "demo", [], []
    outcome = run(out, 1, said.append, lambda done, total: ticks.append((done, total)))
    assert [arm.name for arm in outcome.arms] == ["without", "DiffCoRe-Mix-50", "DiffCoRe-Mix-100"]
    assert [arm.coverage for arm in outcome.arms] == [0.0, pytest.approx(0.5, abs=0.05), pytest.approx(1.0, abs=0.05)]
    assert all(0 <= accuracy <= 1 for arm in outcome.arms for accuracy in arm.accuracies)
    assert ticks == [(1, 3), (2, 3), (3, 3)]
    assert len(said) == 3
    assert outcome.num_fitted + outcome.num_training + outcome.num_held_out == len(digits.load_digits()[1])
    assert f"fitted on {outcome.num_fitted} other real ones, which the arm without never sees" in outcome.caveat
    assert outcome.report.total.discarded > 0
    assert outcome.report.total.generated == outcome.report.total.accepted + outcome.report.total.discarded
    assert "handwritten digit" in outcome.page.read_text()
    with Image.open(outcome.sheet) as sheet:
        assert sheet.width > 4 * digits.SIZE
    store = CounterpartStore.open(out / "store-100")
    assert (store.num_samples, store.num_rows) == (outcome.num_training, outcome.report.total.accepted)
    assert bool((store.pair_similarity > 0).all())

    again = run(out, 1, said.append)  # replaces what it left
    assert again.arms == outcome.arms


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(DiffcoreError, match="is not a folder of this demo"):
        run(tmp_path, 1, lambda line: None)
    assert (tmp_path / "precious").read_text() == "data"


def test_the_three_parts_of_the_digits_are_disjoint() -> None:
    _, labels = digits.load_digits()
    fitting, train, held_out = digits.split(labels, 5, seed=0)
    assert (
        len(np.unique(np.concatenate([fitting, train, held_out])))
        == len(labels)
        == len(fitting) + len(train) + len(held_out)
    )
    assert np.bincount(labels[train]).tolist() == [5] * 10
