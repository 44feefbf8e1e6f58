"""The transform on a GPU: what only a GPU can show. Kernel results are compared in `tests/kernels`, on a GPU too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import diffcore_gpu as dc
from diffcore_gpu.ops.runtime.normalization import affine_of
from tests.kernels.float32_reference import mix_in_float32
from tests.stores import NUM_SAMPLES, write_store
from tests.test_transform import DTYPES, FORMATS, MEAN, STD, batch_of
from tests.ulp import ulps_apart

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
]


def cuda_batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    images, index = batch_of(dtype=dtype)
    return images.cuda(), index.cuda()


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inplace", [False, True])
def test_gpu_and_cpu_agree(
    store: dc.CounterpartStore, dtype: torch.dtype, memory_format: torch.memory_format, inplace: bool
) -> None:
    images, index = batch_of(dtype=dtype)
    images = images.to(memory_format=memory_format)
    expected, plan = dc.DiffCoreMix(store, mean=MEAN, std=STD)(images, index, return_plan=True)
    mix = dc.DiffCoreMix(store, mean=MEAN, std=STD, inplace=inplace).cuda()
    mixed, gpu_plan = mix(images.cuda(), index.cuda(), return_plan=True)
    assert mixed.stride() == images.stride()
    if dtype in (torch.float16, torch.bfloat16):  # computed in float32 there, in float64 on the CPU
        counterparts = store.images(plan.row.clamp(min=0))
        expected = mix_in_float32(images, counterparts, plan, affine_of(MEAN, STD, images.shape[1]))
    assert ulps_apart(mixed.cpu(), expected) <= (1 if dtype == torch.float32 else 0)
    assert torch.equal(gpu_plan.row.cpu(), plan.row)
    assert torch.equal(gpu_plan.lam.cpu(), plan.lam)
    assert torch.equal(gpu_plan.box.cpu(), plan.box)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("inplace", [False, True])
def test_kept_launches_give_what_operators_give(
    store: dc.CounterpartStore, memory_format: torch.memory_format, inplace: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls of one kind, of another, and of the first again; in the memory format that the rows are laid out for."""
    images, index = cuda_batch()
    images = images.contiguous(memory_format=memory_format)
    batches = [(images, index), (images, index), (images[:5], index[:5]), (images, index), (images, index)]

    def results() -> list[Tensor]:
        mix = dc.DiffCoreMix(store, mean=MEAN, std=STD, inplace=inplace).cuda()
        mixed = [mix(batch.clone(), of_batch, labels=of_batch % 2) for batch, of_batch in batches]
        assert mix.round.item() == len(batches)
        assert mix._resident.shards[0].is_contiguous(memory_format=memory_format)
        return mixed

    kept = results()
    monkeypatch.setattr("diffcore_gpu.ops.runtime.eager.may_bypass", lambda images: False)
    for one, other in zip(kept, results(), strict=True):
        assert torch.equal(one, other)


def test_plain_torch_draws_the_same_plan_on_the_gpu(store: dc.CounterpartStore) -> None:
    index = torch.arange(NUM_SAMPLES)
    settings = {"height": 224, "width": 192, "seed": 5, "lam": dc.Beta(0.3)}
    on_cpu, on_gpu = dc.draw_plan(index, store, **settings), dc.draw_plan(index.cuda(), store, **settings)
    for name in ("row", "pixel", "lam", "box", "inside_real"):
        assert torch.equal(getattr(on_gpu, name).cpu(), getattr(on_cpu, name)), name


def test_forward_never_waits_for_the_device(store: dc.CounterpartStore) -> None:
    mix = dc.DiffCoreMix(store, mean=MEAN, std=STD).cuda()
    images, index = cuda_batch()
    mix(images, index)  # compiles the kernel
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        mixed = [mix(images, index, labels=index % 2) for _ in range(5)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len({image.sum().item() for image in mixed}) == 5


@pytest.mark.parametrize("residency", ["device", "disk"])
@pytest.mark.parametrize("geometry", [None, dc.RandomResizedCropMirror((48, 40))])
def test_no_batch_compiles_a_kernel_again(
    store: dc.CounterpartStore,
    residency: str,
    geometry: dc.RandomResizedCropMirror | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever its size is, and wherever its indices and labels lie."""
    triton = pytest.importorskip("triton")
    mix = dc.DiffCoreMix(store, residency=residency, geometry=geometry).cuda()
    images = batch_of(range(NUM_SAMPLES), dtype=torch.uint8)[0]
    numbers = torch.arange(NUM_SAMPLES)

    def step(first: int, batch: int) -> None:
        index = numbers[first : first + batch]
        if residency == "device":  # the slice itself, at whatever address
            where = numbers.cuda()[first : first + batch]
            mix(images[:batch].cuda(), where, labels=(numbers % 2).cuda()[first : first + batch])
        for given, labels, where in dc.PrefetchLoader([(images[:batch], index % 2, index)], mix, "cuda"):
            mix(given, where, labels=labels)

    step(0, 16)
    compiled = []
    monkeypatch.setattr(triton.knobs.runtime, "jit_cache_hook", lambda **given: compiled.append(given["repr"]))
    for first, batch in ((0, 17), (0, 1), (1, 16), (1, 1), (3, 5)):
        step(first, batch)
    assert compiled == []


def test_replays_of_a_graph_advance_the_round(store: dc.CounterpartStore) -> None:
    images, index = cuda_batch()
    eager = dc.DiffCoreMix(store).cuda()
    expected = [eager(images, index) for _ in range(4)]
    mix = dc.DiffCoreMix(store).cuda()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        mix(images, index)  # warm-up, round 0
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = mix(images, index)
    for round in (1, 2, 3):
        graph.replay()
        assert torch.equal(out, expected[round])
    mix.set_epoch(0)  # a captured graph keeps counting, from there
    graph.replay()
    assert torch.equal(out, expected[0])


def test_compiles_with_the_model_into_one_graph(store: dc.CounterpartStore) -> None:
    images, index = cuda_batch()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).cuda()
    mix, eager = dc.DiffCoreMix(store).cuda(), dc.DiffCoreMix(store).cuda()

    def step(images: Tensor, index: Tensor) -> Tensor:
        return model(mix(images, index))

    for mode in ("default", "reduce-overhead"):
        compiled = torch.compile(step, fullgraph=True, mode=mode)
        for _ in range(4):
            torch.testing.assert_close(compiled(images, index), model(eager(images, index)), rtol=1e-3, atol=1e-3)
        torch.compiler.reset()
    assert mix.round.item() == eager.round.item() == 8


def test_unknown_indices_are_counted_and_reported(store: dc.CounterpartStore) -> None:
    mix = dc.DiffCoreMix(store).cuda()
    images, index = cuda_batch()
    index[3], index[5] = NUM_SAMPLES, -7
    mixed = mix(images, index)
    assert torch.equal(mixed[3], images[3])
    with pytest.raises(dc.StoreError, match="2 samples had an index outside the store"):
        mix.check()


def test_a_store_larger_than_free_memory_is_refused(
    store: dc.CounterpartStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (1000, 1000))
    with pytest.raises(dc.StoreError, match=r"its images need .* in the memory of cuda"):
        dc.DiffCoreMix(store, residency="device").cuda()


def test_auto_leaves_a_store_larger_than_free_memory_on_disk(
    store: dc.CounterpartStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (1000, 1000))
    mix = dc.DiffCoreMix(store).cuda()
    assert mix.residency == "disk"
    with pytest.raises(ValueError, match=r"is not in the memory of cuda:0.*iterate over PrefetchLoader"):
        mix(*cuda_batch())


# Prefetching. `tests/test_prefetch.py` compares every residency with the plain loop, on a GPU too.


def prefetch_batches(count: int = 6, pin: bool = False) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(images, labels, index) on the host; the last batch is short."""
    batches = []
    for step in range(count):
        images, index = batch_of([(7 * step + k) % NUM_SAMPLES for k in range(12 if step < count - 1 else 5)])
        batch = images, index % 2, index
        batches.append(tuple(part.pin_memory() for part in batch) if pin else batch)
    return batches


@pytest.mark.parametrize("pin", [False, True])
@pytest.mark.parametrize("by_epoch", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_prefetched_images_are_those_of_the_store_on_the_device(
    store: dc.CounterpartStore, pin: bool, by_epoch: bool, inplace: bool
) -> None:
    """Bit for bit, while the stream that trains is busy, so that a copy which came too late would be seen."""
    settings = {"mean": MEAN, "std": STD, "seed": 9, "lam": dc.Beta(0.5), "inplace": inplace}
    plain, mix = (dc.DiffCoreMix(store, residency=where, **settings).cuda() for where in ("device", "disk"))
    busy = torch.randn(2048, 2048, device="cuda")
    batches = prefetch_batches(pin=pin)
    for epoch in range(3):
        if by_epoch:
            plain.set_epoch(epoch)
            mix.set_epoch(epoch)
        expected = [plain(images.cuda(), index.cuda()) for images, _, index in batches]
        got = []
        for images, labels, index in dc.PrefetchLoader(batches, mix, "cuda"):
            assert torch.equal(labels, index % 2)
            busy = (busy @ busy).tanh()
            got.append(mix(images, index).clone())
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert mix.round.item() == plain.round.item()


def test_prefetched_memory_is_not_reused_too_early(store: dc.CounterpartStore) -> None:
    """Many batches that the host runs ahead of: what a freed batch lay in must wait for the kernels that read it."""
    mix, plain = dc.DiffCoreMix(store, residency="disk").cuda(), dc.DiffCoreMix(store, residency="device").cuda()
    batches = prefetch_batches(100)
    busy = torch.randn(4096, 4096, device="cuda")
    sums = []
    for images, _, index in dc.PrefetchLoader(batches, mix, depth=3):
        busy = (busy @ busy).tanh()
        sums.append(mix(images, index).double().sum())
        del images, index
    expected = [plain(images.cuda(), index.cuda()).double().sum() for images, _, index in batches]
    assert torch.equal(torch.stack(sums), torch.stack(expected))


def test_a_prefetched_loop_never_waits_for_the_device(store: dc.CounterpartStore) -> None:
    mix = dc.DiffCoreMix(store, residency="disk").cuda()
    batches = iter(dc.PrefetchLoader(prefetch_batches(8, pin=True), mix))
    images, _, index = next(batches)  # reads the round
    mix(images, index)  # compiles the kernel
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        for _ in range(4):
            images, _, index = next(batches)
            mix(images, index)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert mix.round.item() == 5


def test_rounds_changed_by_hand_are_noticed(store: dc.CounterpartStore) -> None:
    mix, plain = dc.DiffCoreMix(store, residency="host").cuda(), dc.DiffCoreMix(store, residency="device").cuda()
    for step, (images, _, index) in enumerate(dc.PrefetchLoader(prefetch_batches(), mix)):
        assert torch.equal(mix(images, index), plain(images, index))
        if step == 2:
            mix.round.fill_(50)
            plain.round.fill_(50)
    images, _, index = next(iter(dc.PrefetchLoader(prefetch_batches(), mix)))
    mix.round.fill_(3)
    with pytest.raises(ValueError, match="the round has moved on"):
        mix(images, index)


def test_a_prefetched_mix_is_refused_in_a_cuda_graph(store: dc.CounterpartStore) -> None:
    mix = dc.DiffCoreMix(store, residency="disk").cuda()
    images, _, index = next(iter(dc.PrefetchLoader(prefetch_batches(1), mix)))
    mix(images, index)
    torch.cuda.synchronize()
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        images + 1  # a graph must not be empty
        with pytest.raises(ValueError, match="A CUDA graph cannot hold"):
            mix(images, index)


@pytest.mark.parametrize("residency", ["device", "disk"])
def test_a_profile_counts_the_kernels(tmp_path: Path, residency: str) -> None:
    pytest.importorskip("torchvision")
    from diffcore_gpu.profiling import profile_training

    store = write_store(tmp_path / "store", shape=(3, 64, 64))
    result = profile_training(store, batch_size=8, steps=5, device="cuda", residency=residency)
    assert result.residency == residency
    assert result.mix_kernels == 2  # the mix, and the round
    assert 0 < result.mix_share < 1


def test_module_moves_there_and_back(store: dc.CounterpartStore, tmp_path: Path) -> None:
    images, index = batch_of()
    mix = dc.DiffCoreMix(store, mean=MEAN, std=STD)
    expected = mix(images, index)
    mix.cuda().cpu().set_epoch(0)
    assert torch.equal(mix(images, index), expected)
    torch.save(mix.cuda().state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True)["round"].is_cuda


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_crops_on_gpu_and_cpu_agree(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    images = torch.randint(0, 256, (8, 3, 96, 80), dtype=torch.uint8)
    index = torch.arange(8)
    config = dc.RandomResizedCropMirror((64, 64))
    on_cpu = dc.draw_crops(index, config, height=96, width=80, seed=1)
    on_gpu = dc.draw_crops(index.cuda(), config, height=96, width=80, seed=1)
    assert torch.equal(on_gpu.crop.cpu(), on_cpu.crop)
    assert torch.equal(on_gpu.mirror.cpu(), on_cpu.mirror)
    arguments = {"size": 64, "mean": MEAN, "std": STD, "dtype": dtype, "memory_format": memory_format}
    expected = dc.resized_crop(images, on_cpu.crop, mirror=on_cpu.mirror, **arguments)
    result = dc.resized_crop(images.cuda(), on_gpu.crop, mirror=on_gpu.mirror, **arguments).cpu()
    assert result.stride() == expected.stride()
    tolerance = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.uint8: 1}[dtype]
    assert (result.double() - expected.double()).abs().max() <= tolerance


# Geometry.

GEOMETRY = dc.RandomResizedCropMirror((48, 40))


def raw_cuda_batch() -> tuple[Tensor, Tensor]:
    images = torch.randint(0, 256, (NUM_SAMPLES, 3, 70, 61), dtype=torch.uint8)
    return images.cuda(), torch.arange(NUM_SAMPLES, device="cuda")


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cropped_mixes_on_gpu_and_cpu_agree(
    store: dc.CounterpartStore, dtype: torch.dtype, source: torch.memory_format, target: torch.memory_format
) -> None:
    settings = {"geometry": GEOMETRY, "dtype": dtype, "memory_format": target, "mean": MEAN, "std": STD}
    images, index = raw_cuda_batch()
    images = images.to(memory_format=source)
    mixed, plan = dc.DiffCoreMix(store, **settings).cuda()(images, index, return_plan=True)
    expected, on_cpu = dc.DiffCoreMix(store, **settings)(images.cpu(), index.cpu(), return_plan=True)
    assert mixed.stride() == expected.stride()
    for name in ("row", "lam", "box", "crop", "mirror", "counterpart_crop", "counterpart_mirror"):
        assert torch.equal(getattr(plan, name).cpu(), getattr(on_cpu, name)), name
    tolerance = {torch.float32: 5e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2, torch.uint8: 1}[dtype]
    assert (mixed.cpu().double() - expected.double()).abs().max() <= tolerance


def test_a_cropped_mix_never_waits_for_the_device(store: dc.CounterpartStore) -> None:
    mix = dc.DiffCoreMix(store, geometry=GEOMETRY, mean=MEAN, std=STD).cuda()
    images, index = raw_cuda_batch()
    mix(images, index, labels=index % 2)
    mix.eval()(images, index)
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        for _ in range(3):
            mix.train()(images, index, labels=index % 2)
            mix.eval()(images, index)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert mix.round.item() == 4
    mix.check()


def test_a_captured_cropped_mix_advances(store: dc.CounterpartStore) -> None:
    images, index = raw_cuda_batch()
    eager, mix = (dc.DiffCoreMix(store, geometry=GEOMETRY).cuda() for _ in range(2))
    expected = [eager(images, index) for _ in range(3)]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        mix(images, index)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = mix(images, index)
    for round in (1, 2):
        graph.replay()
        assert torch.equal(out, expected[round])


@pytest.mark.parametrize("residency", ["device", "disk"])
@pytest.mark.parametrize("geometry", [None, GEOMETRY])
def test_wrong_labels_are_counted_and_not_mixed(
    store: dc.CounterpartStore, residency: str, geometry: dc.RandomResizedCropMirror | None
) -> None:
    mix = dc.DiffCoreMix(store, residency=residency, geometry=geometry).cuda()
    images, index = batch_of(range(NUM_SAMPLES), dtype=torch.uint8)
    labels = index % 2
    labels[1] = 0
    ((given, classes, where),) = dc.PrefetchLoader([(images, labels, index)], None, "cuda")
    if residency == "disk":
        batches = dc.PrefetchLoader([(images, labels, index)] * 2, mix)
        given, classes, where = next(iter(batches))
    _, plan = mix(given, where, labels=classes, return_plan=True)
    assert plan.row[1] == -1
    with pytest.raises(dc.StoreError, match="1 samples had a label that differs"):
        mix.check()


@pytest.mark.slow
@pytest.mark.parametrize("geometry", [None, GEOMETRY])
def test_ten_thousand_steps(store: dc.CounterpartStore, geometry: dc.RandomResizedCropMirror | None) -> None:
    """No memory is lost, nothing waits, and the images are still those of the plan at the end."""
    mix = dc.DiffCoreMix(store, geometry=geometry).cuda()
    images, index = raw_cuda_batch() if geometry else tuple(t.cuda() for t in batch_of(range(NUM_SAMPLES)))
    used = 0
    for step in range(10_000):
        size = 1 + step % NUM_SAMPLES
        mixed = mix(images[:size], index[:size])
        if step == 100:
            torch.cuda.synchronize()
            used = torch.cuda.memory_allocated()
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() <= used + images.nbytes
    mix.check()
    assert mix.round.item() == 10_000
    again = dc.DiffCoreMix(store, geometry=geometry).cuda()
    again.round.fill_(9_999)
    assert torch.equal(again(images[:size], index[:size]), mixed)
