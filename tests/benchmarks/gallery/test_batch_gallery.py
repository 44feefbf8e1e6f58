"""The gallery: which images it shows, what is said about them, and that a command repeats its picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from diffcore_gpu import CounterpartStore, CounterpartWriter, baselines
from diffcore_gpu.benchmarks.gallery import rows as gallery_rows
from diffcore_gpu.benchmarks.gallery.batch import choose, load_batch, load_model
from diffcore_gpu.benchmarks.gallery.rows import GalleryRow, given_rows, method_row, readable_names, shares
from diffcore_gpu.benchmarks.harness.random_data import MEAN, STD
from diffcore_gpu.benchmarks.harness.result_file import read_result
from diffcore_gpu.benchmarks.suites import run_suite
from diffcore_gpu.errors import BenchmarkError, StoreError

for package in ("torchvision", "timm", "sklearn"):
    pytest.importorskip(package, reason=f"the gallery needs {package}")

MODEL = "squeezenet1_1"
CLASSES = ["001.Black_footed_Albatross", "002.Bird_of_a_very_long_name_that_no_column_can_hold"]
SIDE = 48


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five grey images in two classes."""
    folder = tmp_path_factory.mktemp("gallery") / "birds"
    for number, label in enumerate([0, 0, 0, 1, 1]):
        (folder / CLASSES[label]).mkdir(parents=True, exist_ok=True)
        pixels = np.full((SIDE, SIDE, 3), 40 + 20 * number, np.uint8)
        pixels[:8] = 10 * number  # so that a saliency has something to find
        Image.fromarray(pixels).save(folder / CLASSES[label] / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> CounterpartStore:
    """A bright counterpart for each of the samples but the last."""
    path = tmp_path_factory.mktemp("gallery") / "store"
    labels = [0, 0, 0, 1, 1]
    with CounterpartWriter(
        path, num_samples=5, image_shape=(3, SIDE, SIDE), class_names=CLASSES, labels=labels
    ) as writer:
        for sample in range(4):
            image = torch.full((3, SIDE, SIDE), 200 + 10 * sample, dtype=torch.uint8)
            writer.add_pair(sample, writer.add_row(image, label=labels[sample]), 0.5)
    return CounterpartStore.open(path)


def test_names_are_written_for_people_in_letters_that_the_font_has() -> None:
    names = ["001.Black_footed_Albatross", "12", "3_4", "café noir", "鳥", "n01440764", "  ", "a\tb"]
    assert readable_names(names) == [
        "Black footed Albatross",
        "12",
        "3 4",
        "cafe noir",
        "class 4",
        "n01440764",
        "class 6",
        "a b",
    ]
    assert readable_names(["_", "2._"]) == ["class 0", "2."]


@given(st.lists(st.floats(0, 2, width=32), min_size=1, max_size=6))
def test_shares_are_the_classes_with_a_weight_the_largest_first(weights: list[float]) -> None:
    names = [f"class {chr(97 + label)}" for label in range(len(weights))]
    lines = shares(torch.tensor(weights), names)
    visible = {name: weight for name, weight in zip(names, weights, strict=True) if weight >= 0.005}
    if len(lines) == 1 and lines[0] in names:
        assert visible[lines[0]] == pytest.approx(1, abs=0.005)
        return
    found = [(line.rpartition(" ")[0], float(line.rpartition(" ")[2])) for line in lines]
    assert {name for name, _ in found} == set(visible)
    assert all(weight == pytest.approx(visible[name], abs=0.0051) for name, weight in found)
    assert [weight for _, weight in found] == sorted((weight for _, weight in found), reverse=True)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=30), st.integers(0, 5), st.data())
def test_chosen_samples_are_covered_and_of_many_classes(
    samples: list[tuple[int, bool]], seed: int, draw: st.DataObject
) -> None:
    labels, covered = np.array([label for label, _ in samples]), np.array([flag for _, flag in samples])
    count = draw.draw(st.integers(1, len(samples)))
    chosen = choose(labels, covered, count, seed)
    assert len(set(chosen)) == count
    assert int(covered[chosen].sum()) == min(count, int(covered.sum()))
    of_covered = [sample for sample in chosen if covered[sample]]
    classes = len({int(labels[sample]) for sample in of_covered})
    assert classes == min(len(of_covered), len(set(labels[covered].tolist())))
    assert chosen == choose(labels, covered, count, seed)


def our_row(data: Path, store: CounterpartStore) -> tuple[torch.Tensor, GalleryRow]:
    batch = load_batch(data, store, batch=5, size=None, seed=3)
    return batch.images, method_row("diffcore-mix", batch, torch.nn.Identity(), "", 3)


def test_our_row_shows_what_its_caption_says(data: Path, store: CounterpartStore) -> None:
    real, row = our_row(data, store)
    assert row.images is not None
    kinds = set()
    for position, done in enumerate(row.figures["plan"]):
        original, shown = real[position].double(), row.images[position].double()
        kinds.add(done["mix"])
        caption = row.captions[position][1]
        if done["mix"] == "none":
            assert caption == "not mixed"
            assert torch.equal(original, shown)
            continue
        counterpart = store.image(done["row"]).double()
        if done["mix"] == "pixel":
            assert caption == f"pixel, lambda {done['lambda']:.2f}"
            expected = done["lambda"] * original + (1 - done["lambda"]) * counterpart
        else:
            top, left, bottom, right = done["box"]
            inside, outside = (original, counterpart) if done["inside"] == "real" else (counterpart, original)
            assert caption == f"patch: {(bottom - top) * (right - left) / SIDE**2:.0%} {done['inside']}"
            expected = outside.clone()
            expected[:, top:bottom, left:right] = inside[:, top:bottom, left:right]
        assert (expected - shown).abs().max() <= 1
    assert kinds == {"pixel", "patch", "none"}
    assert all(list(weights.values()) == [1.0] for weights in row.figures["targets"])


def test_the_given_rows_show_real_images_and_their_counterparts(data: Path, store: CounterpartStore) -> None:
    batch = load_batch(data, store, batch=5, size=None, seed=3)
    real, counterparts = given_rows(batch, 3)
    assert real.images is not None
    assert counterparts.images is not None
    assert {captions[0] for captions in real.captions} == set(readable_names(CLASSES))
    for position, (name, sample) in enumerate(zip(batch.file_names, batch.index.tolist(), strict=True)):
        with Image.open(data / name) as image:
            assert np.array_equal(real.images[position].permute(1, 2, 0).numpy(), np.asarray(image))
        rows = store.rows(sample).tolist()
        expected = store.image(rows[0]) if rows else torch.full((3, SIDE, SIDE), 255, dtype=torch.uint8)
        assert torch.equal(counterparts.images[position], expected)
        assert counterparts.captions[position] == ([f"row {rows[0]}"] if rows else ["no counterpart"])
    assert len(given_rows(load_batch(data, None, batch=2, size=SIDE, seed=0), 0)) == 1


def test_a_method_that_mixes_labels_shows_a_draw_that_mixes(data: Path) -> None:
    batch = load_batch(data, None, batch=4, size=SIDE, seed=0)
    for seed in range(6):
        row = method_row("mixup", batch, torch.nn.Identity(), "", seed)
        assert row.images is not None
        # Mixup weighs all pairs alike; pairs of one class keep their whole label.
        method = baselines.make_baseline("mixup", 2, mean=MEAN, std=STD, seed=seed)
        for _ in range(row.figures["draw"]):
            given = baselines.Batch(gallery_rows._normalized(batch.images), batch.labels, batch.index)
            expected = method(given, torch.nn.Identity())
        shown = [[float(weights.get(name, 0)) for name in CLASSES] for weights in row.figures["targets"]]
        assert torch.allclose(torch.tensor(shown), expected.targets, atol=1e-5)
        assert float(expected.targets.amax(1).mean()) <= 0.85


def test_the_suite_draws_the_same_picture_again(tmp_path: Path) -> None:
    arguments = ["--model", MODEL, "--batch", "4", "--methods", "mixup", "guided-ap-greedy", "snapmix", "diffcore-mix"]
    made = {}
    for name, seed in (("one", "1"), ("same", "1"), ("other", "2")):
        files = ["--out", str(tmp_path / f"{name}.png"), "--json", str(tmp_path / f"{name}.json")]
        run_suite("batch-gallery", [*arguments, "--seed", seed, *files])
        made[name] = (tmp_path / f"{name}.png").read_bytes()
    assert made["one"] == made["same"] != made["other"]
    result = read_result(tmp_path / "one.json", "batch-gallery")
    assert [row["method"] for row in result["results"]] == ["mixup", "guided-ap-greedy", "snapmix", "diffcore-mix"]
    assert result["setting"]["model"] == f"a model with random weights ({MODEL})"
    assert len(result["setting"]["files"]) == 4
    for row in result["results"]:
        if row["method"] in ("mixup", "guided-ap-greedy"):
            assert [sum(weights.values()) for weights in row["targets"]] == pytest.approx([1] * 4, abs=1e-4)
    assert str(tmp_path) not in json.dumps(result)


def test_every_method_meets_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass in training mode moves a model's running means; the next method must not see that."""
    met, left = [], []

    class Trains:
        needs = baselines.Need.GRADIENTS

        def __call__(self, batch: baselines.Batch, model: torch.nn.Module) -> baselines.Mixed:
            met.append(model.state_dict()["bn1.running_mean"].clone())
            model(batch.images)
            left.append(model.state_dict()["bn1.running_mean"].clone())
            return baselines.Mixed(batch.images, torch.full((len(batch.images), 10), 0.1))

    monkeypatch.setattr(gallery_rows, "make_baseline", lambda *_, **__: Trains())
    out = ["--out", str(tmp_path / "gallery.png")]
    run_suite("batch-gallery", ["--model", "resnet18", "--batch", "2", "--methods", "mixup", "cutmix", *out])
    assert torch.equal(met[0], met[1])
    assert not torch.equal(met[0], left[0])


def test_what_cannot_be_drawn_is_a_row_that_says_why(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str, *_: object, **__: object) -> object:
        raise ImportError(f"{name} needs a package that is not there")

    monkeypatch.setattr(gallery_rows, "make_baseline", missing)
    path = tmp_path / "gallery.json"
    out = ["--out", str(tmp_path / "gallery.png"), "--json", str(path)]
    arguments = ["--data", str(data), "--batch", "2", "--size", "32", "--model", MODEL]
    run_suite("batch-gallery", [*arguments, "--methods", "cutmix", "diffcore-mix", *out])
    said = capsys.readouterr().out
    assert "cutmix is not shown: cutmix needs a package that is not there" in said
    assert "diffcore-mix is not shown: it mixes with generated counterparts; give a store of them with --store" in said
    assert "under 0 methods" in said
    assert [set(row) for row in read_result(path)["results"]] == [{"method", "failed"}] * 2


def test_a_batch_of_one_is_too_small_for_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gallery.png"
    run_suite("batch-gallery", ["--batch", "1", "--methods", "mixup", "augmix", "--model", MODEL, "--out", str(out)])
    assert "a batch of 1 is too small" in capsys.readouterr().out
    with Image.open(out) as picture:
        assert picture.mode == "RGB"


def test_methods_that_mix_inside_the_model_say_so(data: Path) -> None:
    batch = load_batch(data, None, batch=4, size=SIDE, seed=0)
    model, words = load_model("resnet18", 2, weights=None, pretrained=False, seed=0)
    notes = set()
    for seed in range(6):
        row = method_row("manifold-mixup", batch, model, words, seed)
        assert row.images is not None
        untouched = torch.equal(row.images, batch.images)
        assert untouched == ("mixes inside the model" in row.note)
        notes.add(untouched)
    assert notes == {True, False}


def no_dict(tmp: Path) -> list[str]:
    (tmp / "weights.pt").write_bytes(b"no weights")
    return ["--weights", str(tmp / "weights.pt")]


def other_model(tmp: Path) -> list[str]:
    save_file({"weight": torch.zeros(1)}, tmp / "w.safetensors")
    return ["--weights", str(tmp / "w.safetensors")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (lambda tmp: ["--out", str(tmp / "gallery.jpg")], r"gallery\.jpg: does not end in \.png"),
        (lambda tmp: ["--out", str(tmp / "nowhere" / "g.png")], r"g\.png: is a folder or lies in none"),
        (lambda tmp: ["--data", str(tmp / "nowhere")], r"--real .*nowhere: there is no such folder"),
        (lambda tmp: ["--store", str(tmp)], r"--store needs --real"),
        (lambda tmp: ["--batch", "81"], r"without --real there are 80 digits of 32×32: give a smaller --batch"),
        (lambda tmp: ["--size", "64"], r"without --real there are 80 digits of 32×32: .* no --size"),
        (lambda tmp: ["--model", "squeezenet1_x"], r"there is no model 'squeezenet1_x'; did you mean squeezenet1_"),
        (lambda tmp: ["--weights", str(tmp / "none.pt")], r"none\.pt: there is no such file"),
        (lambda tmp: ["--weights", str(tmp / "none.safetensors")], r"none\.safetensors: there is no such file"),
        (no_dict, r"weights\.pt: cannot be read as a state dict"),
        (other_model, r"w\.safetensors: do not fit squeezenet1_1 with 10 classes: .*[^.]\.$"),
        (lambda tmp: ["--weights", "w.pt", "--pretrained"], r"--weights and --pretrained exclude each other"),
    ],
)
def test_mistakes_are_named(arguments: Callable[[Path], list[str]], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=sentence):
        run_suite("batch-gallery", ["--out", str(tmp_path / "g.png"), "--model", MODEL, *arguments(tmp_path)])
    assert not (tmp_path / "g.png").exists()


def test_a_batch_or_a_size_that_the_folder_does_not_have_is_named(data: Path, store: CounterpartStore) -> None:
    with pytest.raises(BenchmarkError, match=r"birds: holds 5 images, too few for --batch 6"):
        load_batch(data, store, batch=6, size=None, seed=0)
    with pytest.raises(BenchmarkError, match=r"holds images of 48×48, but --size is 64; leave --size out"):
        load_batch(data, store, batch=2, size=64, seed=0)


def test_a_store_of_other_images_is_refused(data: Path, small_store: CounterpartStore) -> None:
    with pytest.raises(StoreError, match="made for a dataset of 8 samples"):
        load_batch(data, small_store, batch=2, size=None, seed=0)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "birds" / "a").mkdir(parents=True)
    (tmp_path / "birds" / "a" / "x.jpg").write_bytes(b"no image")
    with pytest.raises(BenchmarkError, match=r"x\.jpg: is not an image that can be shown: .*another --seed"):
        load_batch(tmp_path / "birds", None, batch=1, size=16, seed=0)


def test_an_unknown_method_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run_suite("batch-gallery", ["--methods", "mixupp"])
    assert stop.value.code == 2
    assert "there is no method 'mixupp'; did you mean mixup" in capsys.readouterr().err
