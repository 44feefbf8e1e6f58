"""The files of an opened store: checked against `store.json`, and noticed when they change."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from diffcore_gpu.documents import inside, why
from diffcore_gpu.errors import StoreError, clause
from diffcore_gpu.store.durable import file_checksum
from diffcore_gpu.store.manifest import FileEntry

NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "davfs", "fuse", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"}
    | {"orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "wekafs"}
)
"""File systems, as the system names them, whose files another machine may cut short while they are mapped."""
_TRIES = 20
_MOUNTS = Path("/proc/self/mountinfo")


_Result = TypeVar("_Result")


class Identity(NamedTuple):
    """By what a file is known again without reading it: where it lies, its size, and when it was last written."""

    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """From what the system says of a file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Locate(Protocol):
    """Gives the files of a store that lies elsewhere."""

    def __call__(self, file: FileEntry, *, hash_again: bool = False) -> Path:
        """The path of a file on this machine, which is there and right when this returns.

        Args:
            file: what `store.json` says of it.
            hash_again: compute its SHA-256 now, however often that was done before.

        Raises:
            StoreError: it cannot be had.
        """
        ...


class FolderFiles:
    """Gives the files of a store that is a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, file: FileEntry, *, hash_again: bool = False) -> Path:
        """See `Locate`; that the file is there and right is looked at only where it is to be hashed."""
        path = self._folder / file.name
        if hash_again and (checksum := file_checksum(path)) != file.checksum:
            raise StoreError(
                f"{path}: damaged: its SHA-256 is {checksum[:12]}…, where store.json calls for {file.checksum[:12]}…."
            )
        return path


def use_located(find: Callable[[], Path], use: Callable[[Path], _Result]) -> _Result:
    """What `use` makes of a file; asked for anew where a cache made room between finding and opening it.

    Raises:
        FileNotFoundError: it is gone each time.
    """
    for _ in range(_TRIES):
        try:
            return use(find())
        except FileNotFoundError:
            continue
    return use(find())


class Place(Protocol):
    """A folder that is somewhere else; `str` gives its address."""

    @property
    def name(self) -> str:
        """Its last part."""
        ...

    def __truediv__(self, name: str) -> object:
        """A file in it."""
        ...

    def resolve(self) -> object:
        """Itself: it is no folder of this machine, whatever links there are."""
        ...


class Watched:
    """Files that must stay what they were when they were opened.

    A look at a file costs one `stat`. Where that shows another file, or one that was written to, of the same size, its
    SHA-256 is computed: a copy that was put back, or a `touch`, is no change.

    Args:
        files: what `store.json` says of each.
        locate: the path of the file with that number, there when it returns.
        vouched: whether `locate` gives only files whose content it knows to be right, so that the first look at each
            need not hash it.
    """

    def __init__(self, files: Sequence[FileEntry], locate: Callable[[int], Path], *, vouched: bool = False) -> None:
        self.files = files
        self.locate = locate
        self._vouched = vouched
        self._known: list[Identity | None] = [None] * len(files)
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()

    def path(self, number: int) -> Path:
        """The path of a file."""
        return self.locate(number)

    def note(self, number: int, status: os.stat_result) -> None:
        """This is the file that was opened."""
        self._known[number] = Identity.of(status)

    def require_unchanged(self, number: int, path: str | Path, status: os.stat_result | None = None) -> None:
        """Look whether a file is what it was.

        Args:
            number: of the file.
            path: where it lies.
            status: of the opened file; None: the system is asked about the path.

        Raises:
            StoreError: it is gone, cut short, or another one.
        """
        file = self.files[number]
        try:
            if status is None:
                status = os.stat(path)  # noqa: PTH116  pathlib takes three times as long, and this is asked per batch
        except OSError as error:
            raise StoreError(f"{path}: cannot be read any more: {error.strerror or error}.") from error
        now = Identity.of(status)
        if now == self._known[number]:
            return
        if now.size != file.size:
            raise StoreError(f"{path}: has changed since the store was opened ({now.size} bytes, not {file.size}).")
        with self._lock:
            if now != self._known[number]:
                trusted = self._vouched and self._known[number] is None
                if not trusted and file_checksum(Path(path)) != file.checksum:
                    raise StoreError(f"{path}: has changed since the store was opened; its content is another.")
                self._known[number] = now


def require_file(path: Path, file: FileEntry, folder: Path) -> os.stat_result:
    """What the system says of a store's file, which must be a regular one of the right size, inside the folder.

    Raises:
        StoreError: it is missing, another kind of thing, of another size, or a link that leads out of the folder.
    """
    try:
        if path.is_symlink() and not inside(path, folder):
            raise StoreError(f"{path}: is a link to a file outside the store's folder; put the file itself there.")
        status = path.stat()
    except FileNotFoundError:
        raise StoreError(f"{path}: missing.") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {why(error)}.") from error
    except (ValueError, RuntimeError) as error:  # a loop of links
        raise StoreError(f"{path}: cannot be read: {clause(error)}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"{path}: is not a file.")
    if status.st_size != file.size:
        raise StoreError(f"{path}: has {status.st_size} bytes where store.json calls for {file.size}.")
    return status


def is_on_network(folder: Path) -> bool:
    """Whether a folder lies on a file system of a network, or one that some program serves; False where nobody says."""
    try:
        device = folder.stat().st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        mounts = _MOUNTS.read_text(errors="replace").splitlines()
    except (OSError, AttributeError):
        return False
    for line in reversed(mounts):  # 36 35 98:0 /root /mount options - TYPE source options
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [wanted]:
            kind = after.split(" ", 1)[0]
            return kind in NETWORK_FILE_SYSTEMS or kind.startswith("fuse.")
    return False
