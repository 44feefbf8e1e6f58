"""Whether a transform has the right store: a warning of one that nobody bound, why one does not fit a checkpoint."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING
from weakref import WeakSet, WeakValueDictionary

import torch

if TYPE_CHECKING:
    from diffcore_gpu.store import CounterpartStore

_STORES: WeakValueDictionary[str, CounterpartStore] = WeakValueDictionary()
_NOTICED: WeakSet[CounterpartStore] = WeakSet()


def key_of(store: CounterpartStore) -> str:
    """What `notice_unbound` knows this store by, in this process and as long as it lives."""
    key = str(id(store))
    _STORES[key] = store
    return key


# It runs while a graph is traced, and leaves nothing in the graph.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def notice_unbound(key: str) -> None:
    """Warn, once of each store, where nobody has compared it with a dataset.

    Args:
        key: of the store, by `key_of`; a string, which a graph takes for a constant.
    """
    store = _STORES.get(key)
    if store is None or store.is_bound or store in _NOTICED:
        return
    _NOTICED.add(store)
    warnings.warn(
        f"{store.path} was not bound to a dataset, so images of another one would be mixed without a word; call "
        "store.bind(dataset), or pass labels= with each batch.",
        stacklevel=2,
    )


def other_store(store: CounterpartStore, before: object, or_anew: str) -> str:
    """Why a checkpoint does not fit a store.

    Args:
        store: the one that is there.
        before: the checksum that the checkpoint has of its own.
        or_anew: the end of the sentence about a store that is quite another.
    """
    history = store.manifest.history
    since = next((place for place, entry in enumerate(history) if entry.get("before") == before), None)
    if since is None:
        return (
            f"the checkpoint was made with another store than {store.path} is now; train on with that store{or_anew}."
        )
    operations = list(dict.fromkeys(str(entry.get("operation")) for entry in history[since:]))
    changed = "has grown" if operations == ["append"] else "was changed"
    return (
        f"the checkpoint was made before the store {store.path} {changed} ({', '.join(operations)}); train on with "
        "what it was, or take `store` and `pairs` out of the checkpoint's `_extra_state` to go on with what it is now."
    )
