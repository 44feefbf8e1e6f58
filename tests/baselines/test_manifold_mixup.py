"""Manifold Mixup: hidden states of one layer are mixed in one forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffcore_gpu.baselines import Batch
from diffcore_gpu.baselines.manifold_mixup import ManifoldMixup
from tests.baselines.small_models import CLASSES, MEAN, STD, normalized_batch, small_model


def manifold(**settings: object) -> ManifoldMixup:
    return ManifoldMixup(CLASSES, mean=MEAN, std=STD, **settings)  # type: ignore[arg-type]


def distinct(size: int) -> Batch:
    batch = normalized_batch(size, 16, 16)
    return Batch(batch.images, torch.arange(size), batch.index)


def partners_and_lam(targets: Tensor) -> tuple[list[int], float]:
    """From the targets of a batch whose labels are 0, 1, …"""
    own = targets.diagonal()
    partners = [
        int((row - torch.eye(len(row))[i] * row).argmax()) if own[i] < 1 else i for i, row in enumerate(targets)
    ]
    return partners, float(own.min())


@pytest.mark.parametrize("layer", ["stem", "body", "input"])
def test_the_layers_output_is_mixed_and_no_other(layer: str) -> None:
    model = small_model().eval()
    batch = distinct(CLASSES)
    mixed = manifold(layers=[layer], seed=4)(batch, model)
    partners, lam = partners_and_lam(mixed.targets)
    torch.testing.assert_close(mixed.targets.sum(1), torch.ones(CLASSES))
    assert 0 < lam < 1
    stem = model.stem if layer != "input" else nn.Identity()
    hidden = nn.Sequential(stem, model.body) if layer == "body" else stem
    rest = {"stem": model.body, "body": nn.Identity(), "input": nn.Sequential(model.stem, model.body)}[layer]
    with torch.no_grad():
        states = hidden(batch.images)
        expected = model.fc(rest(lam * states + (1 - lam) * states[partners]).mean((2, 3)))
        with mixed.during_forward:
            found = model(mixed.images)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        plain = model(batch.images)  # the hook is gone
    torch.testing.assert_close(plain, model.fc(nn.Sequential(model.stem, model.body)(batch.images).mean((2, 3))))
    assert not any(module._forward_hooks for module in model.modules())


def test_gradients_flow_to_both_partners() -> None:
    model, batch = small_model().eval(), distinct(3)
    mixed = manifold(layers=["stem"], seed=1)(batch, model)
    partners, _ = partners_and_lam(mixed.targets)
    images = mixed.images.clone().requires_grad_()
    with mixed.during_forward:
        logits = model(images)
    (gradient,) = torch.autograd.grad(logits[0].sum(), images)
    touched = {i for i in range(3) if gradient[i].abs().sum() > 0}
    assert touched == {0, partners[0]}


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet18", ("layer1", "layer2")),
        ("densenet121", ("features.denseblock1", "features.denseblock2")),
        ("convnext_tiny", ("features.1", "features.2")),
    ],
)
def test_the_stages_of_known_models_are_found(name: str, stages: tuple[str, ...]) -> None:
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    with torch.device("meta"):
        model = models.get_model(name)
    assert tuple(manifold()._modules(model)) == ("input", *stages)


def test_every_layer_is_drawn_and_seeds_repeat() -> None:
    model, batch = small_model(), distinct(4)
    for _ in range(2):
        methods = [manifold(layers=["input", "stem", "body"], seed=seed) for seed in (1, 1, 2)]
        runs = [[method(batch, model) for _ in range(20)] for method in methods]
        at_input = [not torch.equal(mixed.images, batch.images) for mixed in runs[0]]
        assert 0 < sum(at_input) < 20
        assert all(torch.equal(a.targets, b.targets) for a, b in zip(runs[0], runs[1], strict=True))
        assert any(not torch.equal(a.targets, b.targets) for a, b in zip(runs[0], runs[2], strict=True))


def test_autocast_and_channels_last() -> None:
    model, batch = small_model().to(memory_format=torch.channels_last), distinct(4)
    last = Batch(batch.images.to(memory_format=torch.channels_last), batch.labels, batch.index)
    seen: list[Tensor] = []
    model.body.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    mixed = manifold(layers=["stem"])(last, model)
    with torch.autocast("cpu", dtype=torch.bfloat16), mixed.during_forward:
        model(mixed.images).float().sum().backward()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert manifold(layers=["input"])(last, model).images.is_contiguous(memory_format=torch.channels_last)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.again(self.again(x)).mean((2, 3))
        return result


def test_misuse_is_named() -> None:
    batch = distinct(3)
    with pytest.raises(ValueError, match=r"does not know the stages of SmallConvNet; .*layers="):
        manifold()(batch, small_model())
    with pytest.raises(ValueError, match="has no module 'stage9'; its outermost modules are stem, body"):
        manifold(layers=["stage9"])(batch, small_model())
    with pytest.raises(ValueError, match="too small"):
        manifold(layers=["stem"])(normalized_batch(1), small_model())
    with pytest.raises(ValueError, match="layers must be a list"):
        manifold(layers="stem")
    with pytest.raises(ValueError, match="alpha"):
        manifold(alpha=0.0)
    mixed = manifold(layers=["again"])(batch, Twice())
    with pytest.raises(RuntimeError, match="it ran 0 times"), mixed.during_forward:
        pass
    model = Twice()
    mixed = manifold(layers=["again"])(batch, model)
    with pytest.raises(RuntimeError, match="it ran 2 times"), mixed.during_forward:
        model(batch.images)
    model = small_model()
    mixed = manifold(layers=["stem"])(batch, model)
    with pytest.raises(ValueError, match="3 hidden states from 'stem'"), mixed.during_forward:
        model(batch.images[:2])
    assert not model.stem._forward_hooks
