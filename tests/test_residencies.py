"""The same images wherever the counterparts lie and however they are read, bit for bit."""

from __future__ import annotations

import copy
import itertools
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import diffcore_gpu as dc
from diffcore_gpu import fetch
from diffcore_gpu.store import nvjpeg, residency
from diffcore_gpu.store.codecs import codec_named
from tests.programs import run_python
from tests.stores import NUM_SAMPLES, SHAPE, open_bound, write_store
from tests.test_transform import MEAN, STD, batch_of

CODECS = ("raw", "jpeg", "webp")
WAYS = [
    (codec, reading, verify)
    for codec, reading, verify in itertools.product(CODECS, ("auto", "pread"), (None, "lazy"))
    if (codec, reading, verify) != ("raw", "auto", None)
]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A store of each codec, and one of raw pixels that are those of the JPEG images."""
    folder = tmp_path_factory.mktemp("stores")
    paths = {codec: write_store(folder / codec, codec=codec).path for codec in CODECS}
    jpeg = open_bound(paths["jpeg"])
    with dc.CounterpartWriter(
        folder / "of-jpeg",
        num_samples=jpeg.num_samples,
        image_shape=SHAPE,
        class_names=jpeg.class_names,
        labels=jpeg.labels,
    ) as writer:
        for row, image in enumerate(jpeg.images(range(jpeg.num_rows))):
            writer.add_row(image, label=int(jpeg.row_label(row)))
        samples = torch.repeat_interleave(torch.arange(jpeg.num_samples), jpeg.pair_ptr.diff())
        writer.add_pairs(samples, jpeg.pair_row, jpeg.pair_similarity)
    return {**paths, "of-jpeg": folder / "of-jpeg"}


def mapped(paths: dict[str, Path], codec: str) -> dc.CounterpartStore:
    """A store whose pixels are those of the codec's, mapped into memory."""
    store = open_bound(paths["of-jpeg" if codec == "jpeg" else "raw"])
    assert store.is_mapped
    return store


def loader_of(**options: Any) -> DataLoader[Any]:
    images, index = batch_of(range(NUM_SAMPLES))
    dataset = dc.IndexedDataset(TensorDataset(images, index % 2))
    return DataLoader(dataset, 5, shuffle=True, generator=torch.Generator().manual_seed(3), **options)


def epochs(mix: dc.DiffCoreMix, loader: Any, *, labelled: bool = True) -> list[Tensor]:
    seen = []
    for _ in range(2):
        for images, labels, index in loader:
            seen.append(mix(images, index, labels=labels if labelled else None))
    return seen


def assert_same(got: list[Tensor], expected: list[Tensor]) -> None:
    assert len(got) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("where", ["auto", "device", "disk", "host"])
@pytest.mark.parametrize(("codec", "reading", "verify"), WAYS)
def test_every_residency(
    paths: dict[str, Path], codec: str, reading: Any, verify: Any, where: Any, prefetch: bool
) -> None:
    settings: dict[str, Any] = {"p": 0.8, "lam": dc.Beta(0.7), "mean": MEAN, "std": STD, "seed": 11}
    plain = dc.DiffCoreMix(mapped(paths, codec), residency="disk", **settings)
    store = open_bound(paths[codec], reading=reading, verify=verify)
    mix = dc.DiffCoreMix(store, residency=where, **settings)
    assert mix.residency == ("disk" if where == "auto" else where)
    got = epochs(mix, dc.PrefetchLoader(loader_of(), mix) if prefetch else loader_of())
    assert_same(got, epochs(plain, loader_of()))
    assert mix.round.item() == plain.round.item() == 10


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("prefetch", [False, True])
def test_with_workers(paths: dict[str, Path], method: str, prefetch: bool) -> None:
    mix = dc.DiffCoreMix(open_bound(paths["jpeg"]))
    workers = {"num_workers": 1, "multiprocessing_context": method}
    mix(*batch_of())  # its threads are there before the fork
    mix.round.zero_()
    loader = loader_of(**workers)
    got = epochs(mix, dc.PrefetchLoader(loader, mix) if prefetch else loader)
    assert_same(got, epochs(dc.DiffCoreMix(mapped(paths, "jpeg")), loader_of()))


@pytest.mark.parametrize("counterpart_crop", ["own", "same"])
def test_with_geometry(paths: dict[str, Path], counterpart_crop: Any) -> None:
    crop = dc.RandomResizedCropMirror((16, 12))
    settings: dict[str, Any] = {"geometry": crop, "counterpart_crop": counterpart_crop, "mean": MEAN, "std": STD}
    images, index = batch_of(range(NUM_SAMPLES), torch.uint8)
    mix = dc.DiffCoreMix(open_bound(paths["jpeg"]), **settings)
    plain = dc.DiffCoreMix(mapped(paths, "jpeg"), **settings)
    for _ in range(2):
        assert torch.equal(mix(images, index), plain(images, index))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("inplace", [False, True])
def test_dtypes_plans_and_epochs(paths: dict[str, Path], dtype: torch.dtype, inplace: bool) -> None:
    mix = dc.DiffCoreMix(open_bound(paths["jpeg"]), inplace=inplace)
    plain = dc.DiffCoreMix(mapped(paths, "jpeg"), inplace=inplace)
    for epoch in (3, 4):
        mix.set_epoch(epoch)
        plain.set_epoch(epoch)
        images, index = batch_of(dtype=dtype)
        expected, its_plan = plain(images.clone(), index, return_plan=True)
        mixed, plan = mix(images, index, return_plan=True)
        assert (mixed is images) == inplace
        assert torch.equal(mixed, expected)
        assert torch.equal(plan.row, its_plan.row)
        assert mix.round.item() == epoch


def test_it_is_a_module_as_any_other(paths: dict[str, Path]) -> None:
    mix = dc.DiffCoreMix(open_bound(paths["webp"]), seed=4)
    images, index = batch_of()
    mix(images, index)
    others = [copy.deepcopy(mix), pickle.loads(pickle.dumps(mix)), dc.DiffCoreMix(mix.store)]
    others[2].load_state_dict(mix.state_dict())
    expected = mix(images, index)
    for other in others:
        assert torch.equal(other(images, index), expected)
    assert mix.eval()(images, index) is images


def test_wrong_batches_are_refused(paths: dict[str, Path]) -> None:
    mix = dc.DiffCoreMix(open_bound(paths["jpeg"]))
    images, index = batch_of()
    with pytest.raises(ValueError, match="index 24 is outside the store"):
        mix(images, index.where(index != 5, NUM_SAMPLES))
    with pytest.raises(ValueError, match="label"):
        mix(images, index, labels=(index + 1) % 2)
    assert mix.round.item() == 0


def test_after_a_prefetched_batch_another_is_fetched(paths: dict[str, Path]) -> None:
    mix, plain = dc.DiffCoreMix(open_bound(paths["webp"])), dc.DiffCoreMix(mapped(paths, "webp"))
    other = batch_of()
    for (images, _, index), (same, _, its_index) in zip(dc.PrefetchLoader(loader_of(), mix), loader_of(), strict=True):
        assert torch.equal(mix(*other), plain(*other))
        assert torch.equal(mix(images, index), plain(same, its_index))


def test_outside_of_compiled_graphs(paths: dict[str, Path]) -> None:
    mix = dc.DiffCoreMix(open_bound(paths["jpeg"]))
    plain = dc.DiffCoreMix(mapped(paths, "jpeg"))
    images, index = batch_of()

    def step(images: Tensor, index: Tensor) -> Tensor:
        return mix(images + 1, index) * 2

    torch._dynamo.reset()
    compiled = torch.compile(step, backend="eager")
    assert torch.equal(compiled(images, index), plain(images + 1, index) * 2)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match='in one graph use residency="device"'):
        torch.compile(step, backend="eager", fullgraph=True)(images, index)
    torch._dynamo.reset()
    mix = dc.DiffCoreMix(mix.store, residency="device")
    plain.round.zero_()
    whole = torch.compile(step, backend="eager", fullgraph=True)
    assert torch.equal(whole(images, index), plain(images + 1, index) * 2)


def test_in_a_process_of_its_own(paths: dict[str, Path]) -> None:
    """Its threads end with it."""
    code = f"""
import torch, diffcore_gpu as dc
from tests.stores import open_bound
mix = dc.DiffCoreMix(open_bound({str(paths["jpeg"])!r}))
print(mix(torch.zeros(4, 3, 20, 28), torch.arange(4)).shape)
"""
    assert run_python("-c", code).strip() == "torch.Size([4, 3, 20, 28])"


def test_a_store_in_host_memory_may_be_larger_than_that_when_decoded(
    paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_bound(paths["jpeg"])
    on_disk = sum(shard.size for shard in store.manifest.shards)
    monkeypatch.setattr(residency.os, "sysconf", lambda name: 1 if name == "SC_PAGE_SIZE" else on_disk)
    dc.DiffCoreMix(store, residency="host")
    monkeypatch.setattr(residency.os, "sysconf", lambda name: 1 if name == "SC_PAGE_SIZE" else on_disk - 1)
    with pytest.raises(dc.StoreError, match="of host memory"):
        dc.DiffCoreMix(store, residency="host")


# nvJPEG, with a decoder on the CPU in its place.


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine where nvJPEG can be asked for; the list holds how many images it decoded at a time."""
    calls = []

    def operator(files: list[Tensor], mode: int, device: torch.device) -> list[Tensor]:
        calls.append(len(files))
        assert mode == nvjpeg._RGB
        images = torch.empty(len(files), *SHAPE, dtype=torch.uint8)
        for file, image in zip(files, images, strict=True):
            codec_named("jpeg").decode(file.numpy().tobytes(), image.numpy())
        return list(images)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(nvjpeg, "_operator", lambda: operator)
    return calls


def test_nvjpeg_decodes_on_the_way_to_a_gpu(
    paths: dict[str, Path], as_on_a_gpu: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_bound(paths["jpeg"])
    mix = dc.DiffCoreMix(store, decoder="nvjpeg")
    plain = dc.DiffCoreMix(mapped(paths, "jpeg"))
    images, index = batch_of()
    assert torch.equal(mix(images, index), plain(images, index))
    assert as_on_a_gpu == []  # on the CPU the store's own decoder
    monkeypatch.setattr(mix._fetcher, "_on_gpu", True)
    assert torch.equal(mix(images, index), plain(images, index))
    loader = dc.PrefetchLoader(loader_of(), mix)
    assert loader._fetcher is not None
    monkeypatch.setattr(loader._fetcher, "_on_gpu", True)
    assert_same([mix(i, n) for i, _, n in loader], [plain(i, n) for i, _, n in loader_of()])
    assert len(as_on_a_gpu) == 6
    assert fetch.Fetcher(store, mix.config, None, torch.device("cuda", 0), "nvjpeg")._on_gpu
    assert not fetch.Fetcher(store, mix.config, None, torch.device("cuda", 0), "cpu")._on_gpu


def test_nvjpeg_decodes_a_whole_store_part_by_part(
    paths: dict[str, Path], as_on_a_gpu: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_bound(paths["jpeg"])
    monkeypatch.setattr(residency, "_COPY_BYTES", 10 * 3 * 20 * 28)
    monkeypatch.setattr(residency, "_room", lambda device: 1 << 30)

    class Device:
        type = "cuda"

    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, dtype, device=None: empty(*shape, dtype=dtype))
    rows = residency._copy_to(store, Device(), "nvjpeg")  # type: ignore[arg-type]
    assert torch.equal(rows, store.images(range(store.num_rows)))
    assert as_on_a_gpu == [10, 10, 10, 6]


def test_nvjpeg_gets_no_damaged_file(tmp_path: Path, as_on_a_gpu: list[int]) -> None:
    store = write_store(tmp_path / "store", codec="jpeg")
    shard = store.path / store.manifest.shards[0].name
    raw = bytearray(shard.read_bytes())
    raw[4096:4100] = b"\0" * 4
    shard.write_bytes(raw)
    store = open_bound(store.path)
    with pytest.raises(dc.StoreError, match="row 0 cannot be decoded"):
        nvjpeg.decode_on_gpu(store, torch.tensor([0, 3]), torch.device("cpu"))
    assert nvjpeg.decode_on_gpu(store, torch.tensor([], dtype=torch.int64), torch.device("cpu")).shape == (0, *SHAPE)
    assert as_on_a_gpu == []


def test_where_nvjpeg_cannot_be(paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_bound(paths["jpeg"])
    with pytest.raises(ValueError, match=r"^decoder must be one of cpu, nvjpeg, got 'gpu'\.$"):
        dc.DiffCoreMix(store, decoder="gpu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r'^decoder="nvjpeg" decodes JPEG rows, but .* has rows of codec webp\.$'):
        dc.DiffCoreMix(open_bound(paths["webp"]), decoder="nvjpeg")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r'^decoder="nvjpeg" needs a GPU of NVIDIA that torch can use\.$'):
        dc.DiffCoreMix(store, decoder="nvjpeg")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    torchvision = pytest.importorskip("torchvision")
    monkeypatch.setattr(torchvision.version, "cuda", None)
    with pytest.raises(ValueError, match="needs a torchvision that was built with CUDA"):
        dc.DiffCoreMix(store, decoder="nvjpeg")

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(nvjpeg, "import_module", missing)
    with pytest.raises(ValueError, match=r'^decoder="nvjpeg" needs torchvision: pip install torchvision\.$'):
        dc.DiffCoreMix(store, decoder="nvjpeg")


def test_a_checkpoint_names_the_decoder(paths: dict[str, Path], as_on_a_gpu: list[int]) -> None:
    store = open_bound(paths["jpeg"])
    state = dc.DiffCoreMix(store, decoder="nvjpeg").state_dict()
    with pytest.raises(ValueError, match="made with decoder = nvjpeg, but this DiffCoreMix has cpu"):
        dc.DiffCoreMix(store).load_state_dict(state)
