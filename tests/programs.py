"""Programs that a test runs in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys


def run_python(*arguments: object, **environment: str) -> str:
    """What `python ARGUMENTS` prints, with more variables in its environment; it must end with 0."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout
