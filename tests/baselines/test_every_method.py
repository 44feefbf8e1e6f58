"""What every comparison method that mixes images of a batch with each other keeps, whatever it does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from diffcore_gpu.baselines import Baseline, Batch, Need, cross_entropy
from diffcore_gpu.baselines.attentive_cutmix import AttentiveCutMix
from diffcore_gpu.baselines.cutmix import CutMix
from diffcore_gpu.baselines.guided_mixup import GuidedAP, GuidedSR
from diffcore_gpu.baselines.mixup import Mixup
from diffcore_gpu.baselines.resizemix import ResizeMix
from diffcore_gpu.baselines.saliencymix import SaliencyMix
from diffcore_gpu.baselines.smoothmix import SmoothMix
from diffcore_gpu.baselines.snapmix import SnapMix
from tests.baselines.small_models import CLASSES, MEAN, STD, normalized_batch, small_model

MAKERS: dict[str, tuple[Callable[..., Baseline], dict[str, Any]]] = {
    "mixup": (Mixup, {}),
    "cutmix": (CutMix, {}),
    "resizemix": (ResizeMix, {}),
    "smoothmix": (SmoothMix, {}),
    "saliencymix": (SaliencyMix, {}),
    "saliencymix as published": (SaliencyMix, {"saliency_of": "normalized"}),
    "snapmix": (SnapMix, {}),
    "snapmix per image": (SnapMix, {"per_image": True}),
    "guided-sr-random": (GuidedSR, {"pairing": "random"}),
    "guided-sr-greedy": (GuidedSR, {"pairing": "greedy"}),
    "guided-ap-random": (GuidedAP, {"pairing": "random"}),
    "guided-ap-greedy": (GuidedAP, {"pairing": "greedy"}),
    "attentive-cutmix": (AttentiveCutMix, {}),
}
CONVEX = sorted(set(MAKERS) - {"snapmix", "snapmix per image"})


def make(name: str, **settings: Any) -> Baseline:
    maker, own = MAKERS[name]
    return maker(CLASSES, mean=MEAN, std=STD, **(own | settings))


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_mean_and_std_may_be_lists_or_tensors(name: str) -> None:
    maker, own = MAKERS[name]
    batch = normalized_batch()
    expected = make(name)(batch, small_model())
    for given in (list, torch.tensor):
        mixed = maker(CLASSES, mean=given(MEAN), std=given(STD), **own)(batch, small_model())
        torch.testing.assert_close(mixed.images, expected.images)
        torch.testing.assert_close(mixed.targets, expected.targets)


@pytest.mark.parametrize("name", sorted(MAKERS))
@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("channels_last", [False, True])
def test_shape_and_memory_format_are_kept_and_the_batch_is_not_changed(
    name: str, size: int, channels_last: bool
) -> None:
    batch, model = normalized_batch(size), small_model()
    if channels_last:
        batch = replace(batch, images=batch.images.contiguous(memory_format=torch.channels_last))
    before = copy.deepcopy(batch)
    mixed = make(name)(batch, model)
    assert mixed.images.shape == batch.images.shape
    assert mixed.images.dtype == batch.images.dtype
    assert mixed.images.stride() == batch.images.stride()
    assert not mixed.images.requires_grad
    assert mixed.targets.shape == (size, CLASSES)
    assert mixed.targets.dtype == torch.float32
    assert bool((mixed.targets >= 0).all())
    assert not mixed.targets.requires_grad
    assert mixed.images.data_ptr() != batch.images.data_ptr()
    assert torch.equal(batch.images, before.images)
    assert torch.equal(batch.labels, before.labels)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_memory_format_does_not_change_the_result(name: str) -> None:
    batch = normalized_batch()
    other = replace(batch, images=batch.images.contiguous(memory_format=torch.channels_last))
    ours, theirs = (make(name)(b, small_model().eval()) for b in (batch, other))
    torch.testing.assert_close(theirs.images, ours.images, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(theirs.targets, ours.targets, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_seed_repeats_and_the_global_generators_do_not_matter(name: str) -> None:
    model = small_model().eval()
    batches = [normalized_batch(seed=seed) for seed in range(3)]

    def run(seed: int, disturbance: int) -> list[torch.Tensor]:
        method, results = make(name, seed=seed), []
        for batch in batches:
            torch.manual_seed(disturbance)
            state = torch.get_rng_state()
            mixed = method(batch, model)
            assert torch.equal(torch.get_rng_state(), state)
            results += [mixed.images, mixed.targets]
        return results

    first, again, other = run(3, 1), run(3, 2), run(4, 1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    if not name.endswith("greedy"):  # nothing is drawn there
        assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("name", CONVEX)
def test_label_mass_is_conserved(name: str) -> None:
    method, model = make(name), small_model()
    for seed in range(5):
        targets = method(normalized_batch(7, seed=seed), model).targets
        torch.testing.assert_close(targets.sum(1), torch.ones(7))


@pytest.mark.parametrize("name", sorted(MAKERS))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_images_and_model(name: str, dtype: torch.dtype) -> None:
    batch = normalized_batch()
    half = replace(batch, images=batch.images.to(dtype))
    mixed = make(name)(half, small_model().eval().to(dtype))
    assert mixed.images.dtype == dtype
    assert mixed.targets.dtype == torch.float32
    assert bool(mixed.images.isfinite().all() and mixed.targets.isfinite().all())


@pytest.mark.parametrize("name", sorted(MAKERS))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(name: str, dtype: torch.dtype) -> None:
    with torch.autocast("cpu", dtype=dtype):
        mixed = make(name)(normalized_batch(), small_model())
    assert mixed.images.dtype == torch.float32
    assert mixed.targets.dtype == torch.float32
    assert bool(mixed.images.isfinite().all() and mixed.targets.isfinite().all())


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_the_model_is_left_as_it_was(name: str) -> None:
    method, model = make(name), small_model()
    model.stem.eval()
    modes = [module.training for module in model.modules()]
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    parameters = copy.deepcopy(list(model.parameters()))
    buffers = copy.deepcopy(dict(model.named_buffers()))
    for seed in range(2):
        method(normalized_batch(seed=seed), model)
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())
    for parameter, before in zip(model.parameters(), parameters, strict=True):
        assert torch.equal(parameter, before)
        assert parameter.requires_grad
        assert parameter.grad is not None
        assert bool((parameter.grad == 3.0).all())
    # As in the authors' code, the extra pass of SnapMix and Guided-AP counts in training mode, and no other does.
    counted = {"snapmix": 2, "snapmix per image": 2, "guided-ap-random": 2, "guided-ap-greedy": 2}.get(name, 0)
    assert int(model.body[1].num_batches_tracked) == counted
    assert torch.equal(model.stem[1].running_mean, buffers["stem.1.running_mean"])
    assert torch.equal(model.body[1].running_mean, buffers["body.1.running_mean"]) == (counted == 0)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_training_step_uses_the_result(name: str) -> None:
    method, model = make(name), small_model()
    mixed = method(normalized_batch(), model)
    with mixed.during_forward:
        loss = cross_entropy(model(mixed.images), mixed.targets)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_bad_batches_get_a_sentence(name: str) -> None:
    method, model, batch = make(name), small_model(), normalized_batch()
    assert method.name
    assert Need.PARTNERS in method.needs
    with pytest.raises(ValueError, match="batch of 1 is too small for that, so give batches of 2 or more"):
        method(Batch(batch.images[:1], batch.labels[:1], batch.index[:1]), model)
    with pytest.raises(ValueError, match="normalized images of a float dtype"):
        method(replace(batch, images=batch.images.to(torch.uint8)), model)
    with pytest.raises(ValueError, match="labels as int64"):
        method(replace(batch, labels=batch.labels[:-1]), model)
    with pytest.raises(ValueError, match="make it with num_classes=9 or more"):
        method(replace(batch, labels=batch.labels.index_fill(0, torch.tensor([1]), 8)), model)
    with pytest.raises(ValueError, match="num_classes"):
        MAKERS[name][0](0, mean=MEAN, std=STD)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_methods_without_a_need_do_not_run_the_model(name: str) -> None:
    class Refusing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError

    method = make(name)
    if method.needs & (Need.GRADIENTS | Need.ACTIVATIONS):
        with pytest.raises(AssertionError):
            method(normalized_batch(), Refusing())
    else:
        method(normalized_batch(), Refusing())


WAITING = {"saliencymix", "saliencymix as published", "guided-sr-greedy", "guided-ap-greedy"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", sorted(MAKERS))
@pytest.mark.parametrize("channels_last", [False, True])
def test_on_a_gpu_no_method_waits_that_need_not_and_the_result_is_the_cpus(
    name: str, channels_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    batch, model, ours = normalized_batch(), small_model().eval(), make(name)
    if channels_last:
        batch = replace(batch, images=batch.images.contiguous(memory_format=torch.channels_last))
    there = Batch(batch.images.cuda(), batch.labels.cuda(), batch.index.cuda())
    their_model, theirs = small_model().eval().cuda(), make(name)
    for call in range(2):
        expected = ours(batch, model)
        try:
            if call and name not in WAITING:  # the first call looks the model over
                torch.cuda.set_sync_debug_mode("error")
            mixed = theirs(there, their_model)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert mixed.images.stride() == batch.images.stride()
        torch.testing.assert_close(mixed.images.cpu(), expected.images, atol=5e-3, rtol=5e-3)
        torch.testing.assert_close(mixed.targets.cpu(), expected.targets, atol=5e-3, rtol=5e-3)
