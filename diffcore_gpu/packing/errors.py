"""The error of packing."""

from __future__ import annotations

from collections.abc import Sequence

from diffcore_gpu.errors import DiffcoreError


class PackError(DiffcoreError):
    """The images cannot be packed as asked. The message names the folder or file and what to do about it.

    Attributes:
        details: one line for each file or class that the message speaks of; empty where it names them itself.
    """

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)
