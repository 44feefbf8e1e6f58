"""What is distributed: an sdist and a wheel, built here from a copy of the repository and without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
IN_GIT = (ROOT / ".git").exists() and shutil.which("git") is not None
LINK = re.compile(r"]\(([^)\s]+)\)")


def _repository() -> list[str]:
    """The files of the repository: in a checkout those that git tracks, elsewhere all that git would not ignore."""
    if IN_GIT:
        command = ["git", "ls-files", "-z"]
        tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        return sorted(name for name in tracked if name and (ROOT / name).exists())
    patterns = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    ignored = shutil.ignore_patterns(".venv*", *(pattern.rstrip("/") for pattern in patterns))
    files = []
    for folder, folders, names in os.walk(ROOT):
        left_out = ignored(folder, [*folders, *names])
        folders[:] = [name for name in folders if name not in left_out]
        files += [(Path(folder) / name).relative_to(ROOT).as_posix() for name in names if name not in left_out]
    return sorted(files)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    files = _repository()
    for name in files:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    # First the sdist, then the wheel from it. setuptools warns where Python was told to write no bytecode.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(source)]
    run = subprocess.run(command, cwd=dist, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    with tarfile.open(sdist) as archive:
        in_sdist = {entry.name.split("/", 1)[1] for entry in archive if entry.isfile()}
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
        (metadata,) = (name for name in in_wheel if name.endswith(".dist-info/METADATA"))
        headers = message_from_bytes(archive.read(metadata))
    return SimpleNamespace(
        files=files,
        said=run.stdout + run.stderr,
        sdist={name for name in in_sdist if ".egg-info/" not in name and name not in ("PKG-INFO", "setup.cfg")},
        wheel={name for name in in_wheel if ".dist-info/" not in name},
        metadata=headers,
        description=headers.get_payload(decode=True).decode(),
    )


def test_a_build_warns_of_nothing(built):
    assert [line for line in built.said.splitlines() if re.search("warn|ignored", line, re.IGNORECASE)] == []


@pytest.mark.skipif(not IN_GIT, reason="git tells what belongs to the repository, and this is no checkout")
def test_the_sdist_is_the_repository(built):
    assert sorted(built.sdist) == built.files


def test_the_wheel_is_the_three_packages_with_their_data(built):
    installed = {
        re.sub("^(benchmarks|kernels)/", r"diffcore_gpu/\1/", name)
        for name in built.files
        if re.match("(diffcore_gpu|benchmarks|kernels)/", name)
    }
    kept_out = re.compile("diffcore_gpu/benchmarks/(results/|[^/]*[.]sh$)")
    assert built.wheel == {name for name in installed if not kept_out.match(name)}
    assert {"diffcore_gpu/py.typed", "diffcore_gpu/benchmarks/training/recipes/table2.toml"} <= built.wheel


def test_the_description_has_no_relative_link(built):
    (repository,) = (url.split(", ")[1] for url in built.metadata.get_all("Project-URL"))
    readme = (ROOT / "README.md").read_text("utf-8")
    ours = [link for link in LINK.findall(readme) if not re.match("#|[a-z]+:", link)]
    assert "docs/contact_sheet.png" in ours
    assert [link for link in ours if not (ROOT / link).exists()] == []
    links = LINK.findall(built.description)
    assert [link for link in links if not re.match("#|https://", link)] == []
    assert f"{repository}/raw/main/docs/contact_sheet.png" in links
    assert f"{repository}/blob/main/CONTRIBUTING.md" in links
    assert LINK.sub("", built.description) == LINK.sub("", readme)  # nothing else changes
    assert not re.search("(src|href)=", readme)  # which would have to be made absolute, too


ONLY_THE_CORE = """
import sys

for package in sys.argv[1:]:
    sys.modules[package] = None

import diffcore_gpu as dc
from diffcore_gpu.benchmarks.suites import run_suite

assert all(getattr(dc, name) is not None for name in dc.__all__)
run_suite("train", ["--list"])
"""
# Not pydantic: recipes are read with it, and it comes with newer versions of typer, but older ones do not bring it.
EXTRAS = [
    *("accelerate", "cv2", "diffusers", "gco", "kornia", "matplotlib", "numba", "open_clip", "scipy", "sklearn"),
    "submitit",
]


def test_every_name_and_the_recipes_need_core_dependencies_alone():
    command = [sys.executable, "-W", "error", "-c", ONLY_THE_CORE, *EXTRAS, "timm", "torchvision", "transformers"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.startswith("table2 ")
    assert run.stderr == ""
