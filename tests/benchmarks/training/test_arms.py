"""What each arm does to a batch, that it draws by epoch alone, and that its settings are checked before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffcore_gpu import CounterpartStore
from diffcore_gpu.baselines import BASELINES, Batch
from diffcore_gpu.benchmarks.harness.random_data import MEAN, STD
from diffcore_gpu.benchmarks.training.arms import Method, Prepared, check_settings, make_method
from diffcore_gpu.benchmarks.training.data import Data, open_data
from diffcore_gpu.benchmarks.training.models import make_model
from diffcore_gpu.benchmarks.training.preparation import check_trained, prepare_arms, real_store, restrict
from diffcore_gpu.benchmarks.training.recipe import Arm, Training, load_recipe
from diffcore_gpu.errors import BenchmarkError
from tests.baselines.small_models import SmallConvNet
from tests.benchmarks.training.folders import SIZE, write_plain_images, write_store

CPU = torch.device("cpu")
MODEL = torch.nn.Identity()


def table7(name: str) -> Arm:
    return load_recipe("table7").choose_arms([name])[0]


def normalized(pixels: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] as the loader gives it."""
    return (pixels.float() / 255 - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)


def grey_of(images: Tensor) -> Tensor:
    """The pixels of normalized grey images in [0, 255]: [B, H, W]."""
    return (images[:, 0] * STD[0] + MEAN[0]) * 255


def at_work(arm: Arm, store: CounterpartStore, data: Data, seed: int = 0) -> Method:
    restricted, covered = restrict(store, data, arm.name, arm.coverage, 0.0)
    method = make_method(Prepared(arm, restricted, covered), len(data.class_names), seed, CPU)
    method.begin(0)
    return method


def repeated(data: Data, times: int) -> Batch:
    """Every sample several times, as zeros: black before, so that what is not 0 came from a counterpart."""
    index = torch.arange(len(data.train)).repeat(times)
    labels = torch.from_numpy(data.labels)[index]
    return Batch(normalized(torch.zeros(len(index), 3, SIZE, SIZE, dtype=torch.uint8)), labels, index)


def test_vanilla_changes_nothing(store: CounterpartStore, data: Data) -> None:
    method = make_method(Prepared(Arm("v", "vanilla")), 3, 0, CPU)
    batch = repeated(data, 1)
    made = method(batch, MODEL)
    assert made.images is batch.images
    assert made.targets is batch.labels


def test_genaug_replaces_about_half_of_the_samples(store: CounterpartStore, data: Data) -> None:
    method = at_work(table7("genaug"), store, data)
    batch = repeated(data, 1)
    replaced = total = 0
    rows = normalized(store.images(range(store.num_rows)))
    for epoch in range(40):
        method.begin(epoch)
        made = method(batch, MODEL)
        assert made.targets is batch.labels
        changed = (made.images - batch.images).abs().amax((1, 2, 3)) > 1e-3
        for position in changed.nonzero().flatten().tolist():
            own = rows[store.rows(int(batch.index[position]))]
            assert (own - made.images[position]).abs().amax((1, 2, 3)).min() < 1e-4  # a whole counterpart of its own
        replaced += int(changed.sum())
        total += len(changed)
    assert abs(replaced / total - 0.5) < 4 * 0.5 / total**0.5


@pytest.fixture(scope="module")
def greys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Data, CounterpartStore]:
    folder = write_plain_images(tmp_path_factory.mktemp("plain") / "d", 5)
    data = open_data(folder, ["test"], None)
    return data, real_store(data, SIZE, folder.with_name("real"), workers=1)


def partners(store: CounterpartStore, sample: int) -> set[int]:
    """The greys of a sample's counterparts."""
    images = store.images(store.rows(sample))
    assert bool((images == images[:, :1, :1, :1]).all())
    return {int(image[0, 0, 0]) for image in images}


def test_real_counterparts_are_all_other_images_of_the_class(greys: tuple[Data, CounterpartStore]) -> None:
    data, store = greys
    for sample in range(15):
        of_class = range(5 * (sample // 5), 5 * (sample // 5) + 5)
        assert partners(store, sample) == {10 * (other + 1) for other in of_class if other != sample}
    again = real_store(data, SIZE, store.path)
    assert again.checksum == store.checksum


def test_real_counterparts_come_from_the_images_that_are_trained_on(
    greys: tuple[Data, CounterpartStore], tmp_path: Path
) -> None:
    data = open_data(greys[0].folder, ["test"], 3)
    store = real_store(data, SIZE, tmp_path / "real", workers=1)
    allowed = {10 * (int(sample) + 1) for sample in data.part}
    for sample in data.part.tolist():
        assert len(partners(store, sample)) == 2
        assert partners(store, sample) <= allowed - {10 * (sample + 1)}


@pytest.mark.parametrize("name", ["pixel", "patch"])
def test_mixing_without_generated_images_takes_real_ones_of_the_class(
    name: str, greys: tuple[Data, CounterpartStore]
) -> None:
    data, store = greys
    method = at_work(table7(name), store, data)
    batch = repeated(data, 8)
    shown = grey_of(method(batch, MODEL).images)
    some = 0
    for position, index in enumerate(batch.index.tolist()):
        values = shown[position].unique()
        others = torch.tensor(sorted(partners(store, index)), dtype=torch.float32)
        if name == "pixel":  # (1 − λ) of a partner's grey, the same everywhere
            assert values.max() - values.min() < 1e-2
            assert -1e-2 <= values.max() <= others.max() + 1e-2
            some += bool(values.max() > 1)
        else:  # black, and a partner's grey itself
            assert all(value.abs() < 1e-2 or (others - value).abs().min() < 1e-2 for value in values)
            some += len(values) == 2
    assert some > len(batch.index) / 2


def test_coverage_leaves_the_other_samples_alone(store: CounterpartStore, data: Data) -> None:
    arm = Arm("third", "diffcore-mix", coverage=1 / 3)
    batch = repeated(data, 4)
    made = at_work(arm, store, data)(batch, MODEL)
    changed = (made.images - batch.images).abs().amax((1, 2, 3)) > 1e-3
    touched = set(batch.index[changed].tolist())
    assert len(touched) <= 6
    assert {int(data.labels[sample]) for sample in touched} == {0, 1, 2}


@pytest.mark.parametrize("name", ["diffcore-mix", *BASELINES])
def test_an_epoch_is_drawn_alike_whatever_was_drawn_before(name: str, store: CounterpartStore, data: Data) -> None:
    if name in ("puzzlemix", "comixup"):
        pytest.importorskip("gco", reason="gco-wrapper is not installed")
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 3, SIZE, SIZE, generator=generator)
    batch = Batch(images, torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 1, 6, 7, 12, 13]))
    torch.manual_seed(0)
    model: Any = SmallConvNet(3).train()
    few = {"fractals": 2}
    settings = {"pixmix": few, "diffusemix": few, "manifold-mixup": {"layers": ["input", "stem", "body"]}}
    arm = Arm(name, name, settings.get(name, {}))
    first, second = (make_method(Prepared(arm, store), 3, 4, CPU) for _ in range(2))

    def epoch(method: Method, number: int) -> list[Tensor]:
        method.begin(number)
        torch.manual_seed(number)
        found = []
        for _ in range(2):
            made = method(batch, model)
            with made.during_forward:
                found += [made.images, made.targets, model(made.images).detach()]
        return found

    for number in (0, 1):
        epoch(first, number)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    resumed = epoch(second, 2)
    model.load_state_dict(state)
    whole = epoch(first, 2)
    assert all(torch.equal(a, b) for a, b in zip(resumed, whole, strict=True))


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        (Arm("a", "mixup", {"alhpa": 1.0}), "arm a: mixup has no setting 'alhpa'; did you mean alpha?"),
        (Arm("a", "mixup", {"alpha": -1.0}), "arm a: alpha of Mixup must be a number above 0, not -1.0."),
        (Arm("a", "mixup", {"seed": 1}), "arm a: mixup has no setting 'seed'; known are alpha."),
        (Arm("a", "diffcore-mix", {"pixel": 1.0}), "arm a: diffcore-mix has no setting 'pixel'; did you mean "
            "pixel_prob?"),
        (Arm("a", "diffcore-mix", {"lam": [1.0, 0.5]}), "arm a: lam must be an interval (low, high) with low ≤ high, "
            "got (1.0, 0.5)."),
        (Arm("a", "diffcore-mix", {"lam": {"beta": 0.0}}), "arm a: alpha of Beta(alpha, alpha) must lie in "
            "[0.01, 1000.0], got 0.0."),
    ],
)  # fmt: skip
def test_settings_are_checked(arm: Arm, message: str, store: CounterpartStore) -> None:
    with pytest.raises(BenchmarkError) as error:
        check_settings(Prepared(arm, store), 3)
    assert str(error.value) == message


def test_settings_of_every_form_are_taken(store: CounterpartStore) -> None:
    check_settings(Prepared(Arm("a", "diffcore-mix", {"lam": {"beta": 0.2}, "box_area": [0.1, 0.4]}), store), 3)
    check_settings(Prepared(Arm("a", "resizemix", {"scale": [0.1, 0.5]})), 3)


def test_a_missing_package_is_said_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "cv2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(
        BenchmarkError, match=r"^arm salient: SaliencyMix needs .*leave the arm out: --arms names those"
    ):
        check_settings(Prepared(Arm("salient", "saliencymix")), 3)


def test_stores_are_checked(store: CounterpartStore, data: Data, dataset: Path, tmp_path: Path) -> None:
    arms = load_recipe("table7").arms
    with pytest.raises(BenchmarkError) as error:
        prepare_arms(arms, data, SIZE, None, tmp_path, 0.0)
    assert str(error.value) == (
        "genaug, genaug-pixel, genaug-patch, diffcore-mix-50, diffcore-mix-100 mix with generated counterparts: give "
        "their store with --store, or name other arms with --arms."
    )
    with pytest.raises(BenchmarkError, match=r"holds counterparts of 3×32×32 .* training size is 64; .* --size 32\."):
        prepare_arms(arms, data, 64, store.path, tmp_path, 0.0)
    prepared = prepare_arms(arms[:3], data, SIZE, store.path, tmp_path, 0.0)
    assert [ready.definition().get("store") for ready in prepared] == [None, store.checksum, None]
    assert [ready.covered for ready in prepared] == [0.0, 1.0, 1.0]
    other = write_store(dataset, tmp_path / "other", 16)
    assert prepare_arms([arms[1]], data, 16, other, tmp_path, 0.0)[0].definition() != prepared[1].definition()


def test_the_model_is_tried_before_training() -> None:
    check_trained(Training("resnet18", size=32), 3)
    with pytest.raises(BenchmarkError, match=r"^there is no model 'resnet81'; did you mean resnet18"):
        check_trained(Training("resnet81"), 3)
    with pytest.raises(BenchmarkError, match=r"^vit_b_16 cannot be trained on images of 32×32: .*224"):
        check_trained(Training("vit_b_16", size=32), 3)
    with pytest.raises(BenchmarkError, match=r"^resnet18 cannot be made for 32 pixels: .*'stem'"):
        check_trained(Training("resnet18", {"stem": "small"}, size=32), 3)
    with pytest.raises(
        BenchmarkError, match=r"^googlenet gives GoogLeNetOutputs in training, not logits \[2, 3\]; cho"
    ):
        check_trained(Training("googlenet", {"init_weights": False}, size=64), 3)
    assert make_model("resnet18", 3).training
