"""Where the last features and the classifier of a model are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffcore_gpu.baselines.features import FeatureReader, eager, evaluating, logits_of
from tests.baselines.small_models import CLASSES, small_model

models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
timm = pytest.importorskip("timm", reason="timm is not installed")

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "features", "classifier"),
    [
        pytest.param("shufflenet_v2_x0_5", "conv5", "fc", marks=SLOW),
        ("squeezenet1_1", "classifier.0", "classifier.1"),
        pytest.param("resnet50", "layer4", "fc", marks=SLOW),
        pytest.param("mobilenet_v2", "features", "classifier.1", marks=SLOW),
        pytest.param("efficientnet_b0", "features", "classifier.1", marks=SLOW),
        pytest.param("densenet121", "features", "classifier", marks=SLOW),
        pytest.param("convnext_tiny", "features", "classifier.2", marks=SLOW),
        pytest.param("swin_t", "permute", "head", marks=SLOW),
    ],
)
def test_torchvision_models(name: str, features: str, classifier: str) -> None:
    model = getattr(models, name)(num_classes=CLASSES).train()
    layers = FeatureReader("SnapMix", CLASSES).layers(model, IMAGES)
    assert (layers.features, layers.classifier) == (features, classifier)
    assert FeatureReader("Attentive CutMix").layers(model, IMAGES).classifier is None


@pytest.mark.parametrize(
    "name",
    ["resnet10t", pytest.param("regnetx_002", marks=SLOW), pytest.param("efficientnet_b0", marks=SLOW)],
)
def test_logits_are_the_linear_map_of_the_pooled_features(name: str) -> None:
    model = timm.create_model(name, num_classes=CLASSES).eval()
    features, classifier = FeatureReader("SnapMix", CLASSES).read(model, IMAGES)
    assert isinstance(classifier, nn.Linear)
    with torch.no_grad():
        torch.testing.assert_close(classifier(features.mean((2, 3))), model(IMAGES), atol=1e-4, rtol=1e-4)


def test_features_before_a_functional_relu_are_those_that_are_pooled_once_rectified() -> None:
    model = models.DenseNet(4, (1, 1, 1, 1), 8, num_classes=CLASSES).eval()
    features, classifier = FeatureReader("SnapMix", CLASSES).read(model, IMAGES)
    assert isinstance(classifier, nn.Linear)
    with torch.no_grad():
        torch.testing.assert_close(classifier(features.relu().mean((2, 3))), model(IMAGES))


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 1}, "last features of shape"),
        ("swin_tiny_patch4_window7_224", {"img_size": 64, "depths": (1, 1)}, r"which are not \[B, C, h, w\]"),
        ("mobilenetv3_small_050", {}, "and a classifier of 1024"),
    ],
)
def test_models_without_such_layers_get_a_sentence(name: str, settings: dict[str, Any], reason: str) -> None:
    model = timm.create_model(name, num_classes=CLASSES, **settings)
    with pytest.raises(ValueError, match=f"SnapMix needs a model that pools .*{reason}.*use a ResNet"):
        FeatureReader("SnapMix", CLASSES).layers(model, IMAGES)
    if name != "mobilenetv3_small_050":  # whose features do for it
        with pytest.raises(ValueError, match=f"Attentive CutMix needs a model whose last layer .*{reason}"):
            FeatureReader("Attentive CutMix").layers(model, IMAGES)


def test_other_numbers_of_classes_and_small_images_get_a_sentence() -> None:
    with pytest.raises(ValueError, match="made for 6 classes, and SmallConvNet has no linear layer of so many"):
        FeatureReader("SnapMix", 6).layers(small_model(), IMAGES)
    with pytest.raises(ValueError, match="features of 256 channels for images of this size"):
        FeatureReader("SnapMix", CLASSES).layers(models.resnet18(num_classes=CLASSES), IMAGES[:, :, :32, :32])
    with pytest.raises(ValueError, match="no features with more than one position"):
        FeatureReader("SnapMix", CLASSES).layers(nn.Sequential(nn.Flatten(), nn.Linear(12288, CLASSES)), IMAGES)


def test_a_replaced_head_is_used_and_the_model_is_watched_once() -> None:
    model, reader = small_model(), FeatureReader("SnapMix", CLASSES)
    _, first = reader.read(model, IMAGES)
    assert first is model.fc
    model.fc = nn.Linear(12, CLASSES)
    calls: list[int] = []
    model.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    features, second = reader.read(model, IMAGES)
    assert second is model.fc
    assert features.shape == (2, 12, 16, 16)
    assert calls == [2]


def test_watching_changes_neither_modes_nor_statistics() -> None:
    model = small_model()
    model.body.eval()
    modes = [module.training for module in model.modules()]
    FeatureReader("SnapMix", CLASSES).layers(model, IMAGES)
    assert [module.training for module in model.modules()] == modes
    assert int(model.stem[1].num_batches_tracked) == 0
    assert not any(module._forward_hooks for module in model.modules())


def test_modes_are_put_back_after_an_error() -> None:
    model = small_model()
    model.stem.eval()
    modes = [module.training for module in model.modules()]

    def fail() -> None:
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [module.training for module in model.modules()] == modes


def test_wrappers_are_taken_off() -> None:
    model = small_model()
    assert eager(nn.DataParallel(model)) is model
    assert eager(torch.compile(model)) is model
    assert eager(model) is model


def test_logits_in_what_models_return() -> None:
    logits = torch.rand(2, 3)

    class Output:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

    assert logits_of(logits) is logits
    assert logits_of(Output(logits)) is logits
    assert logits_of((logits, None)) is logits
    with pytest.raises(ValueError, match="not dict"):
        logits_of({})
