"""Every method by its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffcore_gpu.baselines import BASELINES, cross_entropy, make_baseline
from tests.baselines.small_models import normalized_batch
from tests.stores import write_store

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PACKAGES = {"saliencymix": "cv2", "puzzlemix": "gco", "comixup": "gco"}


@pytest.mark.parametrize("name", BASELINES)
def test_each_is_made_by_its_name_and_trains(name: str, tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models", reason="the methods need torchvision")
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name], reason=f"{name} needs {PACKAGES[name]}")
    store = write_store(tmp_path / "store", shape=(3, 96, 96))
    classes = len(store.class_names)
    torch.manual_seed(0)
    model = models.resnet18(num_classes=classes)
    method = make_baseline(name, classes, mean=MEAN, std=STD, seed=3, store=store)
    assert method.name == name
    batch = normalized_batch(6, 96, 96)
    mixed = method(replace(batch, labels=batch.labels % classes), model)
    with mixed.during_forward:
        loss = cross_entropy(model(mixed.images), mixed.targets)
    loss.backward()
    assert torch.isfinite(loss)
    assert mixed.targets.shape == (len(mixed.images), classes)


def test_the_nearest_names_are_offered() -> None:
    with pytest.raises(ValueError, match="no method 'puzlemix'; did you mean puzzlemix"):
        make_baseline("puzlemix", 3, mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="no method 'qqq'; known are mixup, cutmix"):
        make_baseline("qqq", 3, mean=MEAN, std=STD)


def test_counterparts_are_asked_for() -> None:
    pytest.importorskip("torchvision", reason="the methods need torchvision")
    with pytest.raises(ValueError, match="diffusemix mixes with generated counterparts; give it a store"):
        make_baseline("diffusemix", 3, mean=MEAN, std=STD)
