"""On a machine without diffusers, transformers or open_clip, the other tests must still be collected."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest


@pytest.mark.parametrize("package", ["diffusers", "open_clip", "transformers"])
@pytest.mark.parametrize(
    "module",
    ["tests.generation.test_model_loading", "tests.generation.test_text_to_image", "tests.cli.test_generate_command"],
)
def test_a_module_is_skipped_where_its_models_cannot_be_made(
    package: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (module, "tests.generation.tiny_models", "tests.generation.single_file"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for parent in ("tests.generation", "tests.cli"):  # `from tests.generation import tiny_models` looks here first
        for name in ("tiny_models", "single_file", module.rpartition(".")[2]):
            monkeypatch.delattr(import_module(parent), name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(pytest.skip.Exception, match=f"genuine models need {package}"):
        import_module(module)
