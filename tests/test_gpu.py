"""The transform on a GPU: what only a GPU can show. Kernel results are compared in `tests/kernels`, on a GPU too."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import diffcore_gpu as dc
from tests.stores import NUM_SAMPLES, write_store
from tests.test_transform import DTYPES, FORMATS, MEAN, STD, batch_of
from tests.ulp import ulps_apart

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> dc.CounterpartStore:
    return write_store(tmp_path_factory.mktemp("stores") / "small")


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
    assert ulps_apart(mixed.cpu(), expected) <= (0 if dtype == torch.uint8 else 1)
    assert torch.equal(gpu_plan.row.cpu(), plan.row)
    assert torch.equal(gpu_plan.lam.cpu(), plan.lam)
    assert torch.equal(gpu_plan.box.cpu(), plan.box)


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
    torch.cuda.set_sync_debug_mode("error")
    try:
        mixed = [mix(images, index) for _ in range(5)]
        mix.set_epoch(3)
        mixed.append(mix(images, index))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len({image.sum().item() for image in mixed}) == 6


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
        dc.DiffCoreMix(store).cuda()


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
