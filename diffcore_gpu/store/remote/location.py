"""Where a remote store lies: its URL, the file system of fsspec that reads it, and how the URL is told to a person."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from diffcore_gpu.errors import StoreError, clause

STALL_SECONDS = 60
"""How long a server may send nothing before the connection is given up."""
CONNECT_SECONDS = 20

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_EXTRA = "pip install 'diffcore-gpu[remote]'"


def is_url(place: object) -> bool:
    """Whether a store's place is a URL such as `s3://bucket/store`, rather than a folder."""
    return isinstance(place, str) and _SCHEME.match(place) is not None


def is_flattened_url(place: object) -> bool:
    """Whether a path is what `Path` makes of a URL, with one slash of the two."""
    return isinstance(place, Path) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", place.as_posix()) is not None


def shown_place(text: str) -> str:
    """A store's place as someone typed it, for a message: a URL without what may be secret, or the path of a folder."""
    return shown(text) if is_url(text) else str(Path(text))


class RemoteFolder:
    """A folder behind a URL; it connects when it is first asked for something, and again in each process.

    Args:
        url: with a scheme that fsspec knows, such as `s3://bucket/store`. A query, as signed addresses have one, is
            sent with the name of each file; the user's name and the query are never part of a message.
        options: how fsspec connects, its `storage_options`: credentials, endpoints. Without them each library looks
            where it always does: environment, configuration files.

    Raises:
        StoreError: there is no such scheme, or the package that reads it is not installed.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        found = _SCHEME.match(url)
        if found is None or "::" in url:
            raise StoreError(f"{shown(url)}: is not the URL of a folder, such as s3://bucket/store.")
        self.url = url
        self.options = dict(options or {})
        self.scheme = found[1].lower()
        self._connected: tuple[int, Any] | None = None
        self._class = _class_of(self.scheme, url)

    def __str__(self) -> str:
        return shown(self.url)

    def __repr__(self) -> str:
        return f"RemoteFolder({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteFolder, (self.url, self.options)

    @property
    def fs(self) -> Any:
        """The file system of fsspec, one for each process: its threads do not survive a fork."""
        connected = self._connected
        if connected is None or connected[0] != os.getpid():  # no lock: fsspec gives two threads the same one
            try:
                connected = os.getpid(), self._class(**_with_defaults(self.scheme, self.options))
            except (ImportError, OSError, TypeError, ValueError) as error:
                raise StoreError(f"{self}: cannot be connected to: {clause(error)}.") from None
            self._connected = connected
        return connected[1]

    @property
    def name(self) -> str:
        """The folder's own name."""
        return str(self).rpartition("/")[2]

    def __truediv__(self, name: str) -> str:
        return self.shown(name)

    def resolve(self) -> RemoteFolder:
        """See `Place`."""
        return self

    def path(self, name: str) -> str:
        """The file of that plain name, as `fs` calls it."""
        if self.scheme in ("http", "https"):
            parts = urlsplit(self.url)
            return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}", fragment=""))
        return f"{str(self._class._strip_protocol(self.url)).rstrip('/')}/{name}"

    def shown(self, name: str) -> str:
        """The URL of the file of that name, for a message."""
        return f"{self}/{name}"


def shown(url: str) -> str:
    """A URL without what may be secret, for a message: no user, no password, no query."""
    plain = re.split(r"[?#]", url, maxsplit=1)[0]
    scheme, mark, rest = plain.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}".rstrip("/")


def _class_of(scheme: str, url: str) -> type[Any]:
    try:
        import fsspec
    except ImportError:
        raise StoreError(f"{shown(url)}: stores behind a URL need the package fsspec: {_EXTRA}.") from None
    try:
        found: type[Any] = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise StoreError(f"{shown(url)}: needs another package: {_EXTRA} ({clause(error)}).") from None
    except ValueError:
        raise StoreError(
            f"{shown(url)}: there is no way to read {scheme}://; s3, gs, https and hf are known."
        ) from None
    return found


def _with_defaults(scheme: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with bounds on every wait, where the user gave none; a listing that is remembered would be stale."""
    made = {"use_listings_cache": False, **options}
    if scheme in ("http", "https"):
        import aiohttp

        # aiohttp's own bound is five minutes for a whole file, however well it arrives
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=STALL_SECONDS)
        made["client_kwargs"] = {"timeout": timeout, "trust_env": True, **options.get("client_kwargs", {})}
        made.setdefault("encoded", True)  # a signature holds only for the address as it was given
    elif scheme in ("s3", "s3a"):
        waits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": STALL_SECONDS, "retries": {"max_attempts": 2}}
        made["config_kwargs"] = {**waits, **options.get("config_kwargs", {})}
    elif scheme in ("gs", "gcs"):
        # gcsfs logs each failure with its traceback, which Python prints where nobody listens to a package's log
        log = logging.getLogger("gcsfs")
        if not log.handlers:
            log.addHandler(logging.NullHandler())
    return made
