"""The folder `unfinished/` of a store in the making, and the durable point that a writer can return to.

The files only grow: the images of each shard, streamed to their final place; records of the rows, records of the pairs,
the prompts. `progress.json`, replaced atomically after they have been flushed, says how much of each counts. Whatever
lies beyond was lost with the process that wrote it, and is cut off when the next writer resumes.

Nothing is believed that is found there: the two JSON files carry a checksum over themselves, the logs have theirs in
`progress.json`, every row's bytes have a digest in the rows' log, and finished shards are hashed again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diffcore_gpu.documents import parse_json, read_regular, why
from diffcore_gpu.errors import StoreError, clause
from diffcore_gpu.store.durable import flush_data, named_os_errors, open_to_write, replace_file, sync_folder, write_at
from diffcore_gpu.store.manifest import content_checksum
from diffcore_gpu.store.provenance import FileContents
from diffcore_gpu.store.tables import PAIR, ROW

FOLDER_NAME = "unfinished"
SETTINGS_NAME = "settings.json"
PROGRESS_NAME = "progress.json"
CONTENTS_NAME = "contents.bin"
CONTENTS_KEY = "file_contents"
"""In the settings: the checksum of what `contents.bin` holds of the samples' files; None where nothing is known."""
LOG_NAMES = {"rows": "rows.bin", "pairs": "pairs.bin", "prompts": "prompts.jsonl"}

_AGAIN = "start again with overwrite=True"
_MAX_JSON = 1 << 30  # settings hold class names, updates what a run has noticed


@dataclass
class Progress:
    """A durable point: what is safe on disk.

    Attributes:
        num_rows, num_pairs, num_prompts: how many of each.
        log_bytes, log_crc: for each of the logs `rows`, `pairs` and `prompts`, the bytes that count and their CRC-32.
        shards: [size in bytes, SHA-256] of each shard that is complete.
        updates: what `update_metadata` has been given.
    """

    num_rows: int = 0
    num_pairs: int = 0
    num_prompts: int = 0
    log_bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LOG_NAMES, 0))
    log_crc: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LOG_NAMES, 0))
    shards: list[tuple[int, str]] = field(default_factory=list)
    updates: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Rows, pairs and prompts."""
        return self.num_rows, self.num_pairs, self.num_prompts


class Workspace:
    """The folder `unfinished/` inside the store's folder: its logs, its settings and the last durable point."""

    def __init__(self, store_folder: Path) -> None:
        self.folder = store_folder / FOLDER_NAME
        self.progress = Progress()
        self._logs: dict[str, int] = {}

    def create(self, settings: dict[str, Any], contents: FileContents | None = None) -> None:
        """Start empty, whatever was there; from then on the work can be resumed by a writer with equal `settings`.

        Args:
            settings: what a writer that resumes must have been given again.
            contents: of the samples' files, whose checksum is in the settings under `CONTENTS_KEY`.
        """
        with named_os_errors(self.folder):
            # without its settings the folder counts as empty, so they go first
            (self.folder / SETTINGS_NAME).unlink(missing_ok=True)
            if self.folder.exists():
                shutil.rmtree(self.folder)
            self.folder.mkdir()
            sync_folder(self.folder.parent)
        self._open_logs()
        self._replace_progress(Progress())
        if contents is not None:
            replace_file(self.folder / CONTENTS_NAME, contents.encode())
        _write_json(self.folder / SETTINGS_NAME, settings)

    def settings(self) -> dict[str, Any] | None:
        """The settings that the work was begun with; None if there is no work to resume."""
        path = self.folder / SETTINGS_NAME
        return _read_json(path) if path.exists() else None

    def contents(self) -> FileContents | None:
        """What was known of the samples' files when the work was begun; None: nothing, or there is no work.

        Raises:
            StoreError: the file that holds it is damaged.
        """
        settings = self.settings() or {}
        checksum = settings.get(CONTENTS_KEY)
        if checksum is None:
            return None
        path = self.folder / CONTENTS_NAME
        try:
            contents = FileContents.decode(read_regular(path, _MAX_JSON, path.parent))
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {why(error)}.") from error
        except ValueError as error:
            raise StoreError(f"{path}: damaged ({clause(error)}); {_AGAIN}.") from error
        if contents.checksum != checksum or len(contents.size) != settings.get("num_samples"):
            raise StoreError(f"{path}: damaged: its checksum differs; {_AGAIN}.")
        return contents

    def resume(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], list[str]]:
        """Return to the last durable point: cut off what lies beyond it, and give the rows, pairs and prompts up to it.

        Raises:
            StoreError: if a file of the folder is damaged.
        """
        found = self.read()
        self._open_logs()
        for name, file_name in LOG_NAMES.items():
            with named_os_errors(self.folder / file_name):
                os.ftruncate(self._logs[name], self.progress.log_bytes[name])
        return found

    def read(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], list[str]]:
        """The rows, pairs and prompts up to the last durable point; changes nothing, whoever is at work.

        Raises:
            StoreError: if a file of the folder is damaged.
        """
        path = self.folder / PROGRESS_NAME
        try:
            self.progress = Progress(**_read_json(path))
            self.progress.shards = [(int(size), str(checksum)) for size, checksum in self.progress.shards]
            self.progress.updates = dict(self.progress.updates)
            logs = {name: self._read_log(name) for name in LOG_NAMES}
            rows, pairs = np.frombuffer(logs["rows"], ROW), np.frombuffer(logs["pairs"], PAIR)
            prompts = [str(parse_json(line)) for line in logs["prompts"].splitlines()]
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise StoreError(f"{path}: damaged ({clause(error)}); {_AGAIN}.") from error
        if (len(rows), len(pairs), len(prompts)) != self.progress.counts:
            raise StoreError(f"{path}: damaged: it disagrees with the files beside it; {_AGAIN}.")
        return rows, pairs, prompts

    def _open_logs(self) -> None:
        for name, file_name in LOG_NAMES.items():
            path = self.folder / file_name
            with named_os_errors(path):
                self._logs[name] = open_to_write(path)

    def _read_log(self, name: str) -> bytes:
        """The part of a log that counts, checked against its CRC-32."""
        path, size = self.folder / LOG_NAMES[name], self.progress.log_bytes[name]
        with named_os_errors(path):
            data = path.read_bytes()[:size] if path.exists() else b""
            if len(data) != size or zlib.crc32(data) != self.progress.log_crc[name]:
                raise StoreError(f"{path}: damaged: its checksum differs; {_AGAIN}.")
        return data

    def save(
        self,
        *,
        rows: npt.NDArray[Any],
        pairs: npt.NDArray[Any],
        prompts: list[str],
        shards: list[tuple[int, str]],
        updates: dict[str, Any],
    ) -> None:
        """Append to the logs what is new since the last durable point, then make the next one.

        The images of the rows, and the complete shards, must have been flushed before.
        """
        old = self.progress
        new = Progress(
            num_rows=old.num_rows + len(rows),
            num_pairs=old.num_pairs + len(pairs),
            num_prompts=old.num_prompts + len(prompts),
            log_bytes=dict(old.log_bytes),
            log_crc=dict(old.log_crc),
            shards=list(shards),
            updates=updates,
        )
        lines = "".join(json.dumps(prompt) + "\n" for prompt in prompts)
        for name, data in (("rows", rows.tobytes()), ("pairs", pairs.tobytes()), ("prompts", lines.encode())):
            if data:
                with named_os_errors(self.folder / LOG_NAMES[name]):
                    write_at(self._logs[name], data, old.log_bytes[name])
                    flush_data(self._logs[name])
                new.log_bytes[name] += len(data)
                new.log_crc[name] = zlib.crc32(data, old.log_crc[name])
        self._replace_progress(new)

    def _replace_progress(self, progress: Progress) -> None:
        _write_json(self.folder / PROGRESS_NAME, asdict(progress))
        self.progress = progress

    def discard(self) -> None:
        """Remove the folder, in which nothing is that anyone needs."""
        self.close()
        with named_os_errors(self.folder, "cannot be removed"):
            (self.folder / SETTINGS_NAME).unlink(missing_ok=True)
            shutil.rmtree(self.folder)
            sync_folder(self.folder.parent)

    def close(self) -> None:
        """Close every file; the folder stays as it is."""
        for fd in self._logs.values():
            with contextlib.suppress(OSError):
                os.close(fd)
        self._logs.clear()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a file of the workspace, with a checksum over the content in it."""
    text = json.dumps({**content, "checksum": content_checksum(content)}, allow_nan=False)
    replace_file(path, text.encode())


def _read_json(path: Path) -> dict[str, Any]:
    """What `_write_json` wrote; `StoreError` if it is damaged."""
    try:
        content = parse_json(read_regular(path, _MAX_JSON, path.parent))
        intact = isinstance(content, dict) and content.pop("checksum", None) == content_checksum(content)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {why(error)}.") from error
    except ValueError as error:
        raise StoreError(f"{path}: damaged ({clause(error)}); {_AGAIN}.") from error
    if not intact:
        raise StoreError(f"{path}: damaged: its content does not have its checksum; {_AGAIN}.")
    return dict(content)
