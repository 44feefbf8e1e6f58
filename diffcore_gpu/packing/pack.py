"""Make a counterpart store from real images and a folder of images that any tool generated."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diffcore_gpu import __version__
from diffcore_gpu.documents import resolved
from diffcore_gpu.errors import PackError
from diffcore_gpu.packing.colour import ImageProblemError
from diffcore_gpu.packing.decode import decode_bytes, pillow_ready, read_image
from diffcore_gpu.packing.findings import Effect, Finding, Kind, PackReport
from diffcore_gpu.packing.growth import Pairs, new_files, pairs_with_room, require_alike
from diffcore_gpu.packing.imagefolder import ImageFolderScan, scan_image_folder
from diffcore_gpu.packing.layout import Matching, match_generated
from diffcore_gpu.packing.options import DEFAULT_MAX_PER_SAMPLE, Fit, Layout, PackOptions
from diffcore_gpu.packing.origin import (
    COUNTS_KEY,
    FILES_KEY,
    NUMBER_KEY,
    files_digest,
    real_contents,
    require_same_files,
)
from diffcore_gpu.packing.pairing import pair_up
from diffcore_gpu.packing.rows import add_rows
from diffcore_gpu.packing.similarity import Judged, PackFilter, best_pairs, judge
from diffcore_gpu.store import CounterpartStore, CounterpartWriter
from diffcore_gpu.store.codecs import codec_named
from diffcore_gpu.store.format import MANIFEST_NAME
from diffcore_gpu.store.growth.staging import settle
from diffcore_gpu.store.provenance import FileContents, digest_of
from diffcore_gpu.store.workspace import FOLDER_NAME, SETTINGS_NAME
from diffcore_gpu.threads import default_workers, map_in_order


def _no_progress(done: int, total: int) -> None:
    pass


def _silent(message: str) -> None:
    pass


@dataclass(frozen=True)
class PackListener:
    """Told what happens; each may be left out.

    Attributes:
        say: gets a remark for a person.
        checked: gets (done, total) of the real images that were checked.
        judged: gets (done, total) of the images that the filter looks at.
        compared: gets (done, total) of the generated files that were packed before, as they are read again.
        packed: gets (done, total) of the generated files.
    """

    say: Callable[[str], None] = field(default=_silent)
    checked: Callable[[int, int], None] = field(default=_no_progress)
    judged: Callable[[int, int], None] = field(default=_no_progress)
    compared: Callable[[int, int], None] = field(default=_no_progress)
    packed: Callable[[int, int], None] = field(default=_no_progress)


def pack(
    options: PackOptions, listener: PackListener | None = None, similarity: PackFilter | None = None
) -> PackReport:
    """Pack generated images into a store for an ImageFolder of real ones.

    The rows are in the order of the generated files, so the same folders and options give the same bytes, also where
    the work was interrupted and resumed. The digest of each generated file is kept with its row, and size and digest
    of real files with the samples; a resumed pack refuses files that have changed. Nothing is known of the images'
    seeds and prompts: the seed is −1 and there is no prompt.

    Args:
        options: what to pack.
        listener: is told what happens.
        similarity: measures how similar a generated image is to the samples that it may serve. Only pairs above τ of
            their class are made, the most similar first where there are more than `max_per_sample`, and files that can
            serve no sample are left out. None: nothing is filtered, and similarities are not measured (NaN).

    Raises:
        PackError: a folder is not as it should be, nothing can be packed, or `strict` and something was found.
        StoreError: the store cannot be written, or a file is not what an interrupted pack made the store from.
    """
    started = time.monotonic()
    listener = listener or PackListener()
    _refuse_place(options)
    base = _base(options, None if similarity is None else similarity.model)
    codec_named(options.codec).check_shape((3, options.height, options.width))
    real = scan_image_folder(options.real)
    matching = match_generated(real, options.generated, options.layout)
    listener.say(f"Layout {matching.layout}: {matching.reason}.")
    for note in matching.notes:
        listener.say(f"Note: {note}.")
    findings, contents = list(matching.findings), None
    if options.check_real:
        found, contents = _check_real(real, options, listener)
        findings += found
    if options.strict and findings:
        # It fails already; look at the files all the same, so that everything is listed at once.
        journal = add_rows(None, options, matching.files, listener.packed)
        raise _strict_error(findings + journal.findings(matching.file_names), "nothing was written")
    if not matching.files:
        raise PackError(_nothing_matches(options, matching))
    if base is not None:
        total = len(matching.files)
        matching = replace(matching, files=new_files(options, base, matching.files, listener.compared))
        listener.say(f"{total - len(matching.files)} of {total} images are in {options.out} already.")
    judged = None
    if similarity is not None:
        judged = judge(similarity, options, real, matching.files, listener.judged)
        matching = replace(matching, files=judged.files)
        contents = judged.contents
        listener.say(f"Filter {judged.model}: {judged.discarded} files discarded.")
    settings = _settings(options, real, matching, judged)
    if options.resume and (base is None or (options.out / FOLDER_NAME / SETTINGS_NAME).exists()):
        require_same_files(options, settings, matching.files, listener.compared)
    if contents is None:
        contents = real_contents(real, options)
    report = _write(options, settings, listener, real, contents, matching, findings, judged)
    return replace(report, seconds=time.monotonic() - started)


def _refuse_place(options: PackOptions) -> None:
    out = resolved(options.out)
    for folder in (options.real, options.generated):
        # Inside the real images the store would be one class more, and every label after it another number.
        if out.is_relative_to(resolved(folder)):
            raise PackError(f"{options.out} lies inside {folder}; put the store outside the folders of images.")
    if options.append and options.overwrite:
        raise PackError("Give one of --append, to add to the store, and --overwrite, to replace it.")
    if options.resume or options.overwrite:
        return
    if (options.out / FOLDER_NAME / SETTINGS_NAME).exists():
        raise PackError(
            f"{options.out} holds an unfinished store; give --resume to go on with it or --overwrite to start again."
        )
    if (options.out / MANIFEST_NAME).exists() and not options.append:
        raise PackError(
            f"{options.out} holds a finished store; give --overwrite to replace it, or --append to add to it."
        )


def _base(options: PackOptions, model: str | None) -> CounterpartStore | None:
    """The store that is to be added to."""
    if not options.append:
        return None
    settle(options.out)
    if not (options.out / MANIFEST_NAME).exists():
        raise PackError(f"{options.out} holds no finished store to add to; pack one without --append first.")
    store = CounterpartStore.open(options.out)
    if store.image_shape != (3, options.height, options.width):
        _, height, width = store.image_shape
        raise PackError(f"{options.out} has images of {height}x{width}; give --size {height}x{width} to add to it.")
    require_alike(options, store, _how(options, model))
    return store


def _write(
    options: PackOptions,
    settings: dict[str, Any],
    listener: PackListener,
    real: ImageFolderScan,
    contents: FileContents,
    matching: Matching,
    findings: list[Finding],
    judged: Judged | None,
) -> PackReport:
    with CounterpartWriter(
        options.out,
        num_samples=len(real),
        image_shape=(3, options.height, options.width),
        class_names=real.class_names,
        labels=real.labels,
        file_names=real.file_names,
        file_contents=contents,
        metadata=settings,
        codec=options.codec,
        resume=options.resume,
        overwrite=options.overwrite,
        append=options.append,
    ) as writer:
        resumed, base = writer.num_rows, writer.base
        if writer.added[0]:
            listener.say(f"Resuming after {writer.added[0]} rows.")
        journal = add_rows(writer, options, matching.files, listener.packed)
        findings = findings + journal.findings(matching.file_names)
        skipped = journal.skipped()
        kept = [matched for position, matched in enumerate(matching.files) if position not in skipped]
        row_of = np.full(len(matching.files), -1)
        row_of[[position for position in range(len(matching.files)) if position not in skipped]] = range(len(kept))

        def pairs(limit: int | None) -> Pairs:
            return (*pair_up(real, kept, limit), None) if judged is None else best_pairs(judged.pairs, row_of, limit)

        limit = settings["max_per_sample"]
        samples, rows, similarities = pairs(limit) if base is None else pairs_with_room(base, limit, pairs)
        old = np.empty(0, np.int64) if base is None else np.flatnonzero(np.diff(base.pair_ptr.numpy()))
        covered = np.union1d(samples, old).tolist()
        covered_labels = {real.labels[sample] for sample in covered}
        present = sorted(set(real.labels))
        for label in present:
            if label not in covered_labels:
                findings.append(Finding(Effect.CLASS, Kind.NO_COUNTERPARTS, real.class_names[label]))
        if options.strict and findings:
            raise _strict_error(
                findings,
                f"the store at {options.out} was not finished; mend them and run again with --overwrite, "
                "or accept them and run again with --resume and without --strict",
            )
        if not len(samples) and base is None:
            if judged is not None and judged.discarded:
                raise PackError(
                    f"No image of {options.generated} is similar enough to a sample: all {judged.discarded} were "
                    "discarded; look at them, or give a lower --threshold."
                )
            raise PackError(f"No image of {options.generated} can serve a sample: {_first_of(findings)}.")
        per_class = dict.fromkeys((real.class_names[label] for label in present), 0)
        for label in writer.rows().label.tolist():
            per_class[writer.class_names[label]] = per_class.get(writer.class_names[label], 0) + 1
        served = len(np.unique(rows)) + (0 if base is None else len(np.unique(base.pair_row.numpy())))
        report = PackReport(
            samples=len(real),
            rows=writer.num_rows,
            pairs=len(samples) + (0 if base is None else base.num_pairs),
            covered=len(covered),
            unused_rows=writer.num_rows - served,
            skipped_files=len({f.name for f in findings if f.effect is Effect.SKIPPED}),
            converted_files=len({f.name for f in findings if f.effect is Effect.CONVERTED}),
            rows_per_class=per_class,
            enlarged=journal.enlarged,
            layout=matching.layout.value,
            layout_reason=matching.reason,
            notes=matching.notes,
            findings=findings,
            resumed_rows=resumed,
            discarded_files=None if judged is None else judged.discarded,
            refused_pairs=None if judged is None else judged.refused,
        )
        if not writer.finished:
            first = writer.added[1]
            values = None if similarities is None else similarities[first:]
            writer.add_pairs(samples[first:], rows[first:] + (0 if base is None else base.num_rows), values)
        writer.update_metadata({COUNTS_KEY: report.counts()})
    return report


def _settings(options: PackOptions, real: ImageFolderScan, matching: Matching, judged: Judged | None) -> dict[str, Any]:
    """What the store keeps about its making, and what must be the same for a resumed run."""
    limit = options.max_per_sample
    if limit is None and matching.layout is Layout.CLASS:
        limit = DEFAULT_MAX_PER_SAMPLE
    return {
        "version": __version__,
        "layout": matching.layout.value,
        "codec": codec_named(options.codec).setting,
        "max_per_sample": limit,
        "real": _base_name(options.real),
        "generated": _base_name(options.generated),
        NUMBER_KEY: len(matching.files),
        FILES_KEY: files_digest(options.generated, matching.files),
        **_how(options, None if judged is None else judged.model),
        **({} if judged is None else _thresholds(judged)),
    }


def _how(options: PackOptions, model: str | None) -> dict[str, Any]:
    """What must be the same for all rows of a store: how their pixels were made, and the filter's model."""
    return {
        "made_by": "diffcore pack",
        "resize": options.fit.value,
        "resampling": "bicubic",
        **({} if model is None else {"filter": {"model": model}}),
    }


def _thresholds(judged: Judged) -> dict[str, Any]:
    """τ of each class: None where a class has no images."""
    return {"thresholds": [None if math.isnan(tau) else tau for tau in judged.thresholds.tolist()]}


def _base_name(path: Any) -> str:
    return str(path.resolve().name).encode(errors="backslashreplace").decode()


def _check_real(
    real: ImageFolderScan, options: PackOptions, listener: PackListener
) -> tuple[list[Finding], FileContents]:
    """What is wrong with the real images, and the content of their files as they were read."""
    contents = FileContents.unknown(len(real))

    def look(sample: int) -> Finding | None:
        try:
            data = read_image(real.path(sample))
            contents.set([sample], [(len(data), digest_of(data))])
            decode_bytes(data, 1, 1, Fit.STRETCH)
        except ImageProblemError as problem:
            return Finding(Effect.REAL, problem.kind, real.files[sample].name, problem.detail)
        return None

    findings = []
    with pillow_ready():
        for done, finding in enumerate(map_in_order(look, range(len(real)), options.workers or default_workers()), 1):
            if finding:
                findings.append(finding)
            listener.checked(done, len(real))
    return findings, contents


def _strict_error(findings: list[Finding], outcome: str) -> PackError:
    details = [f"{finding.effect}: {finding}" for finding in findings]
    return PackError(f"--strict: {len(findings)} findings; {outcome}.", details)


def _nothing_matches(options: PackOptions, matching: Matching) -> str:
    what = "a class folder of" if matching.layout is Layout.CLASS else "named after an image of"
    other = Layout.STEM if matching.layout is Layout.CLASS else Layout.CLASS
    images = [finding for finding in matching.findings if finding.kind is not Kind.NOT_AN_IMAGE]
    return (
        f"No image of {options.generated} is {'in ' if matching.layout is Layout.CLASS else ''}{what} {options.real} "
        f"(layout {matching.layout}: {matching.reason}; try --layout {other}); the first: {_first_of(images)}."
    )


def _first_of(findings: list[Finding]) -> str:
    return str(findings[0]) if findings else "no sample is left that is not the image itself"
