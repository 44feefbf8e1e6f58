"""Memory of outputs on the CPU: never shared while in use, kept when freed, and bounded."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcore_gpu.ops.runtime import output_cpu
from diffcore_gpu.ops.runtime.output_cpu import empty_output_like, empty_output_of

LARGE = (16, 3, 128, 128)


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(output_cpu, "_KEPT_FROM", 1 << 20)  # so that tests need little memory
    output_cpu._free.clear()
    yield
    output_cpu._free.clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [LARGE, (0, 3, 8, 8), (2, 3, 5, 7)])
def test_like_the_images(shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    images = torch.zeros(shape, dtype=dtype).to(memory_format=memory_format)
    out = empty_output_like(images)
    assert (out.shape, out.dtype, out.stride()) == (images.shape, images.dtype, images.stride())
    assert out.is_contiguous(memory_format=memory_format)
    assert torch.equal(out.fill_(1), torch.ones_like(images))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [LARGE, (70, 1, 128, 128), (0, 3, 8, 8), (2, 3, 5, 7)])
def test_of_a_shape(shape: tuple[int, int, int, int], dtype: torch.dtype, channels_last: bool) -> None:
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    expected = torch.empty(shape, dtype=dtype, memory_format=memory_format)
    out = empty_output_of(shape, dtype, channels_last)
    assert (out.shape, out.dtype, out.stride()) == (expected.shape, expected.dtype, expected.stride())
    place = out.data_ptr()
    assert torch.equal(out.fill_(1), torch.ones_like(expected))
    del out
    if expected.nbytes >= 1 << 20:
        assert empty_output_of(shape, dtype, channels_last).data_ptr() == place


def test_freed_memory_is_used_again() -> None:
    images = torch.zeros(LARGE)
    out = empty_output_like(images)
    place = out.data_ptr()
    del out
    for batch, again in ((16, True), (10, True), (6, False)):  # six images would use less than half of it
        out = empty_output_like(images[:batch])
        assert (out.data_ptr() == place) == again
        del out


@pytest.mark.parametrize("holder", ["view", "numpy", "graph", "storage"])
def test_memory_in_use_is_left_alone(holder: str) -> None:
    images = torch.zeros(LARGE)
    out = empty_output_like(images).fill_(3)
    held: object
    if holder == "view":
        held = out[2:, 1]
    elif holder == "numpy":
        held = out.numpy()
    elif holder == "storage":
        held = out.untyped_storage()
    else:
        weight = torch.ones(1, requires_grad=True)
        held = (weight * out).sum()
    place = out.data_ptr()
    del out
    gc.collect()
    other = empty_output_like(images).fill_(4)
    assert other.data_ptr() != place
    if holder == "graph":
        held.backward()
        assert weight.grad.item() == 3 * images.numel()
    del held, other
    gc.collect()
    assert place in [block.data_ptr() for block in output_cpu._free]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=25))
@settings(max_examples=50)
def test_outputs_never_overlap_and_little_is_kept(steps: list[tuple[bool, int]]) -> None:
    images = torch.zeros(9, 3, 300, 300)
    held: list[torch.Tensor] = []
    for number, (free, batch) in enumerate(steps):
        if free and held:
            held.pop(0)
        held.append(empty_output_like(images[:batch]).fill_(number))
        for out in held:
            assert bool((out == out.flatten()[0]).all())
        assert len({out.flatten()[0].item() for out in held}) == len(held)
    del held
    assert len(output_cpu._free) <= 2


def test_kept_in_inference_mode_and_used_outside() -> None:
    images = torch.zeros(LARGE)
    with torch.inference_mode():
        place = empty_output_like(images).fill_(1).data_ptr()
    out = empty_output_like(images)
    assert out.data_ptr() == place
    assert not out.fill_(2).is_inference()


def test_threads_get_memory_of_their_own() -> None:
    images = torch.zeros(LARGE)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(40):
            out = empty_output_like(images).fill_(number)
            if not bool((out == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_outputs_can_go_to_other_processes() -> None:
    """As a data loader's workers send them: the memory moves to a shared file."""
    out = empty_output_like(torch.zeros(LARGE)).fill_(5)
    out.share_memory_()
    assert out.is_shared()
    assert bool((out == 5).all())
