"""Which class a folder of generated images stands for."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

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
