"""Which samples each generated file may serve, told from its folder or from its name."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from diffcore_gpu.errors import PackError
from diffcore_gpu.packing.decode import GENERATED_EXTENSIONS
from diffcore_gpu.packing.findings import Effect, Finding, Kind
from diffcore_gpu.packing.imagefolder import FoundFile, ImageFolderScan, walk_files
from diffcore_gpu.packing.options import Layout


@dataclass(frozen=True)
class MatchedFile:
    """A generated file and what it belongs to.

    Attributes:
        file: the file.
        label: its class.
        sample: the only sample that it may serve, or −1 for every sample of the class.
    """

    file: FoundFile
    label: int
    sample: int


@dataclass
class Matching:
    """What the folder of generated images turned out to hold.

    Attributes:
        layout: CLASS or STEM.
        reason: why that layout, in half a sentence.
        files: the usable files, in a fixed order.
        findings: files and folders that belong to nothing.
        notes: class folders that were recognized under another spelling.
    """

    layout: Layout
    reason: str
    files: list[MatchedFile] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def file_names(self) -> list[str]:
        """The names of `files`."""
        return [matched.file.name for matched in self.files]

    def skip(self, kind: Kind, name: str, detail: str) -> None:
        """Note that a file or folder is left out."""
        self.findings.append(Finding(Effect.SKIPPED, kind, name, detail))


def match_generated(real: ImageFolderScan, generated: Path, layout: Layout) -> Matching:
    """Match the files of a folder of generated images to the samples of an ImageFolder.

    Raises:
        PackError: the folder is missing, cannot be listed, or holds no image.
    """
    if not generated.is_dir():
        raise PackError(f"{generated} is not a folder; --generated takes a folder of generated images.")
    found = walk_files(generated, lambda name: True)
    images = [file for file in found if file.name.lower().endswith(GENERATED_EXTENSIONS)]
    if not images:
        raise PackError(f"{generated} has no image; known are {', '.join(GENERATED_EXTENSIONS)}.")
    stems = _Stems(real)
    reason = "as asked"
    if layout is Layout.AUTO:
        named = sum(stems.has_match(file) for file in images)
        layout = Layout.STEM if 2 * named > len(images) else Layout.CLASS
        reason = f"{named} of {len(images)} files are named after a real image"
    matching = Matching(layout, reason)
    for file in found:
        # Hidden files that are no images (.DS_Store, .gitignore) are nobody's mistake.
        if not file.name.lower().endswith(GENERATED_EXTENSIONS) and not _base_name(file).startswith("."):
            matching.skip(Kind.NOT_AN_IMAGE, file.name, "")
    if layout is Layout.CLASS:
        _match_by_class(real, images, matching)
    else:
        _match_by_stem(stems, images, matching)
    _find_empty_classes(real, generated, matching)
    return matching


def _match_by_class(real: ImageFolderScan, images: Sequence[FoundFile], matching: Matching) -> None:
    folders = ClassFolders(real.class_names)
    by_folder: dict[str, list[FoundFile]] = defaultdict(list)
    for file in images:
        folder, slash, _ = file.name.partition("/")
        if slash:
            by_folder[folder].append(file)
        else:
            matching.skip(Kind.UNKNOWN_CLASS, file.name, "lies in no class folder")
    for folder, files in by_folder.items():
        candidates = folders.candidates(folder)
        if len(candidates) == 1:
            matching.files += [MatchedFile(file, candidates[0], -1) for file in files]
            if folder != real.class_names[candidates[0]]:
                matching.notes.append(f"folder {folder} is taken for class {real.class_names[candidates[0]]}")
        elif candidates:
            names = ", ".join(real.class_names[label] for label in candidates)
            matching.skip(Kind.AMBIGUOUS, folder, f"{len(files)} images; may be any of {names}")
        else:
            matching.skip(Kind.UNKNOWN_CLASS, folder, f"{len(files)} images")


def _match_by_stem(stems: _Stems, images: Sequence[FoundFile], matching: Matching) -> None:
    for file in images:
        samples, other_class = stems.find(file)
        if len(samples) == 1 and stems.real.files[samples[0]].real_path == file.real_path:
            matching.skip(Kind.NO_REAL_IMAGE, file.name, "is the real image itself")
        elif len(samples) == 1:
            matching.files.append(MatchedFile(file, stems.real.labels[samples[0]], samples[0]))
        elif samples:
            names = ", ".join(stems.real.files[sample].name for sample in samples[:3])
            more = ", …" if len(samples) > 3 else ""
            matching.skip(Kind.AMBIGUOUS, file.name, f"named after {len(samples)} real images: {names}{more}")
        elif other_class:
            matching.skip(Kind.OTHER_CLASS, file.name, "lies in the folder of a class without such a real image")
        else:
            matching.skip(Kind.NO_REAL_IMAGE, file.name, "named after no real image")


def _find_empty_classes(real: ImageFolderScan, generated: Path, matching: Matching) -> None:
    """Folders of a known class without an image, and classes without real images."""
    folders = ClassFolders(real.class_names)
    used = {file.file.name.partition("/")[0] for file in matching.files}
    named = {finding.name.partition("/")[0] for finding in matching.findings if finding.kind is not Kind.NOT_AN_IMAGE}
    for path in sorted(generated.iterdir()):
        if path.is_dir() and path.name not in used | named and len(folders.candidates(path.name)) == 1:
            matching.findings.append(Finding(Effect.CLASS, Kind.EMPTY_CLASS, path.name, "a folder without images"))
    present = set(real.labels)
    for label, name in enumerate(real.class_names):
        if label not in present:
            detail = "ImageFolder refuses it unless allow_empty=True"
            matching.findings.append(Finding(Effect.CLASS, Kind.NO_REAL_IMAGES, name, detail))


def _base_name(file: FoundFile) -> str:
    return file.name.rpartition("/")[2]


def _stem(name: str) -> str:
    return unicodedata.normalize("NFC", PurePosixPath(name).stem)


class _Stems:
    """The real files by stem."""

    def __init__(self, real: ImageFolderScan) -> None:
        self.real = real
        self._samples: dict[str, list[int]] = defaultdict(list)
        for sample, file in enumerate(real.files):
            self._samples[_stem(file.name)].append(sample)
        self._folders = ClassFolders(real.class_names)
        self._real_paths = {file.real_path for file in real.files}

    def has_match(self, file: FoundFile) -> bool:
        """Whether a file is named after exactly one real image and is not a real image itself."""
        return file.real_path not in self._real_paths and len(self.find(file)[0]) == 1

    def find(self, file: FoundFile) -> tuple[list[int], bool]:
        """The samples that a file is named after, by the longest stem; and whether only another class has such.

        Inside a class folder only that class is looked at; below it, equal folders decide among equal stems.
        """
        folder, slash, inner = file.name.partition("/")
        labels = self._folders.candidates(folder) if slash else []
        other_class = False
        for stem in _prefixes(_stem(file.name)):
            samples = self._samples.get(stem, [])
            if labels:
                other_class = other_class or bool(samples)
                samples = [sample for sample in samples if self.real.labels[sample] in labels]
            if len(samples) > 1:
                place = inner.rpartition("/")[0] if slash else ""
                beside = [s for s in samples if self._inner_folder(s) == place]
                samples = beside or samples
            if samples:
                return samples, False
        return [], other_class

    def _inner_folder(self, sample: int) -> str:
        return self.real.files[sample].name.partition("/")[2].rpartition("/")[0]


def _prefixes(stem: str) -> Iterator[str]:
    """The stem, then what stands before each of its separators, the longest first."""
    yield stem
    for end in range(len(stem) - 1, 0, -1):
        if not stem[end].isalnum():
            yield stem[:end]


# "024." of "024.Red_faced_Cormorant"; but not the "1_" of "1_0", where the number is the name.
_LEADING_NUMBER = re.compile(r"^\d+[\s._-]+(?=.*[^\W\d_])")
_SEPARATORS = re.compile(r"[\s_-]+")


def normalize_class_name(name: str) -> str:
    """What two spellings of one class have in common: case, leading number, and kind of separator are dropped."""
    name = unicodedata.normalize("NFKC", name).casefold()
    return _SEPARATORS.sub(" ", _LEADING_NUMBER.sub("", name)).strip()


class ClassFolders:
    """Finds the class of a folder name: the exact name first, then the normalized one where only one class has it."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._exact = {name: label for label, name in enumerate(class_names)}
        self._normalized: dict[str, list[int]] = defaultdict(list)
        for label, name in enumerate(class_names):
            self._normalized[normalize_class_name(name)].append(label)

    def candidates(self, folder: str) -> list[int]:
        """The labels that a folder name may stand for: none, one, or (ambiguous) several."""
        if folder in self._exact:
            return [self._exact[folder]]
        return self._normalized.get(normalize_class_name(folder), [])
