"""PreAct-ResNets: their parameters counted by hand, the identity path, and shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diffcore_gpu.benchmarks.training.models import PREACT_RESNETS, PreActBlock, PreActResNet


def parameters_by_hand(depths: list[int], classes: int) -> int:
    """Sums of the layers' weights, written out from the paper's description."""
    total = 3 * 64 * 3 * 3  # the first convolution
    width = 64
    for stage, depth in enumerate(depths):
        for block in range(depth):
            outputs = 64 * 2**stage
            total += 2 * width + 2 * outputs  # scale and shift of both normalizations
            total += 9 * width * outputs + 9 * outputs * outputs  # both convolutions
            total += width * outputs if block == 0 and stage > 0 else 0  # the shortcut that changes the width
            width = outputs
    return total + 2 * 512 + 512 * classes + classes


@pytest.mark.parametrize(
    ("name", "depths", "millions"), [("preact_resnet18", [2, 2, 2, 2], 11.17), ("preact_resnet34", [3, 4, 6, 3], 21.28)]
)
def test_the_number_of_parameters(name: str, depths: list[int], millions: float) -> None:
    model = PREACT_RESNETS[name](10)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == parameters_by_hand(depths, 10)
    assert round(count / 1e6, 2) == millions


@pytest.mark.parametrize("size", [32, 64, 224])
@pytest.mark.parametrize("stem", ["small", "large"])
def test_shapes(stem: str, size: int) -> None:
    with torch.device("meta"):
        model = PREACT_RESNETS["preact_resnet18"](7, stem=stem)
        images = torch.zeros(2, 3, size, size)
        side = size if stem == "small" else size // 4
        x = model.stem(images)
        assert x.shape == (2, 64, side, side)
        for stage, width in ((model.layer1, 64), (model.layer2, 128), (model.layer3, 256), (model.layer4, 512)):
            x = stage(x)
            assert x.shape == (2, width, side, side)
            side = -(-side // 2)
        assert model(images).shape == (2, 7)


def test_nothing_but_additions_lies_on_the_path_between_blocks() -> None:
    torch.manual_seed(0)
    model = PREACT_RESNETS["preact_resnet18"](10).eval()
    for module in model.modules():
        if isinstance(module, PreActBlock):
            nn.init.zeros_(module.conv2.weight)  # F = 0
    images = torch.randn(2, 3, 32, 32)
    stem = model.stem(images)
    assert torch.equal(model.layer1(stem), stem)  # the sign of every value is kept: no ReLU on the path
    assert bool((stem < 0).any())
    second = model.layer2[0](stem)
    assert torch.equal(model.layer2(stem), second)


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (4, 8, 2), (4, 4, 2), (4, 8, 1)])
def test_a_block_is_its_equation(inputs: int, outputs: int, stride: int) -> None:
    torch.manual_seed(0)
    block = PreActBlock(inputs, outputs, stride).double().train()
    x = torch.randn(3, inputs, 6, 6, dtype=torch.float64)

    def normalized(values: torch.Tensor) -> torch.Tensor:  # as batch normalization begins: scale 1, shift 0
        mean, variance = values.mean((0, 2, 3), keepdim=True), values.var((0, 2, 3), correction=0, keepdim=True)
        return ((values - mean) / (variance + 1e-5).sqrt()).clamp(min=0)

    before = normalized(x)
    inner = nn.functional.conv2d(before, block.conv1.weight, stride=stride, padding=1)
    inside = nn.functional.conv2d(normalized(inner), block.conv2.weight, padding=1)
    shortcut = x
    if stride != 1 or inputs != outputs:
        assert isinstance(block.shortcut, nn.Conv2d)
        shortcut = nn.functional.conv2d(before, block.shortcut.weight, stride=stride)
    torch.testing.assert_close(block(x), shortcut + inside)


def test_an_unknown_stem_is_refused() -> None:
    with pytest.raises(ValueError, match=r"""^stem must be "small" or "large", not 'tiny'\.$"""):
        PreActResNet(3, (1, 1, 1, 1), stem="tiny")  # type: ignore[arg-type]
