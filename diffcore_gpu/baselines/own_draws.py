"""Library code that draws from torch's global generator draws from a generator of ours instead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_draws(generator: torch.Generator) -> Iterator[None]:
    """Within, CPU draws of torch's global generator come from `generator`, which moves on; the global one does not.

    Costs about 10 µs, for two copies of a state of 5 kB each way.
    """
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator.get_state())
        try:
            yield
        finally:
            generator.set_state(torch.get_rng_state())
