"""What errors are said with."""

from __future__ import annotations

from diffcore_gpu.errors import clause


def test_a_clause_is_the_first_line_without_its_period() -> None:
    assert clause(RuntimeError("\nfirst\nsecond")) == "first"
    assert clause(ValueError("too few.")) == "too few"
    assert clause(MemoryError()) == "MemoryError"
