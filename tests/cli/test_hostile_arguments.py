"""A command given anything for a path answers in one sentence, and waits for nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from diffcore_gpu.cli.frame import main

PATHS = ("file", "pipe", "empty", "loop", "none", "x" * 300, "/dev/zero", "real", "", "\udcff", "deep.json")
COMMANDS = (
    "inspect @",
    "verify @",
    "profile @",
    "pack --real @ --generated @ --out new --size 32",
    "pack --real real --generated real --out @ --size 32",
    "generate --real @ --out new --model model",
    "generate --real real --out new --model @",
    "generate --real real --out new --model model --prompts @",
    "generate --real real --out @ --model model",
    "bench report @ --out r.html",
    "bench report @ --readme @",
    "bench train @ --real real --device cpu",
    "bench train table7 --real @ --device cpu --json @",
    "bench overhead-accuracy --overhead @ --out x.png --paper-accuracies",
    "bench batch-gallery --weights @ --out g.png --model resnet18",
    "bench batch-gallery --real @ --out g.png --model resnet18",
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for folder in ("real/a", "model/unet"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "real" / "a" / "1.png")
    os.mkfifo(tmp_path / "real" / "a" / "2.png")
    (tmp_path / "model" / "model_index.json").write_text('{"_class_name": "X"}')
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_anything_for_a_path(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in PATHS:
        code = main([path if part == "@" else part for part in command.split()])
        said = capsys.readouterr().err.splitlines()
        assert code in (0, 1, 2), path
        assert all(len(line) < 1700 for line in said), path
        if code == 1:
            assert any(line.startswith("diffcore: ") and line.endswith((".", "?", ":")) for line in said), (path, said)
