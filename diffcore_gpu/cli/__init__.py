"""The command `diffcore`.

Each command is a module of this package with one function. To add one, write the module and name the function in
`_COMMANDS` of `frame.py`. Nothing slow may be imported outside the function, so that ``diffcore --help`` does not wait
for torch.
"""

from __future__ import annotations

from diffcore_gpu.cli.frame import app, main

__all__ = ["app", "main"]
