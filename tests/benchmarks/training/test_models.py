"""Models by name: those of three libraries, their classifying layer, and what is said where a model cannot be had."""

from __future__ import annotations

from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import nn

from diffcore_gpu.benchmarks.training.models import PreActResNet, make_model, paper_sgd
from diffcore_gpu.errors import BenchmarkError

timm = pytest.importorskip("timm", reason="models need timm")
torchvision = pytest.importorskip("torchvision", reason="models need torchvision")


def test_models_of_three_libraries() -> None:
    with torch.device("meta"):
        preact = make_model("preact_resnet34", 5, stem="large")
        of_torchvision = make_model("densenet121", 5)
        of_timm = make_model("efficientvit_m5", 5, drop_rate=0.1)
    assert isinstance(preact, PreActResNet)
    assert type(of_torchvision).__module__.startswith("torchvision.")
    assert type(of_timm).__module__.startswith("timm.")
    for model in (preact, of_torchvision, of_timm):
        assert model.training
        assert model(torch.zeros(2, 3, 64, 64, device="meta")).shape == (2, 5)


def test_an_unknown_model_is_refused_with_the_nearest() -> None:
    with pytest.raises(BenchmarkError) as error:
        make_model("preact_resnet19", 3)
    assert str(error.value).startswith("there is no model 'preact_resnet19'; did you mean preact_resnet1")
    with pytest.raises(BenchmarkError, match=r"'zzzzzz'; see those of torchvision and timm, and preact_resnet18, "):
        make_model("zzzzzz", 3)
    with pytest.raises(BenchmarkError, match=r"^preact_resnet18 has no pretrained weights; use a model of torchvision"):
        make_model("preact_resnet18", 3, pretrained=True)


FAMILIES = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "maxvit_t", "mnasnet0_5", "mobilenet_v3_small"),
    *("resnet18", "shufflenet_v2_x0_5", "swin_t", "vgg11", "vit_b_16", "wide_resnet101_2"),
)


@pytest.mark.parametrize("name", FAMILIES)
def test_only_the_classifying_layer_of_a_pretrained_model_is_new(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        original = torchvision.models.get_model(name)
    weights = original.state_dict()
    taken: list[str] = []

    def downloaded(enum: Any, *_: object, **__: object) -> dict[str, torch.Tensor]:
        taken.append(enum.url)
        return weights

    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", downloaded)
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda module, state, **_: taken.append(sorted(state)))
    with torch.device("meta"):
        model = make_model(name, 7, pretrained=True)
    assert len(taken) == 2
    assert taken[1] == sorted(weights)
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    differing = {key for key, value in weights.items() if shapes[key] != value.shape}
    assert {shapes[key][0] for key in differing} == {7}  # the classifier's weight and, where it has one, bias
    assert 1 <= len(differing) <= 2
    assert len({key.rpartition(".")[0] for key in differing}) == 1
    assert shapes.keys() == weights.keys()
    size = 224 if name in ("vit_b_16", "maxvit_t") else 64
    assert model.eval()(torch.zeros(2, 3, size, size, device="meta")).shape == (2, 7)


def test_weights_that_are_loaded_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    weights = {key: value.clone() for key, value in torchvision.models.resnet18().state_dict().items()}
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", lambda *_, **__: weights)
    model = make_model("resnet18", 4, pretrained=True)
    found = model.state_dict()
    same = [key for key in weights if found[key].shape == weights[key].shape]
    assert len(same) == len(weights) - 2
    assert all(torch.equal(found[key], weights[key]) for key in same)
    assert model.training


@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("hash\nmismatch"), OSError()])
def test_weights_that_cannot_be_had_are_said_plainly(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", fails)
    monkeypatch.setattr(timm, "create_model", fails)
    for name in ("resnet18", "mobilevit_s"):
        with pytest.raises(BenchmarkError) as found:
            make_model(name, 3, pretrained=True)
        message = str(found.value)
        assert message.startswith(f"the pretrained weights of {name} cannot be had: ")
        assert "\n" not in message
        assert len(message.partition("had: ")[2]) > 3


def test_a_model_that_has_no_linear_layer_cannot_be_fine_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torchvision.models.squeezenet1_1().state_dict()
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", lambda *_, **__: weights)
    with pytest.raises(BenchmarkError, match=r"^squeezenet1_1 has no linear layer to classify with"):
        make_model("squeezenet1_1", 3, pretrained=True)


def test_the_papers_optimizer() -> None:
    optimizer = paper_sgd(nn.Linear(2, 2))
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.01, 0.9, 5e-4)
