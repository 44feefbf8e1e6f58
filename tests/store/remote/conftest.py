"""What the tests of remote stores share: an S3 server, no long waits, a cache of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diffcore_gpu.store.remote import transfer

BUCKET = "bucket"


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(transfer, "WAITS", (0.0, 0.0, 0.0))
    monkeypatch.setenv("DIFFCORE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[str]:
    pytest.importorskip("s3fs", reason="the extra remote brings it")
    server = pytest.importorskip("moto.server", reason="the extra dev brings it")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def s3(_s3_server: str) -> dict[str, Any]:
    """The `storage_options` of an S3 server with one empty bucket."""
    import s3fs

    options = {"key": "key", "secret": "SECRET", "client_kwargs": {"endpoint_url": _s3_server}}
    fs = s3fs.S3FileSystem(**options, use_listings_cache=False)
    if fs.exists(BUCKET):
        fs.rm(BUCKET, recursive=True)
    fs.mkdir(BUCKET)
    return options
