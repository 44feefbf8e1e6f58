"""Stores that grow run by run have what one run makes at once."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcore_gpu.errors import GenerationError, StoreError
from diffcore_gpu.generation import recorder
from diffcore_gpu.generation.draws import choose_samples
from diffcore_gpu.generation.loop import GenerationListener, generate
from diffcore_gpu.generation.report.folder import ReportFolder
from diffcore_gpu.generation.work import plan_work
from diffcore_gpu.packing.imagefolder import scan_image_folder
from diffcore_gpu.store import CounterpartStore, CounterpartWriter, merge, prune
from tests.generation import fakes
from tests.torture.calls import without_flushing


@pytest.fixture
def real(tmp_path):
    return fakes.real_images(tmp_path / "real")


def run(real, out, *, model=None, similarity_filter=None, say=lambda text: None, **changes):
    how = {name: changes.pop(name) for name in ("resume", "overwrite", "append") if name in changes}
    return generate(
        plan_work(scan_image_folder(real), fakes.settings(**changes)),
        out,
        model or fakes.FakeTextToImage(),
        similarity_filter or fakes.FakeFilter(fakes.labels()),
        GenerationListener(say=say),
        **how,
    )


def counterparts(out):
    """Every counterpart of a store with all that is known of it, whatever its row."""
    store = CounterpartStore.open(out)
    store.verify()
    found = []
    for sample in range(store.num_samples):
        for row, similarity in zip(store.rows(sample).tolist(), store.similarities(sample).tolist(), strict=True):
            seed, attempt, prompt = (int(store.row_column(name, [row])) for name in ("seed", "attempt", "prompt"))
            found.append((sample, seed, store.prompts[prompt], attempt, similarity, store.image(row).numpy().tobytes()))
    assert len(found) == store.num_rows
    return sorted(found)


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    fractions=st.lists(st.floats(0.01, 1), min_size=2, max_size=2),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60)
def test_a_larger_fraction_chooses_more_of_the_same(labels, fractions, seed):
    labels = np.array(labels, np.int64)
    fewer, more = (set(choose_samples(labels, 4, fraction, seed).tolist()) for fraction in sorted(fractions))
    assert fewer <= more


STEPS = [
    [{"fraction": 0.5}, {}],
    [{"fraction": 0.2}, {"fraction": 0.5}, {"fraction": 0.5, "per_sample": 2}, {"per_sample": 3}],
    [{"per_sample": 1}, {"per_sample": 2}],
]


@pytest.mark.parametrize("steps", STEPS)
def test_grown_is_as_if_made_at_once(real, tmp_path, steps):
    models = []
    for number, changes in enumerate(steps):
        models.append(fakes.FakeTextToImage())
        grown = run(real, tmp_path / "grown", model=models[-1], append=number > 0, **changes)
    model = fakes.FakeTextToImage()
    at_once = run(real, tmp_path / "once", model=model, **steps[-1])
    assert counterparts(tmp_path / "grown") == counterparts(tmp_path / "once")
    asked = [image for part in models for image in part.asked]
    assert sorted(asked) == sorted(model.asked)  # nothing twice, and what was given up is not tried again
    left_out = {"seconds", "wall_seconds", "timed_images", "images_per_second", "accepted_per_second", "stage_shares"}
    reports = [{k: v for k, v in report.as_json().items() if k not in left_out} for report in (grown, at_once)]
    assert reports[0] == reports[1]
    discards = [
        [(candidate, path.read_bytes()) for candidate, path in ReportFolder.beside(tmp_path / name).discards()]
        for name in ("grown", "once")
    ]
    assert discards[0] == discards[1]
    metadata = [CounterpartStore.open(tmp_path / name).metadata for name in ("grown", "once")]
    for name in ("counts", "thresholds", "fraction", "per_sample", "seed", "filter"):
        assert metadata[0][name] == metadata[1][name]


def test_shards_stay_and_history_is_kept(real, tmp_path):
    run(real, tmp_path / "out", fraction=0.5)
    before = CounterpartStore.open(tmp_path / "out")
    run(real, tmp_path / "out", append=True)
    after = CounterpartStore.open(tmp_path / "out")
    assert after.manifest.shards[: len(before.manifest.shards)] == before.manifest.shards
    (entry,) = after.manifest.history
    assert entry["metadata"] == before.metadata
    assert (entry["operation"], entry["before"], entry["rows"]) == (
        "append",
        before.checksum,
        [before.num_rows, after.num_rows],
    )
    assert after.metadata["runs"] == [
        {"fraction": 0.5, "per_sample": 1, "images": before.metadata["counts"]["generated"]}
    ]
    assert torch.equal(before.images(range(before.num_rows)), after.images(range(before.num_rows)))


def test_nothing_to_add(real, tmp_path):
    first = run(real, tmp_path / "out")
    before = fakes.contents(tmp_path / "out")
    model, said = fakes.FakeTextToImage(), []
    again = run(real, tmp_path / "out", model=model, append=True, say=said.append)
    assert fakes.contents(tmp_path / "out") == before
    assert (again, model.calls) == (first, 0)
    assert said == [f"{tmp_path / 'out'} is finished already."]


class Broken(fakes.FakeTextToImage):
    """Fails in one of its calls."""

    def __init__(self, call):
        super().__init__()
        self._call = call

    def generate(self, *arguments):
        if self.calls == self._call:
            raise KeyboardInterrupt
        return super().generate(*arguments)


def test_interrupted_in_every_batch(real, tmp_path, monkeypatch):
    without_flushing(monkeypatch)
    monkeypatch.setattr(recorder, "SAVE_SECONDS", 0.0)
    run(real, tmp_path / "half" / "out", fraction=0.5)
    shutil.copytree(tmp_path / "half", tmp_path / "undisturbed")
    model = fakes.FakeTextToImage()
    run(real, tmp_path / "undisturbed" / "out", model=model, append=True)
    undisturbed = fakes.contents(tmp_path / "undisturbed" / "out")
    for call in range(model.calls):
        folder = tmp_path / f"stopped{call}"
        shutil.copytree(tmp_path / "half", folder)
        old = CounterpartStore.open(folder / "out")
        with pytest.raises(KeyboardInterrupt):
            run(real, folder / "out", model=Broken(call), append=True)
        assert CounterpartStore.open(folder / "out").checksum == old.checksum
        with pytest.raises(GenerationError, match="holds an unfinished store; give --resume"):
            run(real, folder / "out", append=True)
        with pytest.raises(GenerationError, match=r"was begun with other settings: per sample was 1, now 2"):
            run(real, folder / "out", append=True, resume=True, per_sample=2)
        rest = fakes.FakeTextToImage()
        run(real, folder / "out", model=rest, append=True, resume=True)
        assert fakes.contents(folder / "out") == undisturbed
        assert len(rest.asked) <= len(model.asked)


def test_killed_between_the_store_and_its_report(real, tmp_path):
    run(real, tmp_path / "out", fraction=0.5)
    before = (tmp_path / "out.report" / "report.json").read_bytes()
    report = run(real, tmp_path / "out", append=True)
    (tmp_path / "out.report" / "report.json").write_bytes(before)
    again = run(real, tmp_path / "out", append=True, resume=True)
    assert again.as_json()["classes"] == report.as_json()["classes"]
    assert json.loads((tmp_path / "out.report" / "report.json").read_text())["generated"] == 19


def test_a_pruned_store_grows(real, tmp_path):
    run(real, tmp_path / "out", fraction=0.5)
    prune(tmp_path / "out", rows=[0], compact=True)
    pruned = counterparts(tmp_path / "out")
    run(real, tmp_path / "out", append=True)
    run(real, tmp_path / "once")
    assert set(pruned) < set(counterparts(tmp_path / "out")) < set(counterparts(tmp_path / "once"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 12}, "was made with other settings: seed was 11, now 12"),
        ({"max_attempts": 4}, "max attempts was 3, now 4"),
        ({"width": 5}, r"size of the store's images was \[4, 4\], now \[4, 5\]"),
        ({"fraction": 0.4}, "was made with fraction 0.5 and 2 per sample, which is more than 0.4 and 2; a store only"),
        ({"per_sample": 1}, "was made with fraction 0.5 and 2 per sample, which is more than 1 and 1; a store only"),
        ({"model": fakes.FakeTextToImage(gamma=5.0)}, "guidance gamma was 3.0, now 5.0"),
        ({"overwrite": True}, "Give one of --append, to add to the store, and --overwrite"),
    ],
)
def test_what_must_be_the_same(real, tmp_path, changes, message):
    run(real, tmp_path / "out", fraction=0.5, per_sample=2)
    before = fakes.contents(tmp_path / "out")
    with pytest.raises(GenerationError, match=message):
        run(real, tmp_path / "out", append=True, **{"per_sample": 2, **changes})
    assert fakes.contents(tmp_path / "out") == before


def test_stores_that_generate_cannot_add_to(real, tmp_path):
    with pytest.raises(GenerationError, match="holds no finished store to add to"):
        run(real, tmp_path / "none", append=True)
    run(real, tmp_path / "a", fraction=0.5)
    run(real, tmp_path / "b", fraction=0.5, seed=5)
    merge(tmp_path / "merged", [tmp_path / "a", tmp_path / "b"])
    with pytest.raises(GenerationError, match="was made with other settings: seed was not set, now 11"):
        run(real, tmp_path / "merged", append=True)
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    merge(tmp_path / "alike", [tmp_path / "a", tmp_path / "c"])
    with pytest.raises(GenerationError, match="was merged of others, so its counterparts are not those of one run"):
        run(real, tmp_path / "alike", append=True)
    with pytest.raises(GenerationError, match=r"verdicts.bin is not the journal .*; the folder beside the store"):
        run(real, tmp_path / "c", append=True)


def test_other_real_images(real, tmp_path):
    run(real, tmp_path / "out", fraction=0.5)
    shutil.copy(real / "8" / "0.png", real / "8" / "7.png")
    more = fakes.FakeFilter([*fakes.labels(), 2])
    with pytest.raises(GenerationError, match=r"belongs to another dataset than"):
        run(real, tmp_path / "out", similarity_filter=more, append=True)


def test_a_writer_without_append_does_not_go_on(real, tmp_path):
    run(real, tmp_path / "out", fraction=0.5)
    with pytest.raises(KeyboardInterrupt):
        run(real, tmp_path / "out", model=Broken(1), append=True)
    scan = scan_image_folder(real)
    with pytest.raises(StoreError, match="holds unfinished work that adds to its store; pass append=True"):
        CounterpartWriter(
            tmp_path / "out",
            num_samples=len(scan),
            image_shape=(3, 4, 4),
            class_names=scan.class_names,
            labels=scan.labels,
            file_names=scan.file_names,
            resume=True,
        )
