"""Real servers for the tests: files over HTTP and HTTPS, with ranges, and with faults in the middle of an answer."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import re
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Fault:
    """What goes wrong in answers to a GET of files whose name contains `name`."""

    name: str
    kind: str
    """cut: the connection breaks after `at` bytes. wrong: byte `at` is another. stall: nothing comes after `at` bytes.
    status: the answer is the status `at`. loop: a redirect to itself. page: a page of HTML with status 200."""
    at: int = 0
    times: int = 1 << 30


@dataclass
class FileServer:
    """A folder behind HTTP, each GET recorded as (path, Range or None)."""

    folder: Path
    ranges: bool = True
    faults: list[Fault] = field(default_factory=list)
    gets: list[tuple[str, str | None]] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    """Redirects: from a path to a path."""
    delay: float = 0.0
    """Seconds before each answer."""
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def gets_of(self, name: str) -> list[str | None]:
        """The ranges that were asked for of the files whose path ends so."""
        return [asked for path, asked in self.gets if path.endswith(name)]

    def fault_of(self, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.name in path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_files: FileServer

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        files = self.server_files
        path = unquote(urlsplit(self.path).path)
        asked = self.headers.get("Range")
        with files.lock:
            files.gets.append((self.path if "?" in self.path else path, asked))
        time.sleep(files.delay)
        if path in files.moved:
            self._only(302, Location=files.moved[path])
            return
        fault = files.fault_of(path)
        if fault and fault.kind in ("status", "loop"):
            self._only(fault.at or 302, **({"Location": self.path} if fault.kind == "loop" else {}))
            return
        try:
            data = (files.folder / path.lstrip("/")).read_bytes()
        except OSError:
            self._only(404)
            return
        if fault and fault.kind == "page":
            data = b"<html>Please log in.</html>"
        self._send(data, asked if files.ranges else None, fault)

    def _send(self, data: bytes, asked: str | None, fault: Fault | None) -> None:
        if fault and fault.kind == "wrong":
            data = data[: fault.at] + bytes([data[fault.at] ^ 1]) + data[fault.at + 1 :]
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked) if asked else None
        start, end = (int(found[1]), int(found[2] or len(data) - 1) + 1) if found else (0, len(data))
        body = data[start:end]
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault and fault.kind in ("cut", "stall"):
            self.wfile.write(body[: fault.at])
            self.wfile.flush()
            if fault.kind == "stall":
                self.server_files.stopped.wait(30)
            self.close_connection = True
            return
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def _only(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()


@contextlib.contextmanager
def serving(folder: Path, certificate: Path | None = None) -> Iterator[FileServer]:
    """A server of the folder's files on a port of this machine.

    Args:
        folder: what is served.
        certificate: see `make_certificate`; None: HTTP.
    """
    files = FileServer(folder)
    handler = type("Handler", (_Handler,), {"server_files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *arguments: None  # a client that goes away is part of the tests
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    files.url = f"{'http' if certificate is None else 'https'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield files
    finally:
        files.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


def make_certificate(path: Path) -> Path:
    """A key and a certificate for 127.0.0.1 that nobody else has signed, in one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "diffcore tests")])
    now = datetime.datetime.now(datetime.timezone.utc)  # noqa: UP017
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    return path
