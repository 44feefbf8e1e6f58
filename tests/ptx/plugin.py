"""``pytest -p tests.ptx.plugin``: launches of the project's kernels run as compiled PTX on the emulator.

PTX_TARGET (sm_90) and PTX_APART (0; 1: warps one by one in an order of chance) choose how.
"""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "0"  # before triton is imported, and before tests/conftest.py chooses
os.environ["PTX_EMULATED"] = "1"  # for tests/ptx/conftest.py

from typing import Any

import pytest

TARGET = os.environ.get("PTX_TARGET", "sm_90")
APART = os.environ.get("PTX_APART", "0") == "1"


def kernels() -> dict[str, tuple[Any, str]]:
    """Every kernel that a launcher launches: its name → (module, attribute)."""
    from triton.runtime.jit import JITFunction

    from diffcore_gpu.kernels import crop_mix, mix, resized_crop

    found = {}
    for module in (mix, crop_mix, resized_crop):
        for name, value in vars(module).items():
            if isinstance(value, JITFunction) and name.endswith("_kernel") and value.fn.__module__ == module.__name__:
                found[name] = (module, name)
    return found


def pytest_configure(config: pytest.Config) -> None:
    from hypothesis import Phase, settings

    from .launching import Emulator, remember_addresses

    # The same examples in every run, and no search for a smaller one: each may have to be compiled.
    settings.register_profile("ptx", derandomize=True, database=None, phases=[Phase.explicit, Phase.generate])
    settings.load_profile("ptx")
    remember_addresses()
    config.ptx = Emulator(TARGET, APART)
    config.ptx_processes = []
    for module, name in kernels().values():
        setattr(module, name, config.ptx.wrap(getattr(module, name)))


@pytest.fixture
def emulator(request: pytest.FixtureRequest) -> Any:
    """The emulator on which kernels are launched."""
    return request.config.ptx


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a process of pytest-xdist, whose parent prints the summary
        session.config.workeroutput["ptx"] = _ran(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    if "ptx" in getattr(node, "workeroutput", {}):
        node.config.ptx_processes.append(node.workeroutput["ptx"])


def _ran(config: pytest.Config) -> tuple[int, dict[str, list[bool]]]:
    """How many launches this process ran, and of each compiled kernel which basic blocks."""
    return config.ptx.count, {repr(key): (k.executed > 0).tolist() for key, k in config.ptx.kernels.items()}


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    count, blocks = 0, {}
    for launches, kernels_ran in (_ran(config), *config.ptx_processes):
        count += launches
        for key, ran in kernels_ran.items():
            blocks[key] = [a or b for a, b in zip(ran, blocks.get(key, ran), strict=True)]
    terminalreporter.write_line(
        f"PTX emulated for {TARGET}, warps {'apart' if APART else 'in lockstep'}: {count} launches of {len(blocks)} "
        f"compiled kernels, {sum(map(sum, blocks.values()))} of {sum(map(len, blocks.values()))} basic blocks run"
    )
