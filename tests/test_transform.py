"""`DiffCoreMix` as a training loop uses it."""

from __future__ import annotations

import copy
import io
import os
import pickle
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn

import diffcore_gpu as dc
from tests.programs import run_python
from tests.stores import COUNTS, NUM_SAMPLES, SHAPE, open_bound, write_store
from tests.ulp import ulps_apart

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.uint8)
FORMATS = (torch.contiguous_format, torch.channels_last)


def batch_of(
    indices: list[int] | range = range(12), dtype: torch.dtype = torch.float32, shape: tuple[int, int, int] = SHAPE
) -> tuple[Tensor, Tensor]:
    """The images of some samples, a function of the index as in a dataset, and the indices."""
    images = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i in indices])
    if dtype == torch.uint8:
        images = (images * 50 + 128).clamp(0, 255)
    return images.to(dtype), torch.tensor(list(indices))


# The result.


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inplace", [False, True])
def test_the_result_is_that_of_the_returned_plan(
    store: dc.CounterpartStore, dtype: torch.dtype, memory_format: torch.memory_format, inplace: bool
) -> None:
    mix = dc.DiffCoreMix(store, mean=MEAN, std=STD, p=0.9, inplace=inplace)
    images, index = batch_of(dtype=dtype)
    images = images.to(memory_format=memory_format)
    before = images.clone()
    mixed, plan = mix(images, index, return_plan=True)
    assert (mixed.dtype, mixed.stride(), mixed.device) == (before.dtype, before.stride(), before.device)
    assert (mixed is images) == inplace
    expected = dc.mix_reference(before, store.images(plan.row.clamp(min=0)), plan, mean=MEAN, std=STD)
    assert ulps_apart(mixed, expected) <= (0 if dtype == torch.uint8 else 1)
    if not inplace:
        assert torch.equal(images, before)


def test_without_a_plan_the_result_is_the_same(store: dc.CounterpartStore) -> None:
    images, index = batch_of()
    with_plan, _ = dc.DiffCoreMix(store)(images, index, return_plan=True)
    assert torch.equal(dc.DiffCoreMix(store)(images, index), with_plan)
    inplace = images.clone()
    dc.DiffCoreMix(store, inplace=True)(inplace, index)
    assert torch.equal(inplace, with_plan)


def test_strides_that_are_neither_format_work_in_place(store: dc.CounterpartStore) -> None:
    images, index = batch_of()
    expected = dc.DiffCoreMix(store)(images, index)
    strided = images.transpose(2, 3).contiguous().transpose(2, 3)
    assert dc.DiffCoreMix(store, inplace=True)(strided, index) is strided
    assert torch.equal(strided, expected)


def test_samples_without_counterparts_pass_through(store: dc.CounterpartStore) -> None:
    images, index = batch_of(range(NUM_SAMPLES))
    mixed, plan = dc.DiffCoreMix(store)(images, index, return_plan=True)
    has_rows = torch.tensor(COUNTS) > 0
    assert torch.equal(plan.row >= 0, has_rows)
    assert torch.equal(mixed[~has_rows], images[~has_rows])
    assert bool((mixed[has_rows] != images[has_rows]).flatten(1).any(1).all())


def test_rows_are_those_of_the_sample(store: dc.CounterpartStore) -> None:
    images, index = batch_of(range(NUM_SAMPLES))
    mix = dc.DiffCoreMix(store)
    for _ in range(20):
        _, plan = mix(images, index, return_plan=True)
        for sample, row in zip(index.tolist(), plan.row.tolist(), strict=True):
            assert row == -1 or row in store.rows(sample).tolist()
    _, best = dc.DiffCoreMix(store, row_choice="best")(images, index, return_plan=True)
    for sample, row in zip(index.tolist(), best.row.tolist(), strict=True):
        if row >= 0:
            assert store.similarities(sample).max() == store.similarities(sample)[store.rows(sample) == row]


def test_the_plan_is_that_of_draw_plan(store: dc.CounterpartStore) -> None:
    images, index = batch_of()
    settings = {"p": 0.8, "pixel_prob": 0.3, "lam": dc.Beta(0.4), "box_placement": "inside", "seed": -5}
    mix = dc.DiffCoreMix(store, **settings)
    for round in range(3):
        _, plan = mix(images, index, return_plan=True)
        again = dc.draw_plan(index, store, height=SHAPE[1], width=SHAPE[2], round=round, **settings)
        for name in ("row", "pixel", "lam", "box", "inside_real"):
            assert torch.equal(getattr(plan, name), getattr(again, name)), name


def test_eval_is_the_identity(store: dc.CounterpartStore) -> None:
    mix = dc.DiffCoreMix(store).eval()
    images, index = batch_of()
    assert mix(images, index) is images
    same, plan = mix(images, index, return_plan=True)
    assert same is images
    assert plan.row.tolist() == [-1] * len(index)
    assert mix.round.item() == 0


def test_an_empty_batch(store: dc.CounterpartStore) -> None:
    mixed, plan = dc.DiffCoreMix(store)(torch.empty(0, *SHAPE), torch.empty(0, dtype=torch.int64), return_plan=True)
    assert mixed.shape == (0, *SHAPE)
    assert len(plan) == 0


def test_a_store_without_rows_changes_nothing(tmp_path: Path) -> None:
    with dc.CounterpartWriter(
        tmp_path / "empty", num_samples=12, image_shape=SHAPE, class_names=["a"], labels=[0] * 12
    ):
        pass
    images, index = batch_of()
    empty = open_bound(tmp_path / "empty")
    assert torch.equal(dc.DiffCoreMix(empty)(images, index), images)
    assert torch.equal(dc.DiffCoreMix(empty, residency="device")(images, index), images)


@pytest.mark.parametrize("residency", ["auto", "device", "disk"])
def test_residencies_agree(store: dc.CounterpartStore, residency: str) -> None:
    images, index = batch_of()
    assert torch.equal(dc.DiffCoreMix(store, residency=residency)(images, index), dc.DiffCoreMix(store)(images, index))


# Rounds, seeds and state.


def test_rounds_advance_and_epochs_do_not(store: dc.CounterpartStore) -> None:
    images, index = batch_of()
    mix = dc.DiffCoreMix(store)
    first, second = mix(images, index), mix(images, index)
    assert not torch.equal(first, second)
    assert mix.round.item() == 2
    mix.set_epoch(1)
    assert torch.equal(mix(images, index), second)
    assert torch.equal(mix(images, index), second)
    mix.set_epoch(0)
    assert torch.equal(mix(images, index), first)


def test_seeds_differ_and_wrap_to_64_bits(store: dc.CounterpartStore) -> None:
    images, index = batch_of()
    results = [dc.DiffCoreMix(store, seed=seed)(images, index) for seed in (0, 1, 2**63, 2**64 - 1, -1)]
    assert torch.equal(results[3], results[4])
    assert len({result.sum().item() for result in results[:4]}) == 4


def test_seed_and_inplace_may_be_set_anew(store: dc.CounterpartStore) -> None:
    images, index = batch_of()
    mix = dc.DiffCoreMix(store, seed=1)
    mix.set_epoch(0)
    for seed in (1, 2, 2**64 - 1):
        mix.seed = seed
        expected = dc.DiffCoreMix(store, seed=seed)(images, index)
        for _ in range(3):
            assert torch.equal(mix(images, index), expected)
    mix.inplace = True
    assert mix(images, index) is images
    assert torch.equal(images, expected)
    with pytest.raises(ValueError, match="seed must be an integer of 64 bits"):
        mix.seed = 0.5
    cropping = dc.DiffCoreMix(store, geometry=dc.RandomResizedCropMirror((8, 8)))
    with pytest.raises(ValueError, match="inplace=True cannot go with geometry"):
        cropping.inplace = True


@pytest.mark.parametrize("by_epoch", [False, True])
def test_resume_from_state_dict_in_the_middle_of_an_epoch(store: dc.CounterpartStore, by_epoch: bool) -> None:
    images, index = batch_of()
    mix = dc.DiffCoreMix(store, seed=3)
    if by_epoch:
        mix.set_epoch(5)
    for _ in range(4):
        mix(images, index)
    file = io.BytesIO()
    torch.save(mix.state_dict(), file)
    file.seek(0)
    resumed = dc.DiffCoreMix(store, seed=99)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(2):
        assert torch.equal(resumed(images, index), mix(images, index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stream": 2}, "draws by version 2 of the random stream, but this diffcore-gpu by version 1; go on with"),
        ({"settings": {"p": "0.25"}}, "was made with p = 0.25, but this DiffCoreMix has 1.0; make it with the same"),
        ({"settings": {"geometry": "gone"}}, "was made with geometry = gone, but this DiffCoreMix has None; make it"),
        ({"store": "0" * 64}, "was made with another store than .*small is now; train on with that store"),
        ({"pairs": 7}, "was made with another store than .*small is now; train on with that store"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    store: dc.CounterpartStore, change: dict[str, object], message: str
) -> None:
    mix = dc.DiffCoreMix(store, seed=3)
    state = mix.state_dict()
    key = next(key for key in state if key.endswith("_extra_state"))
    with pytest.raises(ValueError, match=message) as raised:
        dc.DiffCoreMix(store).load_state_dict({**state, key: {**state[key], **change}})
    assert "take its `_extra_state` out" in str(raised.value)


def test_a_checkpoint_of_a_store_with_more_rows_is_refused(store: dc.CounterpartStore, tmp_path: Path) -> None:
    grown = write_store(tmp_path / "grown", more=1)
    assert grown.num_rows > store.num_rows
    with pytest.raises(ValueError, match="was made with another store"):
        dc.DiffCoreMix(grown).load_state_dict(dc.DiffCoreMix(store).state_dict())


def test_a_checkpoint_of_a_store_that_has_grown_since(tmp_path: Path) -> None:
    small = write_store(tmp_path / "store")
    state = dc.DiffCoreMix(small, seed=5).state_dict()
    labels = small.labels.tolist()
    with dc.CounterpartWriter(
        small.path, num_samples=NUM_SAMPLES, image_shape=SHAPE, class_names=["even", "odd"], labels=labels, append=True
    ) as writer:
        writer.add_pair(0, writer.add_row(torch.zeros(SHAPE, dtype=torch.uint8), label=0))
    grown = dc.CounterpartStore.open(small.path).bind(labels, labels=labels)
    message = r"was made before the store .*store has grown \(append\); train on .*take `store` and `pairs` out of"
    with pytest.raises(ValueError, match=message):
        dc.DiffCoreMix(grown).load_state_dict(state)
    accepted = {name: value for name, value in state["_extra_state"].items() if name not in ("store", "pairs")}
    resumed = dc.DiffCoreMix(grown)
    resumed.load_state_dict({**state, "_extra_state": accepted})
    assert resumed.seed == 5


def test_a_store_that_nobody_has_bound(store: dc.CounterpartStore) -> None:
    unbound = dc.CounterpartStore.open(store.path)
    images, index = torch.rand(4, *SHAPE), torch.arange(4)
    labels = unbound.labels[index]
    mix = dc.DiffCoreMix(unbound)
    mix(images, index, labels=labels)
    mix.eval()(images, index)
    with pytest.warns(UserWarning, match=r"was not bound to a dataset.*call store\.bind\(dataset\), or pass labels="):
        mix.train()(images, index)
    mix(images, index)  # it is said once
    dc.DiffCoreMix(unbound)(images, index)


def test_a_store_that_nobody_has_bound_compiles_into_one_graph(store: dc.CounterpartStore) -> None:
    images, index = torch.rand(4, *SHAPE), torch.arange(4)
    for number in range(3):
        unbound = dc.CounterpartStore.open(store.path)
        mix = dc.DiffCoreMix(unbound, seed=7)
        compiled = torch.compile(mix, fullgraph=True, backend="eager")
        with pytest.warns(UserWarning, match="was not bound to a dataset"):
            mixed = compiled(images, index)
        assert torch.equal(mixed, dc.DiffCoreMix(store, seed=7)(images, index)), number
        compiled(images, index)


@pytest.mark.parametrize("way", ["eager", "compiled", "geometry"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_shard_that_is_cut_short_between_batches(tmp_path: Path, way: str, damage: str) -> None:
    store = write_store(tmp_path / "store")
    geometry = dc.RandomResizedCropMirror((16, 16)) if way == "geometry" else None
    mix = dc.DiffCoreMix(store, geometry=geometry)
    call = torch.compile(mix, fullgraph=True, backend="eager") if way == "compiled" else mix
    images = torch.zeros(8, *SHAPE, dtype=torch.uint8 if way == "geometry" else torch.float32)
    index = torch.arange(8)
    for _ in range(3):  # the later calls pass the dispatcher by, where numba is there
        call(images, index)
    shard = store.path / store.manifest.shards[1].name
    if damage == "cut":
        os.truncate(shard, 4500)
    else:
        shard.unlink()
    with pytest.raises(dc.StoreError, match=rf"{shard.name}: (has changed since|cannot be read any more)"):
        call(images, index)


def test_of_many_shards_those_of_the_batch_are_looked_at(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", rows_per_shard=1, more=2)
    assert len(store.manifest.shards) > 64
    mix = dc.DiffCoreMix(store)
    images = torch.zeros(2, *SHAPE)
    mix(images, torch.tensor([3, 3]))
    rows = store.rows(3).tolist()
    (store.path / store.manifest.shards[max(rows) + 1].name).unlink()  # of the next sample
    mix(images, torch.tensor([3, 3]))
    (store.path / store.manifest.shards[rows[0]].name).unlink()
    with pytest.raises(dc.StoreError, match="cannot be read any more"):
        mix(images, torch.tensor([3, 3]))
    mix(images, torch.tensor([5, 7]))
    with pytest.raises(dc.StoreError, match="cannot be read any more"):
        store.require_unchanged()


def test_pairs_overwritten_in_use_change_nothing(tmp_path: Path) -> None:
    """They were read into memory and hashed when the store was opened; who opens it next is told."""
    store = write_store(tmp_path / "store")
    images, index = torch.rand(24, *SHAPE), torch.arange(24)
    expected = dc.DiffCoreMix(store)(images, index)
    mix = dc.DiffCoreMix(store)
    path = store.path / store.manifest.pairs.name
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(path.stat().st_size - 4096))
    assert torch.equal(mix(images, index), expected)
    mix.check()
    assert torch.equal(dc.DiffCoreMix(store)(images, index), expected)
    with pytest.raises(dc.StoreError, match=rf"{path.name}: damaged: its SHA-256 is"):
        dc.CounterpartStore.open(store.path)


def test_a_checkpoint_without_settings_is_loaded(store: dc.CounterpartStore) -> None:
    """As those of version 0.1.0 were."""
    resumed = dc.DiffCoreMix(store, p=0.5)
    resumed.set_extra_state({"seed": 8, "advance": False})
    assert (resumed.seed, resumed.counts_rounds) == (8, False)


@pytest.mark.parametrize(
    "state",
    [
        {},
        [],
        None,
        {"seed": 8},
        {"advance": True},
        {"seed": "8", "advance": True},
        {"seed": True, "advance": 1},
        {"seed": 8.0, "advance": True},
        {"seed": 8, "advance": "no"},
        {"seed": 2**64, "advance": True},
        {"seed": 8, "advance": True, "settings": ["p"]},
        {"seed": 8, "advance": True, "settings": None},
        {"seed": 8, "advance": True, "stream": {}},
        {"seed": 8, "advance": True, "store": []},
    ],
)
def test_a_state_that_is_none_is_refused_and_changes_nothing(store: dc.CounterpartStore, state: object) -> None:
    mix = dc.DiffCoreMix(store, seed=3)
    before = mix.get_extra_state()
    with pytest.raises(ValueError, match=r"\.$"):
        mix.load_state_dict({**mix.state_dict(), "_extra_state": state})
    assert mix.get_extra_state() == before


@pytest.mark.parametrize("epoch", [1.5, 1.0, "1", None, True, torch.tensor(1.0), torch.tensor([1, 2])])
def test_an_epoch_that_is_no_integer_is_refused(store: dc.CounterpartStore, epoch: object) -> None:
    mix = dc.DiffCoreMix(store)
    with pytest.raises(TypeError, match="epoch must be an integer"):
        mix.set_epoch(epoch)  # type: ignore[arg-type]
    assert mix.counts_rounds


@pytest.mark.parametrize("epoch", [0, 2**32 - 1, np.int32(7), np.uint64(2**32 - 1), torch.tensor(5)])
def test_an_epoch_is_an_integer_of_any_type(store: dc.CounterpartStore, epoch: SupportsIndex) -> None:
    mix = dc.DiffCoreMix(store)
    mix.set_epoch(epoch)
    assert int(mix.round) == int(epoch)
    assert not mix.counts_rounds


def test_copies_and_pickles_go_on_alike(store: dc.CounterpartStore) -> None:
    images, index = batch_of()
    mix = dc.DiffCoreMix(store, mean=MEAN, std=STD, lam=dc.Beta(0.5))
    mix(images, index)
    copied, pickled = copy.deepcopy(mix), pickle.loads(pickle.dumps(mix))
    expected = mix(images, index)
    assert torch.equal(copied(images, index), expected)
    assert torch.equal(pickled(images, index), expected)
    assert len(pickle.dumps(mix)) < 20_000 + 4 * 65536  # no images; the table of λ is 256 KiB


def test_half_leaves_the_constants_alone(store: dc.CounterpartStore) -> None:
    images, index = batch_of()
    mix = dc.DiffCoreMix(store, mean=MEAN, std=STD)
    expected = mix(images, index)
    mix.half().set_epoch(0)
    assert torch.equal(mix(images, index), expected)


def test_repr_names_store_and_settings(store: dc.CounterpartStore) -> None:
    assert f"{store.path}, p=1.0, pixel_prob=0.25" in repr(dc.DiffCoreMix(store, pixel_prob=0.25))


# In company: compile, autocast, other ranks.


@pytest.mark.parametrize("inplace", [False, True])
def test_compiles_into_one_graph(store: dc.CounterpartStore, inplace: bool) -> None:
    images, index = batch_of()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    mix, eager_mix = (dc.DiffCoreMix(store, mean=MEAN, std=STD, inplace=inplace) for _ in range(2))

    def step(images: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        mixed = mix(images, index)
        return model(mixed), mixed

    compiled = torch.compile(step, fullgraph=True)
    for _ in range(3):  # the round advances inside the graph
        eager = eager_mix(images.clone(), index)
        logits, mixed = compiled(images.clone(), index)
        assert torch.equal(mixed, eager)
        torch.testing.assert_close(logits, model(eager))
    assert mix.round.item() == 3


def test_compiles_with_the_plan(store: dc.CounterpartStore) -> None:
    images, index = batch_of()
    mix = dc.DiffCoreMix(store)
    mix.set_epoch(2)
    expected, plan = mix(images, index, return_plan=True)

    def step(images: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        mixed, plan = mix(images, index, return_plan=True)
        return mixed, plan.lam

    mixed, lam = torch.compile(step, fullgraph=True)(images, index)
    assert torch.equal(mixed, expected)
    assert torch.equal(lam, plan.lam)


def test_autocast_does_not_touch_it(store: dc.CounterpartStore) -> None:
    images, index = batch_of()
    expected = dc.DiffCoreMix(store)(images, index)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = dc.DiffCoreMix(store)(images, index)
    assert torch.equal(mixed, expected)


def _mix_a_share(rank: int, world: int, path: str, rendezvous: str, results: str) -> None:
    """One rank: its share of every epoch, as a DistributedSampler deals it."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    try:
        mix = dc.DiffCoreMix(open_bound(path), mean=MEAN, std=STD, seed=11)
        sampler = torch.utils.data.DistributedSampler(range(NUM_SAMPLES), world, rank, shuffle=True)
        mine: dict[tuple[int, int], Tensor] = {}
        for epoch in range(2):
            sampler.set_epoch(epoch)
            mix.set_epoch(epoch)
            for indices in torch.tensor(list(sampler)).split(4):
                images, index = batch_of(indices.tolist())
                for sample, image in zip(indices.tolist(), mix(images, index), strict=True):
                    mine[epoch, sample] = image
        gathered: list[dict] = [{} for _ in range(world)]
        torch.distributed.all_gather_object(gathered, mine)
        if rank == 0:
            torch.save({key: image for part in gathered for key, image in part.items()}, results)
    finally:
        torch.distributed.destroy_process_group()


def test_one_rank_and_four_ranks_see_the_same_images(store: dc.CounterpartStore, tmp_path: Path) -> None:
    seen = {}
    mp.set_forkserver_preload([__name__])  # torch is imported once, not in every rank
    for world in (1, 4):
        results = str(tmp_path / f"of-{world}.pt")
        arguments = world, str(store.path), str(tmp_path / f"rendezvous-{world}"), results
        mp.start_processes(_mix_a_share, arguments, nprocs=world, start_method="forkserver")
        seen[world] = torch.load(results, weights_only=True)
    assert seen[1].keys() == seen[4].keys()
    assert len(seen[1]) == 2 * NUM_SAMPLES
    for key, image in seen[1].items():
        assert torch.equal(image, seen[4][key]), key


class _Mixed(nn.Module):
    """A model that mixes its own batches."""

    def __init__(self, store: dc.CounterpartStore) -> None:
        super().__init__()
        self.mix = dc.DiffCoreMix(store)
        self.head = nn.Linear(SHAPE[0], 1)

    def forward(self, images: Tensor, index: Tensor) -> Tensor:
        return self.head(self.mix(images, index).mean(dim=(2, 3)))


def _count_on_rank_1(process: int, rank: int, path: str, rendezvous: str, results: str) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2, timeout=timedelta(seconds=120)
    )
    try:
        model = nn.parallel.DistributedDataParallel(_Mixed(open_bound(path)))
        mix = model.module.mix
        for _ in range(3):
            mix.status[2].add_(rank)  # as a kernel counts a wrong label
            model(*batch_of()).sum().backward()
        said = ""
        try:
            mix.check()
        except dc.StoreError as error:
            said = str(error)
        Path(f"{results}-{rank}").write_text(said)
    finally:
        torch.distributed.destroy_process_group()
        torch.set_num_threads(threads)


def test_every_rank_reports_what_it_met_itself(store: dc.CounterpartStore, tmp_path: Path) -> None:
    """Within DistributedDataParallel, which gives every rank the buffers of rank 0 before each forward pass."""
    arguments = str(store.path), str(tmp_path / "rendezvous"), str(tmp_path / "said")
    other = mp.spawn(_count_on_rank_1, (1, *arguments), nprocs=1, join=False)
    _count_on_rank_1(0, 0, *arguments)  # this process is the other rank: one fewer that imports torch
    while not other.join():
        pass
    assert (tmp_path / "said-0").read_text() == ""
    assert "3 samples had a label that differs" in (tmp_path / "said-1").read_text()


def test_counts_are_moved_and_copied_but_not_saved(store: dc.CounterpartStore) -> None:
    mix = dc.DiffCoreMix(store)
    mix.status.copy_(torch.tensor([0, 0, 4, 0]))
    assert mix.state_dict().keys() == {"round", "_extra_state"}
    before = mix.status
    mix.to("cpu").half()
    assert mix.status is before
    assert mix.status.dtype == torch.int32
    copied = copy.deepcopy(mix)
    with pytest.raises(dc.StoreError, match="4 samples had a label"):
        copied.check()
    assert mix.status.tolist() == [0, 0, 4, 0]
    mix(*batch_of())
    assert mix.status is before  # a CUDA graph writes to this very tensor


def test_is_a_module_of_a_model(store: dc.CounterpartStore) -> None:
    """Its state is saved with the model's, and it follows `train` and `eval`."""
    holder = nn.ModuleDict({"mix": dc.DiffCoreMix(store, seed=4), "head": nn.Linear(2, 2)})
    assert "mix.round" in holder.state_dict()
    holder.eval()
    assert not holder["mix"].training


# Bad input: one sentence before any work.


@pytest.mark.parametrize(
    ("images", "index", "message"),
    [
        (torch.zeros(2, *SHAPE), torch.tensor([0, NUM_SAMPLES]), "index 24 is outside the store, which was made"),
        (torch.zeros(2, *SHAPE), torch.tensor([-1, 0]), "index -1 is outside the store"),
        (torch.zeros(2, *SHAPE), torch.tensor([0, 1], dtype=torch.int32), "index must be an int64 vector"),
        (torch.zeros(2, *SHAPE), torch.tensor([[0, 1]]), "index must be an int64 vector"),
        (torch.zeros(2, *SHAPE), torch.tensor([0]), "index has 1 entries, but the batch has 2 images"),
        (torch.zeros(2, 3, 20, 20), torch.tensor([0, 1]), "images are 3×20×20 .* but the store holds 3×20×28"),
        (torch.zeros(2, 1, 20, 28), torch.tensor([0, 1]), "images are 1×20×28"),
        (torch.zeros(*SHAPE), torch.tensor([0]), r"batch \[B, C, H, W\]"),
        (torch.zeros(2, *SHAPE, dtype=torch.int32), torch.tensor([0, 1]), "bfloat16, uint8, got int32"),
        (torch.zeros(2, *SHAPE, dtype=torch.float64), torch.tensor([0, 1]), "got float64"),
        (torch.zeros(2, *SHAPE, requires_grad=True), torch.tensor([0, 1]), "not differentiable"),
        (torch.zeros(2, *SHAPE), torch.tensor([0, 1], device="meta"), "index is on meta, but the images are on cpu"),
        (
            torch.zeros(2, *SHAPE, device="meta"),
            torch.tensor([0, 1], device="meta"),
            "DiffCoreMix is on cpu, but the images are on meta",
        ),
    ],
)
def test_bad_batches_are_refused(store: dc.CounterpartStore, images: Tensor, index: Tensor, message: str) -> None:
    mix = dc.DiffCoreMix(store)
    with pytest.raises(ValueError, match=message):
        mix(images, index)
    assert mix.round.item() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda store: dc.DiffCoreMix(store, seed=2**64), "seed must be an integer of 64 bits"),
        (lambda store: dc.DiffCoreMix(store, seed=1.5), "seed must be an integer of 64 bits"),
        (lambda store: dc.DiffCoreMix(store, mean=[0.5]), "mean has 1 values, but the images have 3 channels"),
        (lambda store: dc.DiffCoreMix(store, p=2), "p must lie in"),
        (lambda store: dc.DiffCoreMix(store, residency="cloud"), "residency must be one of auto, device, disk"),
        (lambda store: dc.DiffCoreMix(store).to("meta"), "not on meta"),
        (lambda store: dc.DiffCoreMix(store).set_epoch(-1), "epoch must be 0 or above"),
        (lambda store: dc.DiffCoreMix(store).set_epoch(2**32), r"epoch must be 0 or above and less than 2\*\*32, got"),
    ],
)
def test_bad_settings_are_refused(store: dc.CounterpartStore, make: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(store)


def test_check_raises_what_the_device_counted(store: dc.CounterpartStore) -> None:
    mix = dc.DiffCoreMix(store)
    mix.check()
    mix.status.copy_(torch.tensor([2, 0, 0, 0]))
    with pytest.raises(dc.StoreError, match="2 samples had an index outside the store, which was made for 24 samples"):
        mix.check()
    mix.check()
    mix.status.copy_(torch.tensor([0, 3, 0, 0]))
    with pytest.raises(dc.StoreError, match="3 pairs name a row that the store does not have"):
        mix.check()


# What an import costs.


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = (
        "import sys, diffcore_gpu as dc; assert 'torch' not in sys.modules; dc.DiffCoreMix; dc.CounterpartStore;"
        "bad = {'diffusers', 'open_clip', 'torchvision', 'triton.compiler'} & set(sys.modules);"
        "assert 'torchvision' not in sys.modules and 'diffusers' not in sys.modules, bad;"
        "assert 'open_clip' not in sys.modules and 'numba' not in sys.modules"
    )
    assert run_python("-c", program) == ""


def test_every_public_name_exists_and_is_documented() -> None:
    for name in dc.__all__:
        assert getattr(dc, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dc.nothing


# Labels.


def test_labels_of_the_right_classes_change_nothing(store: dc.CounterpartStore) -> None:
    images, index = batch_of()
    expected = dc.DiffCoreMix(store)(images, index)
    assert torch.equal(dc.DiffCoreMix(store)(images, index, labels=index % 2), expected)


def test_a_label_of_another_class_is_refused(store: dc.CounterpartStore) -> None:
    images, index = batch_of()
    labels = index % 2
    labels[0] = 1  # has no counterpart, so nothing can be wrong with it
    labels[5] = 0
    with pytest.raises(ValueError, match=r"sample 5 has label 0, but its counterpart, row .* is of class 1"):
        dc.DiffCoreMix(store)(images, index, labels=labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(12), r"labels must be int64 \[12\]"),
        (torch.zeros(3, dtype=torch.int64), r"labels must be int64 \[12\]"),
        (torch.zeros(12, dtype=torch.int64, device="meta"), "labels is on meta, but the images are on cpu"),
    ],
)
def test_bad_labels_are_refused(store: dc.CounterpartStore, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dc.DiffCoreMix(store)(*batch_of(), labels=labels)


def test_a_new_epoch_reports_what_the_last_one_met(store: dc.CounterpartStore) -> None:
    mix = dc.DiffCoreMix(store)
    mix.set_epoch(0)
    mix.status.copy_(torch.tensor([0, 0, 4, 0]))  # as a kernel counts
    with pytest.raises(dc.StoreError, match="4 samples had a label that differs from their counterpart's"):
        mix.set_epoch(1)
    mix.set_epoch(1)
