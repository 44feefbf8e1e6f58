"""The demo from the first image to the last number."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from diffcore_gpu.contact_sheet import choose_samples, contact_sheet
from diffcore_gpu.demo import digits, training
from diffcore_gpu.demo.model_checks import MODELS, text_to_image_options
from diffcore_gpu.demo.pretraining.batches import PER_CLASS, SPLIT_SEED
from diffcore_gpu.errors import DiffcoreError
from diffcore_gpu.generation.loop import GenerationListener
from diffcore_gpu.generation.prompts import BUILT_IN
from diffcore_gpu.generation.report.records import GenerationReport
from diffcore_gpu.generation.run import GenerationRequest, run_request
from diffcore_gpu.generation.settings import FilterOptions, GenerationSettings
from diffcore_gpu.store import CounterpartStore

_MARKER = ".diffcore-demo"
_PER_SAMPLE, _MAX_ATTEMPTS, _BATCH = 4, 20, 24


@dataclass(frozen=True)
class Arm:
    """One way to train, and what came of it.

    Attributes:
        name: as the paper calls it.
        coverage: share of the samples that have counterparts.
        accuracies: top-1 on the held-out images in [0, 1], one for each seed.
    """

    name: str
    coverage: float
    accuracies: list[float]

    @property
    def mean(self) -> float:
        """Mean accuracy."""
        return statistics.fmean(self.accuracies)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds (0 for one seed)."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0


@dataclass(frozen=True)
class Outcome:
    """What the demo made: the arms, where its files are, and what the filter did for full coverage.

    `num_fitted` real digits, on which no arm trains, are what generator and filter were fitted on.
    """

    arms: list[Arm]
    num_fitted: int
    num_training: int
    num_held_out: int
    sheet: Path
    results: Path
    page: Path
    report: GenerationReport

    @property
    def caveat(self) -> str:
        """What must stand beside the accuracies."""
        return (
            f"The counterparts know more than these {self.num_training} digits: their generator and the filter were "
            f"fitted on {self.num_fitted} other real ones, which the arm without never sees. No arm goes without the "
            "filter, so what it adds is not shown."
        )


def _fresh(out: Path) -> None:
    """An empty folder for the demo; one that an earlier demo left is replaced, any other is left alone."""
    if out.exists():
        if not (out / _MARKER).is_file():
            raise DiffcoreError(f"{out} exists and is not a folder of this demo; name another with --out.")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / _MARKER).touch()


def _as_batch(paths: list[Path]) -> Tensor:
    """uint8 [N, 3, 32, 32], decoded as an ImageFolder does it."""
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8))
    return torch.stack(images).reshape(-1, digits.SIZE, digits.SIZE, 3).permute(0, 3, 1, 2).contiguous()


def _generate(
    out: Path, name: str, fraction: float, listener: GenerationListener
) -> tuple[CounterpartStore, GenerationReport, Path]:
    """What ``diffcore generate`` does, with the demo's models; verified."""
    request = GenerationRequest(
        real=out / "real",
        out=out / f"store-{name}",
        settings=GenerationSettings(
            BUILT_IN["digit"],
            digits.SIZE,
            digits.SIZE,
            fraction=fraction,
            per_sample=_PER_SAMPLE,
            max_attempts=_MAX_ATTEMPTS,
            batch_size=_BATCH,
            seed=1,
        ),
        model=text_to_image_options(),
        similarity=FilterOptions(str(MODELS / "digits-clip")),
    )
    report, page = run_request(request, listener)
    store = CounterpartStore.open(request.out)
    store.verify()
    return store, report, page


def run(
    out: Path,
    seeds: int,
    say: Callable[[str], None],
    progress: Callable[[int, int], None] = lambda done, total: None,
    generated: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Write real digits, generate and filter counterparts, verify the stores, train, and draw the contact sheet.

    Args:
        out: folder for everything; made anew.
        seeds: training runs of each arm.
        say: gets a line on each step.
        progress: gets (done, total) training runs.
        generated: gets (done, total) counterparts.

    Raises:
        DiffcoreError: a package is missing, or `out` is somebody else's folder.
    """
    images, labels = digits.load_digits()
    _fresh(out)
    fitted_index, training_index, held_out_index = digits.split(labels, PER_CLASS, SPLIT_SEED)
    train_labels = labels[training_index]

    real = digits.write_real(out / "real", images[training_index], train_labels)
    say(f"{len(real)} real images, handwritten, {PER_CLASS} of each digit: {out / 'real'}")
    stores, reports, pages = {}, {}, {}
    for name, fraction in (("50", 0.5), ("100", 1.0)):
        listener = GenerationListener(progressed=lambda standing: generated(standing.settled, standing.total))
        stores[name], report, pages[name] = _generate(out, name, fraction, listener)
        reports[name] = report
        say(
            f"{report.total.generated} digits generated for {name} % of them, {report.total.discarded} discarded by "
            f"the filter ({report.total.discarded_percent:.1f} %); store verified: {stores[name].path}"
        )

    # The samples in the order of the ImageFolder: classes by name, files by name.
    order = sorted(range(len(real)), key=lambda position: (real[position].parent.name, real[position].name))
    split = training.Split(
        _as_batch([real[position] for position in order]),
        torch.from_numpy(train_labels[order]),
        torch.stack(
            [torch.from_numpy(digits.enlarge(image).copy()).expand(3, -1, -1) for image in images[held_out_index]]
        ),
        torch.from_numpy(labels[held_out_index]),
    )
    names = [real[position].relative_to(out / "real").as_posix() for position in order]
    for store in stores.values():
        store.bind(split.images, labels=split.labels, file_names=names)

    sheet = out / "contact_sheet.png"
    samples = choose_samples(stores["100"], 8)
    contact_sheet(stores["100"], samples, lambda sample: split.images[sample]).save(sheet)

    done = 0

    def finished() -> None:
        nonlocal done
        done += 1
        progress(done, 3 * seeds)

    arms = [
        Arm(name, coverage, training.accuracies(split, store, range(seeds), finished))
        for name, coverage, store in (
            ("without", 0.0, None),
            ("DiffCoRe-Mix-50", stores["50"].coverage, stores["50"]),
            ("DiffCoRe-Mix-100", stores["100"].coverage, stores["100"]),
        )
    ]
    results = out / "results.json"
    results.write_text(
        json.dumps([{"name": a.name, "coverage": a.coverage, "accuracies": a.accuracies} for a in arms], indent=2)
        + "\n"
    )
    return Outcome(
        arms, len(fitted_index), len(real), len(held_out_index), sheet, results, pages["100"], reports["100"]
    )
