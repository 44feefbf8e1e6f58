"""The error of generation."""

from __future__ import annotations

from diffcore_gpu.errors import DiffcoreError


class GenerationError(DiffcoreError):
    """Counterparts cannot be generated as asked. The message names the setting, file or folder and the mend."""
