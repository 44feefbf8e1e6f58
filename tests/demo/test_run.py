"""The demo, with one seed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffcore_gpu.demo import digits, training
from diffcore_gpu.demo.run import run
from diffcore_gpu.errors import DiffcoreError
from diffcore_gpu.store import CounterpartStore

pytest.importorskip("sklearn", reason="the demo needs scikit-learn")


def test_the_whole_demo_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_EPOCHS", 4)
    out, said, ticks = tmp_path / "demo", [], []
    outcome = run(out, 1, said.append, lambda done, total: ticks.append((done, total)))
    assert [arm.name for arm in outcome.arms] == ["without", "DiffCoRe-Mix-50", "DiffCoRe-Mix-100"]
    assert [arm.coverage for arm in outcome.arms] == [0.0, 0.5, 1.0]
    assert all(0 <= accuracy <= 1 for arm in outcome.arms for accuracy in arm.accuracies)
    assert ticks == [(1, 3), (2, 3), (3, 3)]
    assert len(said) == 3
    with Image.open(outcome.sheet) as sheet:
        assert sheet.width > 4 * digits.SIZE
    store = CounterpartStore.open(out / "store-100")
    assert (store.num_samples, store.num_rows) == (outcome.num_training, 4 * outcome.num_training)

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


def test_generated_digits_resemble_their_class_and_depend_on_the_seed_alone() -> None:
    images, labels = digits.load_digits()
    generator = digits.DigitGenerator(images, labels)
    assert np.array_equal(generator.draw(3, seed=5), generator.draw(3, seed=5))
    assert not np.array_equal(generator.draw(3, seed=5), generator.draw(3, seed=6))
    means = np.stack([np.mean([digits.enlarge(i) for i in images[labels == label]], axis=0) for label in range(10)])
    nearest = [
        int(np.linalg.norm(means - generator.draw(label, seed), axis=(1, 2)).argmin())
        for label in range(10)
        for seed in range(20)
    ]
    assert np.mean(np.array(nearest) == np.repeat(np.arange(10), 20)) > 0.8
