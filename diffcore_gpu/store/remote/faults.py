"""What goes wrong between here and a server, told as one clause, and whether another try may help.

Each library that fsspec stands on has errors of its own; none of them reaches a user, since their text may hold a
signed address or span a page. They are known by module and name, so that nothing is imported to ask.
"""

from __future__ import annotations

import re
import sys

from diffcore_gpu.errors import StoreError, clause

_LIBRARIES = {
    "aiohttp": ("ClientError",),
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "huggingface_hub.errors": ("HfHubHTTPError", "EntryNotFoundError", "RevisionResolutionError"),
    "httpx": ("HTTPError", "InvalidURL"),
    "httpx2": ("HTTPError", "InvalidURL"),
    "requests": ("RequestException",),
    "gcsfs.retry": ("HttpError",),
    "google.auth.exceptions": ("GoogleAuthError",),
}
_ADDRESS = re.compile(r"\w+://[^\s'\"<>)\]]+")
_NO_CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "DefaultCredentialsError",
    "LocalTokenNotFoundError",
)
_UNREACHABLE = ("ClientConnectorError", "ClientConnectorDNSError", "EndpointConnectionError", "ConnectError")
_STALLED = ("ReadTimeoutError", "ConnectTimeoutError", "ReadTimeout", "ConnectTimeout", "FSTimeoutError")
_CUT = (
    "ClientPayloadError", "ServerDisconnectedError", "IncompleteReadError", "ResponseStreamingError",
    "RemoteProtocolError", "ConnectionClosedError", "ReadError", "HTTPClientError",
)  # fmt: skip
_CERTIFICATE = ("ClientConnectorCertificateError", "ClientConnectorSSLError", "SSLCertVerificationError", "SSLError")
_ENDLESS = "TooManyRedirects"
_PASSING_STATUS = (408, 425, 429)


class BrokenTransferError(Exception):
    """What arrived is not what was asked for."""


class MissingFileError(StoreError):
    """The server says that there is no such file."""


def library_errors() -> tuple[type[BaseException], ...]:
    """The errors that a transfer may raise, of the libraries that are loaded."""
    found = [
        getattr(sys.modules[module], name)
        for module, names in _LIBRARIES.items()
        if module in sys.modules
        for name in names
        if hasattr(sys.modules[module], name)
    ]
    return (OSError, ValueError, EOFError, BrokenTransferError, *found)


def is_missing(error: BaseException) -> bool:
    """Whether the server says that there is no such file or folder."""
    return isinstance(error, FileNotFoundError) or _status(error) in (404, 410) or "NotFound" in _names(error)


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    names = _names(error)
    if is_missing(error) or isinstance(error, PermissionError):
        return False
    if any(name in names for name in (*_NO_CREDENTIALS, *_CERTIFICATE, _ENDLESS)) or _is_wrong_address(names):
        return False
    status = _status(error)
    return status is None or status >= 500 or status in _PASSING_STATUS


def cause_of(error: BaseException) -> str:
    """Why a request failed: a clause, without any address."""
    names, status = _names(error), _status(error)
    if isinstance(error, BrokenTransferError):
        return clause(error)
    for found, text in (
        (_is_missing_bucket(error), "there is no such bucket"),
        (is_missing(error), "there is no such file"),
        (any(name in names for name in _NO_CREDENTIALS), "no credentials were found"),
        (isinstance(error, PermissionError) or status in (401, 403), "access is denied"),
        (any(name in names for name in _CERTIFICATE), "the server's certificate is not trusted"),
        (_is_wrong_address(names), "the address is not valid"),
        (any(name in names for name in _UNREACHABLE), "the server cannot be reached"),
        (isinstance(error, TimeoutError) or any(name in names for name in _STALLED), "the server does not answer"),
        (isinstance(error, ConnectionError | EOFError) or any(name in names for name in _CUT), "the connection broke"),
        (_ENDLESS in names, "the server redirects without end"),
        (status is not None, f"the server answers with status {status}"),
    ):
        if found:
            return text
    text = getattr(error, "strerror", None) or clause(error)
    return _ADDRESS.sub("an address", text).rstrip(".") or type(error).__name__


def _names(error: BaseException) -> str:
    """The names of an error's classes, and of the errors that it came from, in one text."""
    chain: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(chain) < 64:
        chain += [kind.__name__ for kind in type(seen).__mro__ if kind.__module__ != "builtins"]
        seen = seen.__cause__
    return " ".join(chain)


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error tells, in whatever place its library keeps it."""
    for seen in (error, error.__cause__):
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        # aiohttp has a code of its own for what is wrong with the bytes of an answer
        code = getattr(seen, "code", None) if type(seen).__module__.startswith("gcsfs") else None
        for value in (getattr(seen, "status", None), getattr(response, "status_code", response), code):
            if isinstance(value, int | str) and re.fullmatch(r"[1-5]\d\d", str(value)):
                return int(value)
    return None


def _is_missing_bucket(error: BaseException) -> bool:
    response = getattr(error.__cause__, "response", None)
    return isinstance(response, dict) and response.get("Error", {}).get("Code") == "NoSuchBucket"


def _is_wrong_address(names: str) -> bool:
    return any(
        name in names.split() for name in ("InvalidURL", "ParamValidationError", "HFValidationError", "HfUriError")
    )
