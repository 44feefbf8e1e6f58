"""What a benchmark tells its user when it cannot measure what was asked."""

from __future__ import annotations

from diffcore_gpu.errors import DiffcoreError


class BenchmarkError(DiffcoreError):
    """A suite, model, result file or device is not there, or is not one that can be used; one plain sentence."""
