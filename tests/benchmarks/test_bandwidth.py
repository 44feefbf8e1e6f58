"""The rates that the suite computes, and its table."""

import pytest

from diffcore_gpu.benchmarks import bandwidth


def test_rates_and_table() -> None:
    names = ("copy", "large copy", "pixel", "patch", "default")
    times = {name: {"median_ms": 2.0} for name in names}
    moved = dict(zip(names, (4_000_000, 8_000_000, 3_000_000, 2_000_000, 1_000_000), strict=True))
    rates = bandwidth.fractions(times, moved)
    assert rates["pixel"] == pytest.approx({"gb_per_s": 1.5, "of_copy": 0.75, "of_large_copy": 0.375})
    case = {"dtype": "uint8", "memory_format": "contiguous", "size": 224, "batch": 16, "rates": rates, "times": times}
    lines = bandwidth.report(case).split("\n")
    assert lines[0].split() == [
        "16×3×224×224",
        "uint8",
        "contiguous",
        "µs",
        "GB/s",
        "of",
        "copy",
        "of",
        "large",
        "copy",
    ]
    assert lines[3].split() == ["pixel", "2000.0", "2", "0.75", "0.38"]
