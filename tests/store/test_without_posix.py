"""A store is written, read and mixed without anything that only POSIX systems have.

What is taken away are the modules and functions that Python has on POSIX systems alone; and where a store is written,
files behave as on Windows: an open one is neither replaced nor removed, and a folder is not opened. Windows's own lock
is not there to be tried: a lock of the process stands in for it.
"""

from __future__ import annotations

from pathlib import Path

from diffcore_gpu.store import CounterpartWriter
from tests.programs import run_python
from tests.store import work
from tests.stores import NUM_SAMPLES, SHAPE, write_store

_WITHOUT_POSIX = """
import os, sys

import numpy, torch, torch.utils.data  # the first of them may use what is taken away below

for name in ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None  # importing it raises ImportError
for name in ("O_CLOEXEC", "O_DIRECTORY", "fdatasync", "fork", "getuid", "geteuid", "posix_fadvise", "pread", "preadv",
             "pwrite", "pwritev", "register_at_fork", "sched_getaffinity", "statvfs", "sysconf"):
    vars(os).pop(name, None)
"""

_WINDOWS_FILES = """
import shutil

import filelock

real, opened, locked = {name: getattr(os, name) for name in ("open", "close", "replace", "unlink", "rmdir")}, {}, {}
os.O_BINARY = 1 << 30
shutil._use_fd_functions = False

def open_file(path, flags, mode=0o777):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", os.fspath(path))
    assert flags & os.O_BINARY, f"{path} is opened as text"
    descriptor = real["open"](path, flags & ~os.O_BINARY, mode)
    opened[descriptor] = os.path.realpath(path)
    return descriptor

def close(descriptor):
    opened.pop(descriptor, None)
    locked.pop(descriptor, None)
    real["close"](descriptor)

def guarded(name):
    def call(*paths):
        for path in paths:
            if os.path.realpath(path) in opened.values():
                raise PermissionError(13, "The process cannot access the file", os.fspath(path))
        real[name](*paths)
    return call

def lock_descriptor(descriptor, *, blocking):
    number = os.fstat(descriptor).st_ino
    if number in locked.values():
        return False
    locked[descriptor] = number
    return True

os.open, os.close, filelock.lock_descriptor = open_file, close, lock_descriptor
os.replace, os.unlink, os.rmdir = guarded("replace"), guarded("unlink"), guarded("rmdir")
"""

_READ = """
import hashlib, os, sys
from pathlib import Path

import torch, torch.utils.data

import diffcore_gpu as dc
from diffcore_gpu.store.residency import ResidentStore

folder, num_samples, shape = Path(sys.argv[1]), int(sys.argv[2]), tuple(map(int, sys.argv[3].split(",")))
labels = [sample % 2 for sample in range(num_samples)]
images = torch.zeros(num_samples, *shape)
store = dc.CounterpartStore.open(folder).bind(images, labels=labels)
store.verify()
assert store.images(range(store.num_rows)).sum() > 0
assert len(store.row_label()) == store.num_rows
ResidentStore(store, torch.device("cpu"), "host")
mix = dc.DiffCoreMix(store)
dataset = torch.utils.data.TensorDataset(images, torch.tensor(labels))
loader = torch.utils.data.DataLoader(dc.IndexedDataset(dataset), batch_size=8)
digest = hashlib.sha256()
for batch, label, index in dc.PrefetchLoader(loader, mix):
    mixed = mix(batch, index, labels=label)
    assert (mixed.flatten(1).amax(1) > 0).sum() > 0
    digest.update(mixed.numpy().tobytes())
mix(images.to(torch.bfloat16), torch.arange(num_samples))
print(store.checksum, digest.hexdigest(), hasattr(os, "fork"))
"""

_WRITE = """
from pathlib import Path

from diffcore_gpu.store import CounterpartWriter
from tests.store import work

path, crash = Path(sys.argv[1]), int(sys.argv[2])
with CounterpartWriter(path, **work.arguments(), resume=True) as writer:
    try:
        CounterpartWriter(path, **work.arguments(), resume=True)
    except Exception as error:
        print(writer.num_rows, error)
    for row in range(writer.num_rows, work.NUM_ROWS):
        work.add(writer, row)
        if row == crash:
            writer.flush()
            os._exit(0)
assert not opened, opened
"""


def test_a_store_is_opened_verified_bound_and_mixed(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store")
    arguments = str(tmp_path / "store"), str(NUM_SAMPLES), ",".join(map(str, SHAPE))
    said = run_python("-c", _WITHOUT_POSIX + _READ, *arguments)
    assert said == f"{store.checksum} {said.split()[1]} False\n"
    assert run_python("-c", _READ, *arguments) == said.replace("False", "True")


def test_a_store_is_written_resumed_and_kept_from_a_second_writer(tmp_path: Path) -> None:
    code = _WITHOUT_POSIX + _WINDOWS_FILES + _WRITE
    refusal = f"{tmp_path / 'store'}: another writer is at work in this folder; wait until it ends."
    assert run_python("-c", code, str(tmp_path / "store"), str(work.NUM_ROWS // 2)) == f"0 {refusal}\n"
    assert run_python("-c", code, str(tmp_path / "store"), "-1") == f"{work.NUM_ROWS // 2 + 1} {refusal}\n"
    with CounterpartWriter(tmp_path / "here", **work.arguments()) as writer:
        for row in range(work.NUM_ROWS):
            work.add(writer, row)
    written = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
