"""What changes a finished store: merging several, binding it to another dataset, pruning, converting.

What adds to one is `CounterpartWriter` with `append=True`.
"""

from __future__ import annotations

from diffcore_gpu.store.growth.conversion import convert
from diffcore_gpu.store.growth.matching import contents_of
from diffcore_gpu.store.growth.merging import MergeReport, merge
from diffcore_gpu.store.growth.pruning import PruneReport, prune
from diffcore_gpu.store.growth.rebinding import RebindReport, rebind

__all__ = ["MergeReport", "PruneReport", "RebindReport", "contents_of", "convert", "merge", "prune", "rebind"]
