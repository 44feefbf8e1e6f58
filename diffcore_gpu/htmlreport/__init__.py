"""A report as one HTML file that needs nothing else: what the pages of generation and of the benchmarks share."""

from __future__ import annotations
