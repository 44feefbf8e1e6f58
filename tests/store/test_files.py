"""On which file systems a store is not mapped, by what Linux says of its mounts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diffcore_gpu.store import CounterpartStore, files
from diffcore_gpu.store.files import NETWORK_FILE_SYSTEMS, is_on_network
from tests.stores import write_store

LINE = "{number} 35 {device} / {place} rw,relatime shared:{number} - {kind} source rw"


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    """Writes what the system says of its mounts: (file system, whether it is that of the folder), in their order."""

    def write(*mounted: tuple[str, bool]) -> None:
        status = tmp_path.stat()
        ours = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
        lines = [
            LINE.format(number=number, device=ours if own else f"9999:{number}", place=f"/mnt/{number}", kind=kind)
            for number, (kind, own) in enumerate(mounted)
        ]
        (tmp_path / "mountinfo").write_text("\n".join(lines) + "\n")
        monkeypatch.setattr(files, "_MOUNTS", tmp_path / "mountinfo")

    return write


@pytest.mark.parametrize("kind", [*sorted(NETWORK_FILE_SYSTEMS), "fuse.sshfs", "fuse.s3fs"])
def test_of_a_network(tmp_path, mounts, kind):
    mounts(("ext4", False), (kind, True), ("tmpfs", False))
    assert is_on_network(tmp_path)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "zfs", "fuseblk", "nfsd"])
def test_of_this_machine(tmp_path, mounts, kind):
    mounts(("nfs4", False), (kind, True))
    assert not is_on_network(tmp_path)


def test_the_last_mount_of_a_device_counts(tmp_path, mounts):
    mounts(("ext4", True), ("nfs", True))
    assert is_on_network(tmp_path)
    mounts(("nfs", True), ("ext4", True))
    assert not is_on_network(tmp_path)


def test_where_nobody_says(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_MOUNTS", Path("/nowhere/mountinfo"))
    assert not is_on_network(tmp_path)
    (tmp_path / "mountinfo").write_text("nonsense\n36 35\n - \n\n")
    monkeypatch.setattr(files, "_MOUNTS", tmp_path / "mountinfo")
    assert not is_on_network(tmp_path)
    assert not is_on_network(tmp_path / "missing")


@pytest.mark.parametrize(("kind", "reading"), [("ext4", "map"), ("nfs4", "pread")])
def test_a_store_is_read_accordingly(tmp_path, mounts, kind, reading):
    path = write_store(tmp_path / "store").path
    mounts((kind, True))
    assert CounterpartStore.open(path).reading == reading
    assert CounterpartStore.open(path, reading="map").reading == "map"
