"""``python -m diffcore_gpu`` is the command `diffcore`."""

from diffcore_gpu.cli import main

raise SystemExit(main())
