"""`diffcore push`, `diffcore pull`, and URLs where a command takes a store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffcore_gpu.cli import main
from tests.store import work
from tests.store.remote.servers import make_certificate, serving
from tests.stores import write_store

pytest.importorskip("aiohttp", reason="the extra remote brings it")


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFCORE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return work.build(tmp_path / "store").path


def said(capsys) -> tuple[str, str]:
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_there_and_back(folder, tmp_path, capsys):
    url = f"file://{tmp_path}/there"
    assert main(["push", str(folder), url]) == 0
    out, _ = said(capsys)
    assert out.splitlines()[:3] == [f"Pushed {url}", "  sent           31.5 KiB in 7 files", "  there already  0 files"]
    assert main(["pull", url, str(tmp_path / "back")]) == 0
    assert said(capsys)[0].startswith(f"Pulled {tmp_path / 'back'}\n  fetched        31.5 KiB in 7 files\n")
    assert work.contents(tmp_path / "back") == work.contents(folder)


def test_as_json(folder, tmp_path, capsys):
    url = f"file://{tmp_path}/there"
    assert main(["push", str(folder), url, "--json", "--no-card"]) == 0
    pushed = json.loads(said(capsys)[0])
    assert (pushed["url"], len(pushed["sent"]), pushed["present"], pushed["superseded"]) == (url, 7, [], [])
    assert not (tmp_path / "there" / "README.md").exists()
    assert main(["pull", url, str(folder), "--json"]) == 0
    pulled = json.loads(said(capsys)[0])
    assert (pulled["store"], pulled["fetched"], len(pulled["present"])) == (str(folder), [], 7)


def test_what_is_replaced_is_told(folder, tmp_path, capsys):
    other = work.build(tmp_path / "other", rows_per_shard=7).path
    url = f"file://{tmp_path}/there"
    assert main(["push", str(folder), url]) == 0
    assert main(["push", str(other), url]) == 1
    assert said(capsys)[1].endswith(
        f"diffcore: {url}: holds another store; give overwrite (--overwrite) to replace it.\n"
    )
    assert main(["push", str(other), url, "--overwrite"]) == 0
    assert "files of the store before it are still there" in said(capsys)[0]


def test_commands_take_a_url(folder, capsys):
    with serving(folder) as server:
        assert main(["verify", f"{server.url}?sig=SECRET", "--json"]) == 0
        assert json.loads(said(capsys)[0])["store"] == server.url
        assert main(["verify", server.url]) == 0
        out, err = said(capsys)
        assert out == f"{server.url}: intact; 23 rows, 64 pairs, 31.5 KiB checked.\n"
        assert err == "Reading 31.5 KiB in 7 files, which are fetched where they are not here yet …\n"
        assert main(["inspect", f"{server.url}?sig=SECRET"]) == 0
        out, _ = said(capsys)
        assert out.startswith(f"Store {server.url}\n")
        assert "SECRET" not in out


@pytest.mark.slow
def test_profile_takes_a_url(tmp_path, capsys):
    write_store(tmp_path / "store", (3, 64, 64))
    with serving(tmp_path / "store") as server:
        assert main(["profile", server.url, "--steps", "1", "--batch-size", "2", "--json"]) == 0
        assert json.loads(said(capsys)[0])["store"] == server.url


def test_an_error_is_one_sentence(tmp_path, capsys):
    with serving(tmp_path) as server:
        assert main(["inspect", f"{server.url}/nothing?sig=SECRET"]) == 1
        expected = f"{server.url}/nothing: there is no counterpart store; of its store.json: there is no such file."
        assert said(capsys) == ("", f"diffcore: {expected}\n")


@pytest.mark.slow
def test_a_certificate_is_trusted_as_the_system_is_told(folder, tmp_path):
    certificate = make_certificate(tmp_path / "certificate.pem")
    with serving(folder, certificate) as server:
        command = [sys.executable, "-m", "diffcore_gpu", "pull", server.url, str(tmp_path / "back")]
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert refused.stderr == f"diffcore: {server.url}/store.json: the server's certificate is not trusted.\n"
        trusting = {**os.environ, "SSL_CERT_FILE": str(certificate)}
        assert subprocess.run(command, env=trusting, capture_output=True, check=False).returncode == 0
    assert work.contents(tmp_path / "back") == work.contents(folder)
