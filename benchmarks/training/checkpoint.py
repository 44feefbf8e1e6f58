"""Checkpoints: written whole or not at all after every epoch, read without unpickling objects, and known by their run.

A run's folder holds ``checkpoint.pt`` and, when it is finished, ``model.pt``, the model's weights alone; the checkpoint
then holds the figures only.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from diffcore_gpu.benchmarks.harness.tensors import load_saved
from diffcore_gpu.documents import parse_json
from diffcore_gpu.errors import BenchmarkError, clause

FORMAT = 1
_NAME, _WEIGHTS = "checkpoint.pt", "model.pt"


class Checkpoint:
    """The checkpoint of one run.

    Args:
        folder: of the run; made when something is written.
        identity: what the run depends on; anything that JSON can hold.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.path, self._weights = folder / _NAME, folder / _WEIGHTS
        self._identity: dict[str, Any] = json.loads(json.dumps(identity))

    def check(self) -> None:
        """Look whether a checkpoint that is there belongs to this run; its tensors are not read.

        Raises:
            BenchmarkError: it belongs to another one, or is damaged.
        """
        self._load(torch.device("cpu"), mmap=True)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """What was written last, with tensors on the device; None: nothing yet.

        Raises:
            BenchmarkError: of `check`.
        """
        return self._load(device, mmap=False)

    def _load(self, device: torch.device, *, mmap: bool) -> dict[str, Any] | None:
        try:
            found = load_saved(self.path, device, mmap=mmap)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self.damaged() from error
        if not isinstance(found, dict) or type(found.get("format")) is not int or found["format"] != FORMAT:
            raise BenchmarkError(
                f"{self.path}: is not a checkpoint of this version of diffcore-gpu; remove it, or give another --out."
            )
        before, state = _identity_of(found), found.get("state")
        if before is None or not isinstance(state, dict):
            raise self.damaged()
        differs = [
            f"{name} is {self._identity.get(name)!r} here and {before.get(name)!r} there"
            for name in sorted({*self._identity, *before})
            if self._identity.get(name) != before.get(name)
        ]
        if differs:
            raise BenchmarkError(
                f"{self.path}: is of another run ({'; '.join(differs)}); remove it, or give another --out."
            )
        return state

    def damaged(self) -> BenchmarkError:
        """What to raise where the checkpoint does not hold what its run needs."""
        return BenchmarkError(f"{self.path}: is damaged or no checkpoint; remove it to begin this run from its start.")

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state after an epoch: tensors, numbers, texts, and lists and dicts of them.

        Raises:
            BenchmarkError: the disk does not take it.
        """
        _write(self.path, {"format": FORMAT, "identity": json.dumps(self._identity), "state": dict(state)})

    def finish(self, state: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
        """Write the weights, then what is left of the checkpoint when nothing needs to go on from it."""
        _write(self._weights, dict(weights))
        self.save(state)


def _identity_of(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """None: it has none."""
    text = found.get("identity")
    try:
        identity = parse_json(text, constants=True) if isinstance(text, str) else None
    except ValueError:
        return None
    return identity if isinstance(identity, dict) else None


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Beside the name, flushed to the disk, then renamed: a crash leaves the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch's own, where a disk is full
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise BenchmarkError(
            f"{path}: cannot be written ({clause(error)}); what was there before is whole: make room and run again."
        ) from error
