"""The contact sheet shows the right images in the right places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffcore_gpu import CounterpartStore, CounterpartWriter
from diffcore_gpu.contact_sheet import choose_samples, contact_sheet


def make_store(
    path: Path, labels: list[int], covered: list[int], side: int = 160, channels: int = 3
) -> CounterpartStore:
    """Blue counterparts (or bright, with one channel), one for each of the covered samples."""
    image = np.zeros((channels, side, side), np.uint8)
    image[-1] = 255
    names = [f"class {label}" for label in range(max(labels) + 1)]
    with CounterpartWriter(
        path, num_samples=len(labels), image_shape=image.shape, class_names=names, labels=labels
    ) as writer:
        for sample in covered:
            row = writer.add_row(image, label=labels[sample], seed=0, attempt=0)
            writer.add_pair(sample, row, similarity=0.8)
    return CounterpartStore.open(path)


def red(store: CounterpartStore) -> torch.Tensor:
    image = torch.zeros(store.image_shape, dtype=torch.uint8)
    image[0] = 255
    return image


def test_columns_hold_what_they_say(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", [0, 1], [0, 1])
    sheet = contact_sheet(store, [0, 1], lambda sample: red(store), seed=3, lam=0.25, box_area=0.3)
    pixels = np.asarray(sheet)
    reds = (pixels == (255, 0, 0)).all(-1)
    blues = (pixels == (0, 0, 255)).all(-1)
    mixed = (pixels == (64, 0, 191)).all(-1)
    area = 160 * 160
    assert mixed.sum() == 2 * area
    # The real and the counterpart column, and a patch of the one on the other in the fourth.
    assert reds.sum() + blues.sum() == 2 * 3 * area
    columns = np.flatnonzero(mixed.any(0))
    assert reds[:, : columns[0] - 180].sum() == 2 * area
    assert blues[:, columns[0] - 175 : columns[0]].sum() == 2 * area
    fourth = slice(columns[-1] + 1, None)
    assert 0 < reds[:, fourth].sum() < 2 * area
    assert 0 < blues[:, fourth].sum() < 2 * area


def test_same_seed_same_sheet(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", [0], [0])
    sheets = [contact_sheet(store, [0], lambda sample: red(store), seed=seed) for seed in (1, 1, 2)]
    assert sheets[0].tobytes() == sheets[1].tobytes()
    assert sheets[0].tobytes() != sheets[2].tobytes()


@pytest.mark.parametrize(("side", "channels"), [(8, 3), (32, 1), (500, 3)])
def test_any_size(tmp_path: Path, side: int, channels: int) -> None:
    store = make_store(tmp_path / "s", [0], [0], side, channels)
    sheet = contact_sheet(store, [0], lambda sample: red(store))
    assert sheet.mode == "RGB"
    assert 600 <= sheet.width <= 1100
    assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 2


@pytest.mark.parametrize("name", ["日本語", "a" * 300, "Tête-à-tête", "\x1b[31m"])
def test_any_class_name(tmp_path: Path, name: str) -> None:
    image = np.zeros((3, 32, 32), np.uint8)
    with CounterpartWriter(
        tmp_path / "s", num_samples=1, image_shape=(3, 32, 32), class_names=[name], labels=[0]
    ) as writer:
        writer.add_pair(0, writer.add_row(image, label=0, seed=0, attempt=0))
    store = CounterpartStore.open(tmp_path / "s")
    sheet = contact_sheet(store, [0], lambda sample: red(store), title=name)
    assert (np.asarray(sheet)[:90] != 255).any()


def test_refuses(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", [0, 0], [0])
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet(store, [], lambda sample: red(store))
    with pytest.raises(ValueError, match="sample 1 has no counterpart"):
        contact_sheet(store, [0, 1], lambda sample: red(store))
    with pytest.raises(ValueError, match="expected real images"):
        contact_sheet(store, [0], lambda sample: torch.zeros(3, 4, 4, dtype=torch.uint8))


def test_samples_are_spread_over_classes(tmp_path: Path) -> None:
    labels = [0] * 30 + [1] * 3 + [2] * 3 + [3]
    store = make_store(tmp_path / "s", labels, list(range(36)), side=8)
    chosen = choose_samples(store, 6)
    assert [labels[sample] for sample in chosen] == [0, 0, 1, 1, 2, 2]
    assert len(set(chosen)) == 6
    assert choose_samples(store, 6) == chosen
    assert choose_samples(store, 6, seed=1) != chosen
    assert [labels[sample] for sample in choose_samples(store, 2)] in ([0, 1], [0, 2], [1, 2])
    assert len(choose_samples(store, 100)) == 36


def test_sheet_is_a_picture_that_can_be_saved(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", [0], [0])
    contact_sheet(store, [0], lambda sample: red(store)).save(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size[0] > 4 * 160
