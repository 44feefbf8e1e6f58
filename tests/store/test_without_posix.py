"""A store is read and mixed without anything that only POSIX systems have; it is not written there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.stores import NUM_SAMPLES, SHAPE, write_store

_WITHOUT_POSIX = """
import os, sys

import numpy, torch, torch.utils.data  # the first of them may use what is taken away below

for name in ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None  # importing it raises ImportError
for name in ("O_CLOEXEC", "O_DIRECTORY", "fork", "getuid", "geteuid", "posix_fadvise", "pread", "preadv", "pwrite",
             "pwritev", "register_at_fork", "sched_getaffinity", "statvfs", "sysconf"):
    vars(os).pop(name, None)
"""

_READ = """
from pathlib import Path

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
for batch, label, index in dc.PrefetchLoader(loader, mix):
    mixed = mix(batch, index, labels=label)
    assert (mixed.flatten(1).amax(1) > 0).sum() > 0
mix(images.to(torch.bfloat16), torch.arange(num_samples))
"""

_WRITE = """
import diffcore_gpu as dc

try:
    dc.CounterpartWriter(sys.argv[1], num_samples=1, image_shape=(3, 8, 8), class_names=["one"], labels=[0])
except dc.StoreError as error:
    print(error)
"""


def _run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", _WITHOUT_POSIX + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_store_is_opened_verified_bound_and_mixed(tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    _run(_READ, str(tmp_path / "store"), str(NUM_SAMPLES), ",".join(map(str, SHAPE)))


def test_a_writer_says_that_the_system_can_only_read(tmp_path: Path) -> None:
    said = _run(_WRITE, str(tmp_path / "store"))
    assert f"{tmp_path / 'store'}: a store can be read on this system, but not written" in said
    assert not (tmp_path / "store").exists()
