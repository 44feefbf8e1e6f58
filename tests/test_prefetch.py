"""`PrefetchLoader`: the images of the loop without it, bit for bit, and an error wherever they could differ."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import diffcore_gpu as dc
from diffcore_gpu.prefetch import Prefetched
from tests.stores import NUM_SAMPLES, SHAPE, open_bound, write_store
from tests.test_transform import MEAN, STD, batch_of

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(autouse=True)
def _needs_its_device(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")


@pytest.fixture
def needing_prefetch(store: dc.CounterpartStore) -> Callable[..., dc.DiffCoreMix]:
    """Makes transforms on the CPU that cannot read the rows by themselves, as on a GPU with "disk"."""

    def make(**settings: Any) -> dc.DiffCoreMix:
        mix = dc.DiffCoreMix(store, residency="disk", **settings)
        mix._resident.prefetched = True
        mix._resident.shards = []
        return mix

    return make


def loader_of(batch_size: int = 5, **options: Any) -> DataLoader:
    """All samples in a fixed random order; 24 of them in batches of 5 leave a short last one."""
    images, index = batch_of(range(NUM_SAMPLES))
    dataset = dc.IndexedDataset(TensorDataset(images, index % 2))
    return DataLoader(dataset, batch_size, shuffle=True, generator=torch.Generator().manual_seed(3), **options)


def plain_run(mix: dc.DiffCoreMix, epochs: int = 1, by_epoch: bool = False, **options: Any) -> list[Tensor]:
    loader, seen = loader_of(**options), []
    for epoch in range(epochs):
        if by_epoch:
            mix.set_epoch(epoch)
        seen += [mix(images, index) for images, _, index in loader]
    return seen


def assert_same(got: list[Tensor], expected: list[Tensor]) -> None:
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.cpu(), b)


# The same images.


@pytest.mark.parametrize("by_epoch", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 9])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"p": 0.6, "lam": dc.Beta(0.4), "box_placement": "inside", "mean": MEAN, "std": STD, "seed": -5},
        {"row_choice": "best", "inplace": True},
    ],
)
def test_images_are_those_of_the_loop_without_it(
    store: dc.CounterpartStore, needing_prefetch: Callable, by_epoch: bool, depth: int, settings: dict[str, Any]
) -> None:
    expected = plain_run(dc.DiffCoreMix(store, residency="device", **settings), epochs=3, by_epoch=by_epoch)
    mix = needing_prefetch(**settings)
    loader = dc.PrefetchLoader(loader_of(), mix, "cpu", depth=depth)
    got = []
    for epoch in range(3):
        if by_epoch:
            mix.set_epoch(epoch)
        got += [mix(images, index) for images, _, index in loader]
    assert_same(got, expected)
    assert mix.round.item() == (2 if by_epoch else 15)


@pytest.mark.parametrize("residency", ["auto", "device", "disk", "host"])
@pytest.mark.parametrize("device", DEVICES)
def test_the_loop_is_the_same_for_every_residency(store: dc.CounterpartStore, device: str, residency: str) -> None:
    plain = dc.DiffCoreMix(store, residency="device").to(device)
    expected = [mixed.cpu() for mixed in (plain(i.to(device), n.to(device)) for i, _, n in loader_of())]
    mix = dc.DiffCoreMix(store, residency=residency).to(device)
    got = []
    for images, labels, index in dc.PrefetchLoader(loader_of(), mix, device):
        assert images.device == labels.device == index.device == mix.round.device
        got.append(mix(images, index))
    assert_same(got, expected)


def test_prefetched_rows_are_what_is_mixed(store: dc.CounterpartStore) -> None:
    mix = dc.DiffCoreMix(store, pixel_prob=1.0, lam=0.0)
    for images, _, index in dc.PrefetchLoader(loader_of(), mix):
        assert mix.handover.batch is not None
        mix.handover.batch.rows.fill_(255)
        mixed, plan = mix(images, index, return_plan=True)
        assert bool((mixed[plan.row >= 0] == 1).all())
    assert mix.handover.batch is None


@pytest.mark.parametrize("by_epoch", [False, True])
def test_no_batch_is_prepared_twice(
    store: dc.CounterpartStore, monkeypatch: pytest.MonkeyPatch, by_epoch: bool
) -> None:
    """In a plain loop every round is guessed right, so all gathering is done by the background thread."""
    threads = []
    fetch = dc.PrefetchLoader._fetch

    def noted(self: dc.PrefetchLoader, *arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return fetch(self, *arguments)

    monkeypatch.setattr(dc.PrefetchLoader, "_fetch", noted)
    mix = dc.DiffCoreMix(store)
    for epoch in range(2):
        if by_epoch:
            mix.set_epoch(epoch)
        for images, _, index in dc.PrefetchLoader(loader_of(), mix):
            mix(images, index)
    assert len(threads) == 10
    assert all(name.startswith("diffcore-prefetch") for name in threads)


def test_the_plan_counts_rows_in_the_store(store: dc.CounterpartStore) -> None:
    mix = dc.DiffCoreMix(store, seed=4, lam=dc.Beta(0.5))
    for round, (images, _, index) in enumerate(dc.PrefetchLoader(loader_of(), mix)):
        mixed, plan = mix(images, index, return_plan=True)
        again = dc.draw_plan(index, store, height=20, width=28, seed=4, round=round, lam=dc.Beta(0.5))
        for name in ("row", "pixel", "lam", "box", "inside_real"):
            assert torch.equal(getattr(plan, name), getattr(again, name)), name
        assert torch.equal(mixed, dc.mix(images, store.images(range(store.num_rows)), plan))


def test_workers_and_shared_rows(tmp_path: Path) -> None:
    with dc.CounterpartWriter(
        tmp_path / "one", num_samples=NUM_SAMPLES, image_shape=SHAPE, class_names=["a"], labels=[0] * NUM_SAMPLES
    ) as writer:
        row = writer.add_row(torch.full(SHAPE, 7, dtype=torch.uint8), label=0)
        for sample in range(NUM_SAMPLES):
            writer.add_pair(sample, row)
    store = open_bound(tmp_path / "one")
    expected = plain_run(dc.DiffCoreMix(store))
    mix = dc.DiffCoreMix(store)
    got = []
    for images, _, index in dc.PrefetchLoader(loader_of(num_workers=1), mix):
        assert mix.handover.batch is not None
        assert mix.handover.batch.rows.shape[0] == 1  # gathered once for the whole batch
        got.append(mix(images, index))
    assert_same(got, expected)


# Whatever the loop does.


def test_resume_from_state_dict_in_the_middle_of_an_epoch(needing_prefetch: Callable) -> None:
    mix = needing_prefetch(seed=3)
    batches = iter(dc.PrefetchLoader(loader_of(), mix))
    for _ in range(2):
        images, _, index = next(batches)
        mix(images, index)
    state = copy.deepcopy(mix.state_dict())
    assert state["round"].item() == 2  # and not that of the batches that are under way
    expected = [mix(images, index) for images, _, index in batches]
    resumed = needing_prefetch(seed=99)
    rest = list(loader_of())[2:]
    resumed.load_state_dict(state)
    assert_same([resumed(images, index) for images, _, index in dc.PrefetchLoader(rest, resumed)], expected)


def test_state_loaded_while_batches_are_under_way(store: dc.CounterpartStore, needing_prefetch: Callable) -> None:
    other = dc.DiffCoreMix(store, seed=8)
    other.round.fill_(40)
    mix = needing_prefetch()
    got = []
    for step, (images, _, index) in enumerate(dc.PrefetchLoader(loader_of(), mix)):
        got.append(mix(images, index))
        if step == 1:
            mix.load_state_dict(other.state_dict())
    expected, plain = [], dc.DiffCoreMix(store)
    for step, (images, _, index) in enumerate(loader_of()):
        expected.append(plain(images, index))
        if step == 1:
            plain.load_state_dict(other.state_dict())
    assert_same(got, expected)


def test_steps_without_a_mix_and_epochs_set_in_between(store: dc.CounterpartStore, needing_prefetch: Callable) -> None:
    def run(mix: dc.DiffCoreMix, batches: Any) -> list[Tensor]:
        seen = []
        for step, (images, _, index) in enumerate(batches):
            if step == 3:
                mix.eval()
            seen.append(images if step == 1 else mix(images, index))
            if step == 3:
                mix.train()
                mix.set_epoch(6)
        return seen

    plain = run(dc.DiffCoreMix(store), loader_of())
    mix = needing_prefetch()
    assert_same(run(mix, dc.PrefetchLoader(loader_of(), mix)), plain)
    assert mix.round.item() == 6


def test_turned_on_while_batches_are_under_way(store: dc.CounterpartStore, needing_prefetch: Callable) -> None:
    def run(mix: dc.DiffCoreMix, batches: Any) -> list[Tensor]:
        seen = []
        mix.eval()
        for step, (images, _, index) in enumerate(batches):
            seen.append(mix(images, index))
            if step == 1:
                mix.train()
        return seen

    mix = needing_prefetch()
    assert_same(run(mix, dc.PrefetchLoader(loader_of(), mix)), run(dc.DiffCoreMix(store), loader_of()))


def test_eval_brings_no_counterparts(needing_prefetch: Callable) -> None:
    mix = needing_prefetch().eval()
    for images, _, index in dc.PrefetchLoader(loader_of(), mix):
        assert mix.handover.batch is None
        assert mix(images, index) is images
    ((_, labels),) = dc.PrefetchLoader([(torch.zeros(2, *SHAPE), torch.zeros(2))], mix)  # nor do they need an index
    assert labels.tolist() == [0, 0]
    assert mix.round.item() == 0


def test_leaving_early_and_starting_again(store: dc.CounterpartStore, needing_prefetch: Callable) -> None:
    mix = needing_prefetch()
    loader = dc.PrefetchLoader(list(loader_of()), mix)
    got = []
    for images, _, index in loader:
        got.append(mix(images, index))
        if len(got) == 2:
            break
    gc.collect()
    assert not any(thread.name.startswith("diffcore-prefetch") for thread in threading.enumerate())
    got += [mix(images, index) for images, _, index in loader]
    plain = dc.DiffCoreMix(store)
    batches = list(loader_of())
    assert_same(got, [plain(images, index) for images, _, index in batches[:2] + batches])
    images, _, index = next(iter(loader))  # the batch outlives its iterator
    assert mix(images, index).shape == images.shape


def test_an_exception_of_the_loader_comes_after_the_batches_before_it(needing_prefetch: Callable) -> None:
    def broken() -> Iterator[Any]:
        yield from list(loader_of())[:2]
        raise OSError("the disk is gone")

    mix = needing_prefetch()
    seen = []
    batches = iter(dc.PrefetchLoader(broken(), mix, depth=4))
    for _ in range(2):
        images, _, index = next(batches)
        seen.append(mix(images, index))
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert_same(seen, plain_run(dc.DiffCoreMix(mix.store))[:2])
    assert not any(thread.name.startswith("diffcore-prefetch") for thread in threading.enumerate())


def test_an_exception_of_the_loop_stops_the_thread(needing_prefetch: Callable) -> None:
    def step() -> None:
        for _ in dc.PrefetchLoader(loader_of(), needing_prefetch()):
            raise RuntimeError("training failed")

    with pytest.raises(RuntimeError, match="training failed"):
        step()
    gc.collect()
    assert not any(thread.name.startswith("diffcore-prefetch") for thread in threading.enumerate())


def test_a_store_that_changes_is_noticed(tmp_path: Path) -> None:
    store = write_store(tmp_path / "changing")
    batches = iter(dc.PrefetchLoader(loader_of(), dc.DiffCoreMix(store), depth=1))
    next(batches)
    for shard in tmp_path.glob("changing/counterparts-*"):
        shard.unlink()
    with pytest.raises(dc.StoreError, match="cannot be read any more"):
        list(batches)


def test_empty_batches_and_no_batches(needing_prefetch: Callable) -> None:
    mix = needing_prefetch()
    empty = (torch.empty(0, *SHAPE), torch.empty(0), torch.empty(0, dtype=torch.int64))
    ((images, _, index),) = dc.PrefetchLoader([empty], mix)
    with pytest.raises(ValueError, match="no batch of a PrefetchLoader"):  # the loop is over
        mix(images, index)
    for images, _, index in dc.PrefetchLoader([empty], mix):
        assert mix(images, index).shape == (0, *SHAPE)
    assert list(dc.PrefetchLoader([], mix)) == []


def test_without_a_mix_any_batch_passes() -> None:
    class Pair(NamedTuple):
        a: Tensor
        b: dict[str, Any]

    batches = [Pair(torch.ones(2), {"x": [torch.zeros(1)], "name": "n"}), torch.ones(3)]
    loader = dc.PrefetchLoader(batches, None, "cpu")
    assert len(loader) == 2
    first, second = loader
    assert isinstance(first, Pair)
    assert first.b["name"] == "n"
    assert second.tolist() == [1, 1, 1]
    moved = loader._move(batches[0], [])  # what a GPU gets
    assert isinstance(moved, Pair)
    assert torch.equal(moved.b["x"][0], torch.zeros(1))


def test_compiled_graphs_draw_for_themselves(store: dc.CounterpartStore) -> None:
    expected = plain_run(dc.DiffCoreMix(store))
    mix = dc.DiffCoreMix(store)
    compiled = torch.compile(mix, fullgraph=True, backend="eager", dynamic=False)
    got = [compiled(images, index) for images, _, index in dc.PrefetchLoader(loader_of(), compiled)]
    assert_same(got, expected)


# Never silently wrong.


def test_another_index_is_refused(needing_prefetch: Callable) -> None:
    mix = needing_prefetch()
    batches = iter(dc.PrefetchLoader(loader_of(), mix))
    first_images, _, first_index = next(batches)
    with pytest.raises(ValueError, match="not the one of the batch that the PrefetchLoader yielded last; iterate over"):
        mix(first_images, first_index.clone())
    images, _, index = next(batches)
    with pytest.raises(ValueError, match="not the one of the batch"):
        mix(first_images, first_index)
    assert mix.round.item() == 0
    index[0] = 3
    with pytest.raises(ValueError, match="the index was changed"):
        mix(images, index)


def test_mixing_twice_is_refused_where_the_rows_would_differ(needing_prefetch: Callable) -> None:
    mix = needing_prefetch()
    images, _, index = next(iter(dc.PrefetchLoader(loader_of(), mix)))
    mix(images, index)
    with pytest.raises(ValueError, match="perhaps mixed already"):
        mix(images, index)
    mix.set_epoch(2)
    images, _, index = next(iter(dc.PrefetchLoader(loader_of(), mix)))
    assert torch.equal(mix(images, index), mix(images, index))  # the same round, so the same rows
    mix.set_epoch(3)
    with pytest.raises(ValueError, match="the round has moved on"):
        mix(images, index)
    mix.set_epoch(2)
    mix.seed = 5
    with pytest.raises(ValueError, match="the seed was changed"):
        mix(images, index)


def test_without_a_loader_it_is_refused(needing_prefetch: Callable) -> None:
    mix = needing_prefetch()
    with pytest.raises(ValueError, match=r"is not in the memory of cpu.*PrefetchLoader\(loader, mix, device\)"):
        mix(*batch_of())


def test_where_the_rows_can_be_read_other_batches_mix_too(store: dc.CounterpartStore) -> None:
    mix, plain = dc.DiffCoreMix(store), dc.DiffCoreMix(store)
    extra = batch_of()
    for (images, _, index), (same, _, its_index) in zip(dc.PrefetchLoader(loader_of(), mix), loader_of(), strict=True):
        assert torch.equal(mix(*extra), plain(*extra))
        assert torch.equal(mix(images, index), plain(same, its_index))


def test_copies_and_pickles_hold_no_batch(store: dc.CounterpartStore) -> None:
    mix = dc.DiffCoreMix(store)
    images, _, index = next(iter(dc.PrefetchLoader(loader_of(), mix)))
    assert isinstance(mix.handover.batch, Prefetched)
    for other in (copy.deepcopy(mix), pickle.loads(pickle.dumps(mix))):
        assert other.handover.batch is None
        assert torch.equal(other(images, index), dc.DiffCoreMix(store)(images, index))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.zeros(2, *SHAPE), "got Tensor; wrap the dataset in IndexedDataset"),
        ((torch.zeros(2, *SHAPE), torch.zeros(2)), r"got torch.float32 \[2\]"),
        ((torch.zeros(2, *SHAPE), torch.tensor([0, NUM_SAMPLES])), "index 24 is outside the store"),
    ],
)
def test_bad_batches_are_refused(store: dc.CounterpartStore, batch: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(dc.PrefetchLoader([batch], dc.DiffCoreMix(store)))


def test_bad_settings_are_refused(store: dc.CounterpartStore) -> None:
    mix = dc.DiffCoreMix(store)
    with pytest.raises(ValueError, match="depth must be an integer of at least 1, got 0"):
        dc.PrefetchLoader([], mix, depth=0)
    with pytest.raises(ValueError, match="needs a device or a mix"):
        dc.PrefetchLoader([], None)
    with pytest.raises(ValueError, match="not to meta"):
        dc.PrefetchLoader([], mix, "meta")
    with pytest.raises(TypeError, match="mix must be a DiffCoreMix or None, got Identity"):
        dc.PrefetchLoader([], torch.nn.Identity())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="has no length"):
        len(dc.PrefetchLoader(iter([]), mix))
    with pytest.raises(ValueError, match="DiffCoreMix is on cpu, but the PrefetchLoader brings batches to cuda:3"):
        iter(dc.PrefetchLoader([], mix, "cuda:3"))
