"""Push and pull: what goes first, what is not done twice, what is refused, and what a break leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.store.remote import targets
from diffcore_gpu.store.remote.pull import pull
from diffcore_gpu.store.remote.push import push
from tests.store import work
from tests.store.remote.servers import Fault, serving

pytest.importorskip("aiohttp", reason="the extra remote brings it")

VERSION_1 = Path(__file__).parents[1] / "version1"


@pytest.fixture
def store(tmp_path: Path) -> CounterpartStore:
    return work.build(tmp_path / "store")


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


def url_of(folder: Path) -> str:
    return f"file://{folder}"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_lies_there(store, there):
    push(store.path, url_of(there))
    assert names(there) == names(store.path) | {"README.md", "counterparts.jpg"}
    assert f'CounterpartStore.open("{url_of(there)}")' in (there / "README.md").read_text()
    assert (there / "store.json").read_bytes() == (store.path / "store.json").read_bytes()


def test_without_a_card(store, there):
    push(store.path, url_of(there), with_card=False)
    assert work.contents(there) == work.contents(store.path)


def test_progress_is_told(store, there, tmp_path):
    told: list[tuple[int, int]] = []
    size = sum(file.size for file in store.manifest.files)
    push(store.path, url_of(there), progress=lambda *now: told.append(now))
    pull(url_of(there), tmp_path / "back", progress=lambda *now: told.append(now))
    assert {total for _, total in told} == {size}
    assert (told[0][0], told[-1][0]) == (0, size)


def test_store_json_comes_last(store, there, monkeypatch):
    sent: list[str] = []
    send = targets.FolderTarget._send
    monkeypatch.setattr(
        targets.FolderTarget,
        "_send",
        lambda self, name, path: (sent.append(f"{name} {(there / 'store.json').exists()}"), send(self, name, path)),
    )
    push(store.path, url_of(there))
    assert sent == [f"{file.name} False" for file in store.manifest.files]


def test_a_push_that_broke_off_goes_on(store, there, monkeypatch):
    class BreakError(Exception):
        pass

    send, sent = targets.FolderTarget._send, []

    def breaking(self: targets.FolderTarget, name: str, path: Path) -> None:
        if len(sent) == 3:
            raise BreakError
        sent.append(name)
        send(self, name, path)

    with monkeypatch.context() as patched:
        patched.setattr(targets.FolderTarget, "_send", breaking)
        with pytest.raises(BreakError):
            push(store.path, url_of(there))
    with pytest.raises(StoreError, match="there is no counterpart store"):
        CounterpartStore.open(url_of(there))
    report = push(store.path, url_of(there))
    assert list(report.present) == sent
    CounterpartStore.open(url_of(there)).verify()


def test_a_damaged_store_is_not_pushed(store, there):
    shard = store.path / store.manifest.shards[3].name
    data = bytearray(shard.read_bytes())
    data[4100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreError, match=rf"{shard.name}: damaged: its SHA-256"):
        push(store.path, url_of(there))
    assert not (there / "store.json").exists()


def test_another_store_is_replaced_only_where_that_is_asked_for(store, there, tmp_path):
    other = work.build(tmp_path / "other", metadata={"model": "other"}, rows_per_shard=7)
    push(other.path, url_of(there))
    reader = CounterpartStore.open(url_of(there))
    with pytest.raises(StoreError, match=r"holds another store; give overwrite \(--overwrite\) to replace it\.$"):
        push(store.path, url_of(there))
    report = push(store.path, url_of(there), overwrite=True)
    assert CounterpartStore.open(url_of(there)).checksum == store.checksum
    kept = {file.name for file in store.manifest.files}
    assert set(report.superseded) == {file.name for file in other.manifest.files} - kept != set()
    reader.verify()  # whoever has the one before it open still reads it


def test_what_is_no_store_is_not_replaced(store, there):
    there.mkdir()
    (there / "store.json").write_text("{}")
    with pytest.raises(StoreError, match=r"lacks the key 'format'\.$"):
        push(store.path, url_of(there))


def test_a_web_server_is_not_pushed_to(store):
    with pytest.raises(StoreError, match=r"^https://x.org/y: a web server can only be read from;"):
        push(store.path, "https://x.org/y?sig=SECRET")


def test_version_1_there_and_back(there, tmp_path):
    push(VERSION_1, url_of(there))
    opened = CounterpartStore.open(url_of(there))
    opened.verify()
    assert opened.row_label().tolist() == CounterpartStore.open(VERSION_1).row_label().tolist()
    pull(url_of(there), tmp_path / "back")
    assert work.contents(tmp_path / "back") == work.contents(VERSION_1)


def test_version_1_takes_no_place(store, there, tmp_path):
    push(store.path, url_of(there))
    with pytest.raises(StoreError, match=r"convert yours first\.$"):
        push(VERSION_1, url_of(there), overwrite=True)
    push(VERSION_1, url_of(tmp_path / "old"))
    with pytest.raises(StoreError, match=r"this one is of version 1; pull it into an empty folder\.$"):
        pull(url_of(tmp_path / "old"), store.path, overwrite=True)


def test_a_pull_from_a_web_server_that_breaks_off_goes_on(store, tmp_path):
    with serving(store.path) as server:
        server.faults = [Fault("counterparts-00002", "status", at=403)]
        with pytest.raises(StoreError, match=r"counterparts-00002-.*: access is denied\.$"):
            pull(server.url, tmp_path / "back")
        assert not (tmp_path / "back" / "store.json").exists()
        server.faults, server.gets = [], []
        report = pull(server.url, tmp_path / "back")
        assert report.present == tuple(shard.name for shard in store.manifest.shards[:2])
        assert len(server.gets) == 1 + len(report.fetched)
    assert work.contents(tmp_path / "back") == work.contents(store.path)


PULL = """
import sys
from diffcore_gpu.store.remote.pull import pull
pull(*sys.argv[1:], progress=lambda *now: print(*now, flush=True))
"""


@pytest.mark.slow
def test_a_pull_that_was_killed_goes_on(store, tmp_path):
    shard = store.manifest.shards[1]
    with serving(store.path) as server:
        server.faults = [Fault(shard.name, "stall", at=1000, times=1)]
        command = [sys.executable, "-c", PULL, server.url, str(tmp_path / "back")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            while int(process.stdout.readline().split()[0]) < store.manifest.shards[0].size + 1000:
                pass
            process.kill()
        pull(server.url, tmp_path / "back")
        assert server.gets_of(shard.name) == [None, "bytes=1000-"]
    assert work.contents(tmp_path / "back") == work.contents(store.path)


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_but_what_has_arrived(store, tmp_path):
    shard = store.manifest.shards[1]
    with serving(store.path) as server:
        server.faults = [Fault(shard.name, "stall", at=1000, times=1)]
        command = [sys.executable, "-m", "diffcore_gpu", "pull", server.url, str(tmp_path / "back")]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            part = tmp_path / "back" / f"{shard.name}.part"
            while not part.exists() or part.stat().st_size < 1000:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert [line for line in said.splitlines() if not line.startswith("Fetching: ")] == []
        assert names(tmp_path / "back") == {store.manifest.shards[0].name, part.name}
        pull(server.url, tmp_path / "back")
    assert work.contents(tmp_path / "back") == work.contents(store.path)


def test_a_pull_mends_a_damaged_folder(store, there, tmp_path):
    push(store.path, url_of(there))
    pull(url_of(there), tmp_path / "back")
    damaged = tmp_path / "back" / store.manifest.shards[0].name
    damaged.write_bytes(b"?" * damaged.stat().st_size)
    assert pull(url_of(there), tmp_path / "back").fetched == (damaged.name,)
    CounterpartStore.open(tmp_path / "back").verify()


def test_a_pull_replaces_only_where_that_is_asked_for(store, there, tmp_path):
    push(store.path, url_of(there))
    other = work.build(tmp_path / "other", metadata={"model": "other"})
    (other.path / "counterparts-00009-0123456789ab.safetensors.part").write_bytes(b"of another pull")
    with pytest.raises(StoreError, match=r"holds another store; give overwrite"):
        pull(url_of(there), other.path)
    other.verify()
    pull(url_of(there), other.path, overwrite=True)
    assert work.contents(other.path) == work.contents(store.path)


def test_a_pull_leaves_unfinished_work_alone(store, there, tmp_path):
    push(store.path, url_of(there))
    with work.interrupted(tmp_path / "begun") as writer:
        work.add(writer, 0)
        writer.flush()
    before = work.contents(tmp_path / "begun")
    with pytest.raises(StoreError, match=r"begun: holds an unfinished store;"):
        pull(url_of(there), tmp_path / "begun", overwrite=True)
    assert work.contents(tmp_path / "begun") == before


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b.safetensors", "..", "pairs.safetensors\\x"])
def test_names_from_afar_lead_nowhere(store, there, tmp_path, name):
    push(store.path, url_of(there))
    content = json.loads((there / "store.json").read_text())
    content["shards"][0]["name"] = name
    (there / "store.json").write_text(json.dumps(content))
    for action in (lambda: CounterpartStore.open(url_of(there)), lambda: pull(url_of(there), tmp_path / "back")):
        with pytest.raises(StoreError, match=r"store\.json: names "):
            action()
    assert not (tmp_path / "back").exists()


def test_a_pull_goes_into_a_folder(store):
    with pytest.raises(StoreError, match=r"^s3://b/c: a store is pulled into a folder of this machine\.$"):
        pull(url_of(store.path), "s3://b/c")
