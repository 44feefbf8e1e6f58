"""The suite `loader`: the arms load what they say, and all of it runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from PIL import Image

from diffcore_gpu.benchmarks.harness.random_data import MEAN, STD
from diffcore_gpu.benchmarks.harness.result_file import read_result
from diffcore_gpu.benchmarks.loader import arms as loader_arms
from diffcore_gpu.benchmarks.loader import loader
from diffcore_gpu.benchmarks.loader.arms import FLOOR, PNG, RAW, RESIZED, STORE, Pass, make_arms, one_pass
from diffcore_gpu.benchmarks.loader.data import LoaderData, prepare
from diffcore_gpu.benchmarks.suites import run_suite
from diffcore_gpu.errors import BenchmarkError
from tests.images import write_noise

pytest.importorskip("torchvision", reason="the suite `loader` needs torchvision")

CPU = torch.device("cpu")
NAMES = {"a bird": 3, "b bird": 2}
TINY = ["--size", "16", "--batch", "3", "--batches", "2", "--repeats", "2", "--threads", "1"]


def write_folder(folder: Path, sizes: dict[str, int], shape: tuple[int, int], suffix: str) -> Path:
    names = [f"{name}/{number}{suffix}" for name, count in sizes.items() for number in range(count)]
    return write_noise(folder, names, *shape)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("loader") / "real", NAMES, (20, 26), ".jpg")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fewer files of the first class than samples, so that one serves two; and a class that nobody asks for."""
    sizes = {"a bird": 2, "b bird": 4, "c bird": 1}
    return write_folder(tmp_path_factory.mktemp("loader") / "generated", sizes, (32, 32), ".png")


@pytest.fixture(scope="module")
def data(real: Path, generated: Path, tmp_path_factory: pytest.TempPathFactory) -> LoaderData:
    return prepare(real, generated, tmp_path_factory.mktemp("made"), images=100, size=16, png_size=32)


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_counterparts_are_of_the_samples_class_in_turn(data: LoaderData) -> None:
    found = [f"{path.parent.name}/{path.name}" for path in data.png]
    assert found == ["a bird/0.png", "a bird/1.png", "a bird/0.png", "b bird/0.png", "b bird/1.png"]


def test_every_form_holds_the_same_counterparts(data: LoaderData) -> None:
    assert data.store.image_shape == (3, 16, 16)
    assert data.store.num_rows == len(set(data.resized)) == 4
    for sample, (png, resized) in enumerate(zip(data.png, data.resized, strict=True)):
        (row,) = data.store.rows(sample).tolist()
        kept = data.store.image(row).permute(1, 2, 0).numpy()
        assert np.array_equal(kept, pixels_of(resized))
        expected = Image.fromarray(pixels_of(png)).resize((16, 16), Image.Resampling.BICUBIC)
        assert np.abs(kept.astype(int) - np.asarray(expected)).max() <= 1
    data.store.verify()
    assert data.bytes == {
        "png": sum(path.stat().st_size for path in set(data.png)),
        "png_resized": sum(path.stat().st_size for path in set(data.resized)),
        "store": sum(path.stat().st_size for path in data.store.path.iterdir() if path.is_file()),
    }


def test_without_generated_images_the_real_ones_are_mirrored_and_cut(real: Path, tmp_path: Path) -> None:
    made = prepare(real, None, tmp_path, images=100, size=16, png_size=20)
    assert len(set(made.png)) == 5
    assert [made.real.class_names[label] for label in made.real.labels] == [
        path.parent.name for path in made.real.paths
    ]
    for path, png in zip(made.real.paths, made.png, strict=True):
        middle = pixels_of(path)[:, 3:23]  # 20 × 26 is cut, not resized
        assert np.array_equal(pixels_of(png), middle[:, ::-1])


def test_fewer_images_are_spread_over_the_classes(real: Path, tmp_path: Path) -> None:
    made = prepare(real, None, tmp_path, images=2, size=16, png_size=20)
    assert [path.relative_to(real).as_posix() for path in made.real.paths] == ["a bird/0.jpg", "a bird/2.jpg"]
    assert made.real.class_names == list(NAMES)


def collect(name: str, data: LoaderData, workers: int = 0) -> dict[int, torch.Tensor]:
    """What a pass of an arm hands to the training, by dataset index."""
    arm = make_arms(data, 16, CPU)[name]
    found: dict[int, torch.Tensor] = {}

    class Recorded(torch.nn.Module):
        def forward(self, images: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            mixed = images if arm.mix is None else arm.mix(images, index)
            found.update(zip(index.tolist(), mixed, strict=True))
            return mixed

    recorded = loader_arms.Arm(arm.dataset, Recorded())  # type: ignore[arg-type]
    taken = one_pass(recorded, [3, 0, 4, 1, 2], batch=2, workers=workers, device=CPU, seed=1)
    assert taken.seconds > 0
    assert taken.cpu_seconds > 0
    return found


@pytest.mark.parametrize("name", [FLOOR, PNG, RESIZED, STORE, RAW])
def test_every_arm_gives_normalized_images_of_all_samples(name: str, data: LoaderData) -> None:
    found = collect(name, data)
    assert sorted(found) == [0, 1, 2, 3, 4]
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    for image in found.values():
        assert image.shape == (3, 16, 16)
        assert image.dtype == torch.float32
        pixels = image * std + mean
        assert pixels.min() >= -1e-4
        assert pixels.max() <= 1 + 1e-4
        assert pixels.std() > 0.05


@pytest.mark.parametrize("name", [PNG, RESIZED, STORE])
def test_counterparts_are_in_the_mix(name: str, tmp_path: Path) -> None:
    """Real images are red and counterparts blue: whatever is blue has come out of the counterpart of the sample."""
    for folder, colour in (("real", (255, 0, 0)), ("generated", (0, 0, 255))):
        for label in NAMES:
            (tmp_path / folder / label).mkdir(parents=True)
            for number in range(NAMES[label]):
                Image.new("RGB", (24, 24), colour).save(tmp_path / folder / label / f"{number}.png")
    (tmp_path / "made").mkdir()
    made = prepare(tmp_path / "real", tmp_path / "generated", tmp_path / "made", images=9, size=16, png_size=24)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    pixels = torch.stack([image * std + mean for image in collect(name, made).values()])
    assert torch.allclose(pixels[:, 0] + pixels[:, 2], torch.ones(5, 16, 16), atol=0.01)
    assert pixels[:, 2].amax((1, 2)).max() > 0.3
    assert pixels[:, 0].amax((1, 2)).max() > 0.3


def test_workers_load_every_sample(data: LoaderData) -> None:
    assert sorted(collect(STORE, data, workers=2)) == [0, 1, 2, 3, 4]


def test_a_pass_without_a_batch_costs_the_start_of_the_workers(data: LoaderData) -> None:
    taken = one_pass(make_arms(data, 16, CPU)[FLOOR], [], batch=2, workers=2, device=CPU, seed=0)
    assert taken.seconds > 0
    assert taken.cpu_seconds > 0


def test_the_workers_cpu_time_is_in_the_figure() -> None:
    class Busy(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, sample: int) -> tuple[torch.Tensor, int]:
            start = time.process_time()
            while time.process_time() - start < 0.1:
                pass
            return torch.zeros(3, 2, 2), 0

    for workers in (0, 1):
        taken = one_pass(loader_arms.Arm(Busy()), [0, 1, 2, 3], batch=2, workers=workers, device=CPU, seed=0)
        assert taken.cpu_seconds >= 0.4


def test_figures_are_those_of_the_passes() -> None:
    passes = {"x": [Pass(2.0, 3.5), Pass(4.0, 5.5), Pass(1.0, 2.5)]}
    found = loader.figures(passes, [Pass(0.1, 0.4), Pass(0.3, 0.5), Pass(0.2, 0.9)], 100)
    assert found["images"] == 100
    assert found["startup"] == {"seconds": [0.1, 0.3, 0.2], "cpu_seconds": [0.4, 0.5, 0.9]}
    arm = found["arms"]["x"]
    assert arm["images_per_second"] == [50, 25, 100]
    assert arm["median_images_per_second"] == 50
    assert arm["p10_images_per_second"] == pytest.approx(30)
    assert arm["p90_images_per_second"] == pytest.approx(90)
    assert arm["cpu_seconds_per_image"] == pytest.approx([0.03, 0.05, 0.02])
    assert arm["median_cpu_seconds_per_image"] == pytest.approx(0.03)


def test_the_report_tells_noise_from_a_difference() -> None:
    passes = {
        FLOOR: [Pass(1.0, 1.0), Pass(1.1, 1.0), Pass(1.2, 1.0)],
        "like it": [Pass(1.05, 1.0), Pass(1.12, 1.0), Pass(1.2, 1.0)],
        "slower": [Pass(2.0, 1.0), Pass(2.2, 1.0), Pass(2.4, 1.0)],
    }
    sizes = {"png": 3e6, "png_resized": 2e6, "store": 1e6}
    found = {**loader.figures(passes, [Pass(0.1, 0.0)], 10), "bytes": sizes, "workers": 3}
    lines = loader.report(found).splitlines()
    assert lines[0].startswith("workers 3")
    assert lines[1].endswith(" 1.00")
    assert lines[2].endswith("0.98 (noise)")
    assert lines[3].endswith(" 0.50")
    assert "PNG files 3.0 MB, PNG files, resized 2.0 MB, store 1.0 MB" in lines[-1]


def test_the_suite_runs_and_goes_on(
    real: Path, generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "loader.json"
    arguments = ["--data", str(real), "--generated", str(generated), *TINY, "--json", str(path)]
    run_suite("loader", [*arguments, "--workers", "0"])
    first = capsys.readouterr().out
    assert all(name in first for name in (FLOOR, PNG, RESIZED, STORE, RAW, "workers 0"))
    before = path.read_text()
    run_suite("loader", [*arguments, "--workers", "0", "1"])
    assert "workers 0" not in capsys.readouterr().out
    assert json.loads(before)["results"][0] == json.loads(path.read_text())["results"][0]
    result = read_result(path, "loader")
    assert [part["workers"] for part in result["results"]] == [0, 1]
    for part in result["results"]:
        assert part["images"] == 6  # two batches of three, over five images
        assert list(part["arms"]) == [FLOOR, PNG, RESIZED, STORE, RAW]
        for arm in part["arms"].values():
            assert len(arm["images_per_second"]) == len(arm["cpu_seconds_per_image"]) == 2
            assert min(arm["images_per_second"]) > 0
            assert arm["median_images_per_second"] == pytest.approx(median(arm["images_per_second"]), abs=1e-3)
    assert result["setting"]["data"] == "real"
    assert str(real.parent) not in path.read_text()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
def test_the_suite_runs_on_a_gpu(real: Path, tmp_path: Path) -> None:
    path = tmp_path / "loader.json"
    run_suite("loader", ["--device", "cuda", "--data", str(real), *TINY, "--workers", "0", "1", "--json", str(path)])
    for part in read_result(path, "loader")["results"]:
        assert list(part["arms"]) == [FLOOR, PNG, RESIZED, f"{STORE}, on disk", f"{STORE}, on the device", RAW]
        assert all(min(arm["images_per_second"]) > 0 for arm in part["arms"].values())


def test_synthetic_pictures_are_made_where_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    run_suite("loader", [*TINY, "--images", "4", "--png-size", "24", "--workers", "0"])
    assert "6 images in a pass" in capsys.readouterr().out


def test_a_spent_budget_ends_the_run(real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loader.json"
    run_suite("loader", ["--data", str(real), *TINY, "--budget-minutes", "0", "--json", str(path)])
    assert "budget is spent" in capsys.readouterr().out
    assert not path.exists()


def no_class(real: Path, tmp_path: Path) -> list[str]:
    write_folder(tmp_path / "some", {"a bird": 1}, (16, 16), ".png")
    return ["--data", str(real), "--generated", str(tmp_path / "some")]


def broken(real: Path, tmp_path: Path) -> list[str]:
    folder = write_folder(tmp_path / "broken", {"a bird": 1}, (16, 16), ".png")
    (folder / "a bird" / "1.png").write_bytes(b"no image")
    return ["--data", str(folder)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (lambda real, tmp: ["--data", str(tmp / "nowhere")], r"--real .*nowhere: there is no such folder"),
        (lambda real, tmp: ["--generated", str(real)], r"--generated needs --real"),
        (no_class, r"holds no folder 'b bird' with images; every class of --real needs one"),
        (broken, r"1\.png: is not an image that can be loaded: .*; remove it"),
    ],
)
def test_mistakes_are_named(
    arguments: Callable[[Path, Path], list[str]], sentence: str, real: Path, tmp_path: Path
) -> None:
    with pytest.raises(BenchmarkError, match=sentence):
        run_suite("loader", [*TINY, *arguments(real, tmp_path)])


def test_one_turn_has_no_spread(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run_suite("loader", [*TINY, "--repeats", "1"])
    assert stop.value.code == 2
    assert "--repeats must be 2 or more" in capsys.readouterr().err
