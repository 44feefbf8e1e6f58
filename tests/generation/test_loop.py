"""The loop with a fake model and a fake filter."""

from __future__ import annotations

import json
import os
import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from diffcore_gpu.errors import DiffcoreError, GenerationError, StoreError
from diffcore_gpu.generation import recorder, work
from diffcore_gpu.generation.draws import draw
from diffcore_gpu.generation.loop import GenerationListener, generate
from diffcore_gpu.generation.prompts import PromptSet
from diffcore_gpu.generation.report.folder import ReportFolder
from diffcore_gpu.generation.work import plan_work
from diffcore_gpu.packing.imagefolder import scan_image_folder
from diffcore_gpu.store import CounterpartStore
from tests.generation import fakes


@pytest.fixture
def real(tmp_path):
    return fakes.real_images(tmp_path / "real")


def run(real, out, *, model=None, similarity_filter=None, listener=None, resume=False, overwrite=False, **changes):
    return generate(
        plan_work(scan_image_folder(real), fakes.settings(**changes)),
        out,
        model or fakes.FakeTextToImage(),
        similarity_filter or fakes.FakeFilter(fakes.labels()),
        listener,
        resume=resume,
        overwrite=overwrite,
    )


def one_by_one(settings, copies=1):
    """What must come out, from the definition: for each counterpart, attempts until one passes."""
    found = {}
    labels = fakes.labels()
    for sample, label in enumerate(labels):
        for copy in range(copies):
            for attempt in range(settings.max_attempts):
                place = np.array([sample]), np.array([copy])
                (drawn,) = draw(settings.seed, *place, attempt, len(settings.prompts.contextual))
                image = fakes.FakeTextToImage().generate([""], [""], [drawn.seed])
                similarity, accepted = fakes.FakeFilter(labels).judge([sample], image)
                if accepted:
                    prompt = settings.prompts.render(drawn.prompt_id, list(fakes.CLASSES)[label])
                    found[sample, copy] = (drawn.seed, attempt, prompt, float(similarity), image[0])
                    break
    return found


@pytest.mark.parametrize("copies", [1, 3])
def test_what_comes_out(real, tmp_path, copies):
    report = run(real, tmp_path / "out", per_sample=copies)
    expected = one_by_one(fakes.settings(), copies)
    store = CounterpartStore.open(tmp_path / "out")
    store.verify()
    assert store.num_rows == store.num_pairs == len(expected) == report.total.accepted
    found = set()
    for sample in range(store.num_samples):
        for row, similarity in zip(store.rows(sample).tolist(), store.similarities(sample).tolist(), strict=True):
            seed, attempt = int(store.row_seed([row])), int(store.row_attempt([row]))
            prompt = store.prompts[int(store.row_prompt([row]))]
            found.add((sample, seed, attempt, prompt, similarity))
            image = next(value[4] for value in expected.values() if value[0] == seed)
            assert torch.equal(store.image(row), image)
    assert found == {(sample, *value[:4]) for (sample, _), value in expected.items()}


class NotingFilter(fakes.FakeFilter):
    """Remembers the images that passed."""

    def __init__(self, labels):
        super().__init__(labels)
        self.passed = []

    def judge(self, samples, images):
        similarity, accepted = super().judge(samples, images)
        self.passed += list(images[accepted])
        return similarity, accepted


@pytest.mark.parametrize("codec", ["raw", "jpeg", "jpeg:60", "webp"])
def test_the_filter_judges_what_a_reader_will_see(real, tmp_path, codec):
    noting = NotingFilter(fakes.labels())
    run(real, tmp_path / "out", similarity_filter=noting, codec=codec)
    store = CounterpartStore.open(tmp_path / "out")
    store.verify()
    assert store.metadata["codec"] == codec
    assert torch.equal(store.images(range(store.num_rows)), torch.stack(noting.passed))
    assert torch.equal(store.similarities(0), noting.judge([0], store.images(store.rows(0)))[0])


def test_another_codec_is_refused_when_resuming(real, tmp_path):
    run(real, tmp_path / "out", codec="jpeg")
    with pytest.raises(GenerationError, match="begun with other settings: codec was jpeg, now webp"):
        run(real, tmp_path / "out", codec="webp", resume=True)
    with pytest.raises(StoreError, match=r"^codec must be raw, .* not 'gif'\.$"):
        run(real, tmp_path / "other", codec="gif")
    assert not (tmp_path / "other").exists()


def test_every_verdict_is_counted(real, tmp_path):
    model = fakes.FakeTextToImage()
    report = run(real, tmp_path / "out", model=model)
    assert report.total.generated == len(model.asked) == len(set(model.asked))
    assert report.total.accepted + report.total.discarded == report.total.generated
    assert report.total.covered + report.total.never_passed == 11
    assert [part.samples for part in report.classes] == list(fakes.CLASSES.values())
    assert [part.threshold for part in report.classes] == [0.4, 0.6, 0.5]
    assert sum(part.histogram.total for part in report.classes) == report.total.generated
    counts = CounterpartStore.open(tmp_path / "out").metadata["counts"]
    assert (counts["generated"], counts["discarded"]) == (report.total.generated, report.total.discarded)
    assert sum(counts["discarded_per_class"]) == report.total.discarded


def test_what_never_passes_is_named(real, tmp_path):
    report = run(real, tmp_path / "out", max_attempts=2)
    store = CounterpartStore.open(tmp_path / "out")
    bare = [sample for sample in range(11) if not len(store.rows(sample))]
    assert [sample.sample for sample in report.never_passed] == bare != []
    thresholds = fakes.THRESHOLDS[fakes.labels()]
    assert all(sample.attempts == 2 and sample.best <= thresholds[sample.sample] for sample in report.never_passed)


def test_each_attempt_has_another_prompt(real, tmp_path):
    model = fakes.FakeTextToImage()
    never = fakes.FakeFilter(fakes.labels(), torch.full((3,), 1.0, dtype=torch.float64))
    run(real, tmp_path / "out", model=model, similarity_filter=never)
    texts = [prompt for prompt, _, _ in model.asked]
    for sample in range(11):
        assert len({texts[sample + 11 * attempt] for attempt in range(3)}) == 3


def test_nothing_passes(real, tmp_path):
    never = fakes.FakeFilter(fakes.labels(), torch.full((3,), 1.0, dtype=torch.float64))
    report = run(real, tmp_path / "out", similarity_filter=never)
    assert (report.total.generated, report.total.accepted, report.total.never_passed) == (33, 0, 11)
    assert CounterpartStore.open(tmp_path / "out").num_rows == 0


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_batch_size_changes_nothing(real, tmp_path, batch_size):
    run(real, tmp_path / "a" / "out")
    run(real, tmp_path / "b" / "out", batch_size=batch_size)
    assert fakes.contents(tmp_path / "a" / "out") == fakes.contents(tmp_path / "b" / "out")


@pytest.mark.parametrize(("fraction", "expected"), [(0.5, [3, 2, 1]), (0.25, [1, 1, 1]), (0.2, [1, 1, 0])])
def test_fraction_is_stratified(real, tmp_path, fraction, expected):
    report = run(real, tmp_path / "out", fraction=fraction, max_attempts=30)
    assert [part.wanted for part in report.classes] == [part.covered for part in report.classes] == expected


def test_images_are_fitted_to_the_store(real, tmp_path):
    model = fakes.FakeTextToImage(size=16)
    run(real, tmp_path / "out", model=model, height=8, width=4, max_attempts=1)
    store = CounterpartStore.open(tmp_path / "out")
    assert store.image_shape == (3, 8, 4)
    original = fakes.FakeTextToImage(size=16).generate([""], [""], [int(store.row_seed([0]))])[0]
    middle = Image.fromarray(original.permute(1, 2, 0).numpy()).resize((8, 8), Image.Resampling.BICUBIC)
    # cover 8 x 4 by 8 x 8, then cut the middle
    expected = np.asarray(middle).transpose(2, 0, 1)[:, :, 2:6].astype(int)
    assert np.abs(store.image(0).numpy().astype(int) - expected).max() <= 1


def test_recording_overlaps_with_generating(real, tmp_path):
    judging, generating = threading.Event(), threading.Event()

    class Model(fakes.FakeTextToImage):
        def generate(self, *arguments):
            if self.calls == 1:
                generating.set()
                assert judging.wait(30), "the first batch is not judged while the second is generated"
            return super().generate(*arguments)

    class Filter(fakes.FakeFilter):
        def judge(self, *arguments):
            judging.set()
            assert generating.wait(30), "the second batch is not generated while the first is judged"
            return super().judge(*arguments)

    assert run(real, tmp_path / "out", model=Model(), similarity_filter=Filter(fakes.labels())).total.generated == 19


def test_progress(real, tmp_path):
    seen = []
    report = run(real, tmp_path / "out", listener=GenerationListener(progressed=seen.append))
    assert [standing.generated for standing in seen] == [4, 8, 11, 15, 18, 19]
    assert (seen[-1].settled, seen[-1].total, seen[-1].expected) == (11, 11, 0)
    assert seen[-1].accepted == report.total.accepted
    assert all(standing.images_per_second > 0 for standing in seen)


class Broken(fakes.FakeTextToImage):
    """Fails in one of its calls."""

    def __init__(self, call, error):
        super().__init__(rounding=True)
        self._call, self._error = call, error

    def generate(self, *arguments):
        if self.calls == self._call:
            raise self._error
        return super().generate(*arguments)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GenerationError("no memory")])
def test_stopped_in_every_batch(real, tmp_path, error):
    run(real, tmp_path / "undisturbed" / "out", model=fakes.FakeTextToImage(rounding=True))
    undisturbed = fakes.contents(tmp_path / "undisturbed" / "out")
    for call in range(6):
        out = tmp_path / f"stopped{call}" / "out"
        said = []
        with pytest.raises(type(error)):
            run(real, out, model=Broken(call, error), listener=GenerationListener(said.append))
        kept = ["What was made so far is kept; --resume goes on from there."]
        assert said == ([] if isinstance(error, KeyboardInterrupt) else kept)
        resumed = fakes.FakeTextToImage(rounding=True)
        run(real, out, model=resumed, resume=True)
        assert fakes.contents(out) == undisturbed
        assert len(resumed.asked) == 19 - [0, 4, 8, 11, 15, 18][call], "what was recorded is not generated again"


def test_filter_fails(real, tmp_path):
    class Filter(fakes.FakeFilter):
        def judge(self, samples, images):
            similarity, accepted = super().judge(samples, images)
            return (similarity * float("nan") if 8 in samples else similarity), accepted

    with pytest.raises(GenerationError, match="fake filter gave a similarity that is no number"):
        run(real, tmp_path / "a" / "out", similarity_filter=Filter(fakes.labels()))
    run(real, tmp_path / "a" / "out", resume=True)
    run(real, tmp_path / "b" / "out")
    assert fakes.contents(tmp_path / "a" / "out") == fakes.contents(tmp_path / "b" / "out")


def interrupted(real, out, **changes):
    with pytest.raises(KeyboardInterrupt):
        run(real, out, model=Broken(2, KeyboardInterrupt()), **changes)


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 12}, "seed was 11, now 12"),
        ({"max_attempts": 4}, "max attempts was 3, now 4"),
        ({"fraction": 0.5}, "fraction was 1.0, now 0.5"),
        ({"width": 5}, r"size of the store's images was \[4, 4\], now \[4, 5\]"),
        ({"prompts": PromptSet("other", ("a {label}",), "no {label}, blurred")}, "prompt set was test, now other"),
        ({"model": fakes.FakeTextToImage(gamma=5.0)}, r"settings: guidance gamma was 3.0, now 5.0\. Give"),
    ],
)
def test_other_settings(real, tmp_path, changes, message, finished):
    out = tmp_path / "out"
    if finished:
        run(real, out, model=fakes.FakeTextToImage(rounding=True))
    else:
        interrupted(real, out)
    before = fakes.contents(out)
    with pytest.raises(GenerationError, match=f"was begun with other.*{message}"):
        run(real, out, resume=True, **changes)
    assert fakes.contents(out) == before


def test_other_filter(real, tmp_path):
    interrupted(real, tmp_path / "out")
    other = fakes.FakeFilter(fakes.labels())
    other.model = "another"
    with pytest.raises(GenerationError, match="filter model was fake filter, now another"):
        run(real, tmp_path / "out", similarity_filter=other, resume=True)
    other = fakes.FakeFilter(fakes.labels(), torch.tensor([0.4, 0.7, 0.5]))
    with pytest.raises(GenerationError, match=r"that of class 1 was 0.6000, now 0.7000"):
        run(real, tmp_path / "out", similarity_filter=other, resume=True)
    rounded = fakes.FakeFilter(fakes.labels(), fakes.THRESHOLDS + 1e-7)
    assert run(real, tmp_path / "out", similarity_filter=rounded, resume=True).total.generated == 19


def test_other_dataset(real, tmp_path):
    interrupted(real, tmp_path / "out")
    shutil.copy(real / "8" / "0.png", real / "8" / "7.png")
    more = fakes.FakeFilter([*fakes.labels(), 2])
    with pytest.raises(GenerationError, match=r"belongs to another dataset than .*real: .* or --overwrite"):
        run(real, tmp_path / "out", similarity_filter=more, resume=True)


@pytest.mark.parametrize("damage", ["changed", "removed", "of another run"])
def test_damaged_journal(real, tmp_path, damage):
    interrupted(real, tmp_path / "out")
    path = tmp_path / "out.report" / "verdicts.bin"
    if damage == "changed":
        path.write_bytes(b"\1" + path.read_bytes()[1:])
    elif damage == "removed":
        path.unlink()
    else:
        interrupted(real, tmp_path / "other", seed=1)
        shutil.copy(tmp_path / "other.report" / "verdicts.bin", path)
    with pytest.raises(GenerationError, match=r"verdicts.bin is not the journal of this store: .*--overwrite"):
        run(real, tmp_path / "out", resume=True)


def test_overwrite(real, tmp_path):
    run(real, tmp_path / "a" / "out", seed=1)
    run(real, tmp_path / "a" / "out", overwrite=True)
    run(real, tmp_path / "b" / "out")
    assert fakes.contents(tmp_path / "a" / "out") == fakes.contents(tmp_path / "b" / "out")


def test_finished_already(real, tmp_path):
    first = run(real, tmp_path / "out")
    model, said = fakes.FakeTextToImage(), []
    again = run(real, tmp_path / "out", model=model, listener=GenerationListener(said.append), resume=True)
    assert again == first
    assert model.calls == 0
    assert said == [f"{tmp_path / 'out'} is finished already."]
    (tmp_path / "out.report" / "report.json").unlink()
    assert run(real, tmp_path / "out", resume=True).as_json()["classes"] == first.as_json()["classes"]
    assert json.loads((tmp_path / "out.report" / "report.json").read_text())["generated"] == 19


def test_resume_and_overwrite(real, tmp_path):
    with pytest.raises(GenerationError, match=r"Give one of --resume, to go on, and --overwrite"):
        run(real, tmp_path / "out", resume=True, overwrite=True)


@pytest.mark.parametrize("state", ["inside", "file", "finished", "unfinished", "full"])
def test_no_place(real, tmp_path, monkeypatch, state):
    out = tmp_path / "out"
    message = {
        "inside": "lies inside",
        "file": "is a file; a store is a folder",
        "finished": "holds a finished store; give --overwrite",
        "unfinished": "holds an unfinished store; give --resume",
        "full": "has no space: the store may take 0.1 GiB, and 0.0 GiB are free",
    }[state]
    if state == "inside":
        out = real / "owl"
    elif state == "file":
        out.touch()
    elif state == "finished":
        run(real, out)
    elif state == "unfinished":
        interrupted(real, out)
    else:
        monkeypatch.setattr(work.shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 20))
    model = fakes.FakeTextToImage()
    with pytest.raises(GenerationError, match=message):
        run(real, out, model=model)
    assert model.calls == 0


def test_the_disk_fills_up(real, tmp_path, monkeypatch):
    """Whatever write fails first, the run can be resumed and ends with the same bytes."""
    monkeypatch.setattr(recorder, "SAVE_SECONDS", 0.0)
    run(real, tmp_path / "undisturbed" / "out")
    undisturbed = fakes.contents(tmp_path / "undisturbed" / "out")
    for writes in range(0, 30, 5):
        out, left = tmp_path / f"full{writes}" / "out", [writes]

        def pwrite(*arguments, left=left, real_pwrite=os.pwrite):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            return real_pwrite(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr("os.pwrite", pwrite)
            with pytest.raises(StoreError, match="No space left on device"):
                run(real, out)
        run(real, out, resume=True)
        assert fakes.contents(out) == undisturbed


def test_class_without_images(real, tmp_path):
    (real / "empty").mkdir()
    with pytest.raises(GenerationError, match=r"The class 'empty' of .* has no image; add images, or remove"):
        run(real, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_fraction_of_nothing(real, tmp_path):
    with pytest.raises(GenerationError, match="less than half an image; give a larger --fraction"):
        run(real, tmp_path / "out", fraction=0.01)


def test_thresholds_that_are_none(real, tmp_path):
    for thresholds, message in (
        (torch.tensor([0.4, 0.6]), "has thresholds for 2 classes, and .* has 3"),
        (torch.tensor([0.4, float("nan"), 0.6]), "class '002.Red_fox' has no threshold.*--threshold"),
    ):
        with pytest.raises(GenerationError, match=message):
            run(real, tmp_path / "out", similarity_filter=fakes.FakeFilter(fakes.labels(), thresholds))
    assert not (tmp_path / "out").exists()


def test_a_model_that_gives_something_else(real, tmp_path):
    class Model(fakes.FakeTextToImage):
        def generate(self, *arguments):
            return super().generate(*arguments).float()

    with pytest.raises(DiffcoreError, match=r"The model gave torch.float32 \[4, 3, 4, 4\] for 4 prompts"):
        run(real, tmp_path / "out", model=Model())


def test_no_negative_prompt(real, tmp_path):
    class Model(fakes.FakeTextToImage):
        def describe(self):
            return {**super().describe(), "negative_prompt": False}

    run(real, tmp_path / "out", model=Model())
    discards = ReportFolder.beside(tmp_path / "out").discards()
    assert {candidate.negative_prompt for candidate, _ in discards} == {""}
