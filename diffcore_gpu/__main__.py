"""``python -m diffcore_gpu`` is the command `diffcore`."""

from __future__ import annotations

from diffcore_gpu.cli import main

raise SystemExit(main())
