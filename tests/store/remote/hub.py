"""A server that speaks what huggingface_hub asks of the Hub, as far as datasets are made, filled and read."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Datasets by name, each with its files; what was asked for, and how many commits were made."""

    url: str = ""
    datasets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)
    refused: int = 0
    """The status of every answer, where it is not 0."""
    tokens: set[str] = field(default_factory=set)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: object) -> None:
        pass

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, value: Any, status: int = 200, **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", headers.pop("size", str(len(data))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _missing(self, code: str) -> None:
        self._answer({"error": code}, 404, X_Error_Code=code)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.tokens.add(self.headers.get("Authorization", ""))
        path = unquote(urlsplit(self.path).path)
        if self.hub.refused:
            self._answer({"error": "no"}, self.hub.refused)
            return
        if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
            self._repository(found[1])
        elif found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/tree/[^/]+(?:/.*)?", path):
            self._listing(found[1], None)
        elif found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self._file(found[1], found[2])
        else:
            self._missing("EntryNotFound")

    def _repository(self, name: str) -> None:
        if name not in self.hub.datasets:
            self._missing("RepoNotFound")
            return
        files = [{"rfilename": path} for path in self.hub.datasets[name]]
        self._answer({"id": name, "sha": COMMIT, "private": True, "siblings": files, "tags": []})

    def _listing(self, name: str, paths: list[str] | None) -> None:
        files = self.hub.datasets.get(name)
        if files is None:
            self._missing("RepoNotFound")
            return
        self._answer([self._entry(path, data) for path, data in files.items() if paths is None or path in paths])

    def _entry(self, path: str, data: bytes) -> dict[str, Any]:
        entry = {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        if path.endswith(".safetensors"):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    def _file(self, name: str, path: str) -> None:
        data = self.hub.datasets.get(name, {}).get(path)
        if data is None:
            self._missing("EntryNotFound")
            return
        marks = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X_Repo_Commit": COMMIT}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self._answer(data, **marks)
            return
        first, last = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
        self._answer(data[first : last + 1], 206, Content_Range=f"bytes {first}-{last}/{len(data)}", **marks)

    def do_PUT(self) -> None:
        self.hub.lfs[urlsplit(self.path).path.rpartition("/")[2]] = self._body()
        self._answer({})

    def do_POST(self) -> None:
        body, path = self._body(), unquote(urlsplit(self.path).path)
        self.hub.tokens.add(self.headers.get("Authorization", ""))
        if self.hub.refused:
            self._answer({"error": "no"}, self.hub.refused)
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/paths-info/[^/]+", path):
            self._listing(found[1], parse_qs(body.decode()).get("paths", []))
        elif re.fullmatch(r"/api/datasets/[^/]+/[^/]+/preupload/[^/]+", path):
            modes = [
                {"path": file["path"], "shouldIgnore": False, "uploadMode": _mode(file["path"])}
                for file in json.loads(body)["files"]
            ]
            self._answer({"files": modes})
        elif path == "/api/validate-yaml":  # asked before a card is committed
            self._answer({"errors": [], "warnings": []})
        elif path.endswith("/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        elif found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/commit/[^/]+", path):
            self._commit(found[1], body)
        else:
            self._missing("EntryNotFound")

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
        known = name in self.hub.datasets
        if not known:
            self.hub.datasets[name], self.hub.private[name] = (
                {},
                asked.get("private") or asked.get("visibility") == "private",
            )
        self._answer({"url": f"{self.hub.url}/datasets/{name}"}, 409 if known else 200)

    def _batch(self, asked: dict[str, Any]) -> None:
        upload = {file["oid"]: {"href": f"{self.hub.url}/lfs/{file['oid']}"} for file in asked["objects"]}
        objects = [{**file, "actions": {"upload": upload[file["oid"]]}} for file in asked["objects"]]
        self._answer({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, body: bytes) -> None:
        files, paths = self.hub.datasets[name], []
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
            if line["key"] != "header":
                paths.append(value["path"])
        self.hub.commits.append(paths)
        self._answer(
            {"success": True, "commitUrl": f"{self.hub.url}/datasets/{name}/commit/{COMMIT}", "commitOid": COMMIT}
        )


def _mode(path: str) -> str:
    return "lfs" if path.endswith((".safetensors", ".jpg")) else "regular"


@contextlib.contextmanager
def hub_server() -> Iterator[Hub]:
    """The server, running."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
