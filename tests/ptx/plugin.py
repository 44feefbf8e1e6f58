"""``pytest -p tests.ptx.plugin``: launches of the project's kernels run as compiled PTX on the emulator.

PTX_TARGET (sm_90) and PTX_APART (0; 1: warps one by one in an order of chance) choose how.
"""

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
    for module, name in kernels().values():
        setattr(module, name, config.ptx.wrap(getattr(module, name)))


@pytest.fixture
def emulator(request: pytest.FixtureRequest) -> Any:
    """The emulator on which kernels are launched."""
    return request.config.ptx


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    ran = config.ptx
    blocks = sum(len(kernel.executed) for kernel in ran.kernels.values())
    seen = sum(int((kernel.executed > 0).sum()) for kernel in ran.kernels.values())
    terminalreporter.write_line(
        f"PTX emulated for {TARGET}, warps {'apart' if APART else 'in lockstep'}: {ran.count} launches of "
        f"{len(ran.kernels)} compiled kernels, {seen} of {blocks} basic blocks run"
    )
