"""The tests on every supported corner, each in an environment of its own: `nox` runs all, `nox -l` lists them.

A corner is a Python and a torch with the triton that belongs to it. The GitHub workflow runs the same sessions.
"""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True

PINS = {
    "oldest": ("torch==2.11.*", "triton==3.6.*", "torchvision==0.26.*"),
    "middle": ("torch==2.14.1", "triton==3.8.*", "torchvision==0.29.1"),
    "newest": (),  # what the installer resolves
}
CORNERS = [
    ("3.11", "oldest"), ("3.12", "oldest"), ("3.13", "oldest"),
    ("3.11", "middle"), ("3.13", "middle"),
    ("3.11", "newest"), ("3.13", "newest"),
]  # fmt: skip
IN_PARALLEL = ("-n", "auto", "--maxprocesses", "8")
"""As `make test` has it."""


def _install(session: nox.Session, *more: str) -> None:
    session.install("--editable", ".[dev]", *more)
    versions = "import platform, torch, triton; print(platform.python_version(), torch.__version__, triton.__version__)"
    session.run("python", "-c", versions)


@nox.session
@nox.parametrize("python,torch", CORNERS, ids=[f"python-{python}-torch-{torch}" for python, torch in CORNERS])
def tests(session: nox.Session, torch: str) -> None:
    """Every test that is not slow; arguments after `--` go to pytest."""
    _install(session, *PINS[torch])
    session.run("python", "-m", "pytest", "-m", "not slow and not torture", *IN_PARALLEL, *session.posargs)


@nox.session(python="3.11")
def random_order(session: nox.Session) -> None:
    """The same tests in an order that is drawn anew each time; pytest prints the seed."""
    _install(session, "pytest-randomly")
    session.run("python", "-m", "pytest", "-m", "not slow and not torture", *IN_PARALLEL, *session.posargs)
