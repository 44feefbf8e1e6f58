"""Keep back what the libraries behind a pipeline say to the authors of pipelines."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LIBRARIES = ("diffusers", "transformers", "accelerate", "huggingface_hub", "open_clip", "timm", "torch")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No warnings, no bars, and no remarks short of errors from the libraries that are imported by then.

    All of that belongs to the process, not to a thread: enter this once, around the threads.
    """
    hub = logging.getLogger("huggingface_hub")  # it warns of each of its retries; what failed in the end is raised
    hub_level = hub.level
    logs = [sys.modules.get(f"{library}.utils.logging") for library in ("diffusers", "transformers")]
    before = [(log, log.is_progress_bar_enabled(), log.get_verbosity()) for log in logs if log is not None]
    with warnings.catch_warnings():
        for library in _LIBRARIES:
            warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
        hub.setLevel(logging.ERROR)
        for log, _, _ in before:
            log.disable_progress_bar()
            log.set_verbosity_error()
        try:
            yield
        finally:
            hub.setLevel(hub_level)
            for log, bars, verbosity in before:
                log.set_verbosity(verbosity)
                if bars:
                    log.enable_progress_bar()
