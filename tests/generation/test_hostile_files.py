"""Prompts, model folders, reports, thumbnails, caches and journals that anyone may have written.

They are read, or refused in one sentence; a cache that does not serve is made anew.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation import embedding
from diffcore_gpu.generation.class_names import article, clean_label
from diffcore_gpu.generation.model_loading import check_model
from diffcore_gpu.generation.prompts import load_prompt_set
from diffcore_gpu.generation.report.folder import ReportFolder
from diffcore_gpu.generation.report.page import write_page
from diffcore_gpu.generation.report.records import Candidate, GenerationReport
from diffcore_gpu.generation.settings import ModelOptions
from diffcore_gpu.generation.verdicts import RECORD, Journal
from tests import fuzz
from tests.generation.report.reports import make_run

PROMPTS = b"""
name = "mushroom"
contextual = ["{a} {label}, on a mossy floor", "{a} {label}, {{among}} leaves"]
negative = ["people", "text"]
"""
INDEX = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
DISCARD = Candidate(3, 1, 0, 7, "a wren", "text", -0.125, False, 3)


def test_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.toml"

    def read(raw: bytes) -> None:
        path.write_bytes(raw)
        prompts = load_prompt_set(path)
        for name in ("wren", "", "{label}", "x" * 1000):
            for number in range(len(prompts.contextual)):
                prompts.render(number, name)
            prompts.render_negative(name)

    outcomes = fuzz.survives(read, PROMPTS, "toml", fuzz.seeds(500), (GenerationError,))
    assert min(outcomes["read"], outcomes["refused"]) > 10


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = " + "[" * 10_000, "cannot be read as a file of prompts (is nested too deeply)"),
        ("a." * 100_000 + "a = 1", "cannot be read as a file of prompts (is nested too deeply)"),
        ("a = " + "9" * 10_000, "cannot be read as a file of prompts (a number has too many digits)"),
        ("#" * (2 << 20), "cannot be read as a file of prompts (is too large: 2097152 bytes, where 1048576"),
        ("\ufeffa = 1", "is not TOML: it begins with a byte order mark; save it as UTF-8 without one"),
    ],
)
def test_prompts_that_ask_too_much(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(GenerationError) as raised:
        load_prompt_set(tmp_path / "p.toml")
    assert why in str(raised.value)


@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_what_is_no_file_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    discards = tmp_path / "out.report" / "discards"
    discards.mkdir(parents=True)
    paths = [tmp_path / "p.toml", tmp_path / "model" / "model_index.json", tmp_path / "out.report" / "report.json"]
    paths += [discards / "x.png", tmp_path / "cache.safetensors", tmp_path / "real.png"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
    prompts, model, report, discard, cache, _ = paths
    with pytest.raises(GenerationError, match="cannot be read as a file of prompts"):
        load_prompt_set(prompts)
    with pytest.raises(GenerationError, match=r"model_index\.json cannot be read"):
        check_model(ModelOptions(str(model.parent), gamma=6.5, steps=2))
    with pytest.raises(GenerationError, match=r"report\.json (is damaged|cannot be read): is "):
        ReportFolder(report.parent).read()
    with pytest.raises(GenerationError, match=r"x\.png is damaged"):
        ReportFolder(discard.parent.parent).discards()
    assert "is not a file" in str(embedding._read(cache, "key", 1))


def test_no_part_of_a_model_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(GenerationError, match=r"model\.safetensors is no model: it is neither a file nor a folder"):
        check_model(ModelOptions(str(tmp_path / "model.safetensors"), gamma=6.5, steps=2))
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps(INDEX))
    check_model(ModelOptions(str(folder), gamma=6.5, steps=2))
    os.mkfifo(folder / "unet" / "config.json")
    with pytest.raises(GenerationError, match=r"config\.json is no file; take it out"):
        check_model(ModelOptions(str(folder), gamma=6.5, steps=2))


def test_a_report_is_not_read_through_a_link_out_of_its_folder(tmp_path: Path) -> None:
    folder, other = ReportFolder(tmp_path / "a"), ReportFolder(tmp_path / "b")
    other.write(make_run(tmp_path, ["crow"]).report)
    other.keep_discard(DISCARD, torch.zeros(3, 8, 8, dtype=torch.uint8))
    (folder.path / "discards").mkdir(parents=True)
    [(_, file)] = other.discards()
    (folder.path / "report.json").symlink_to(other.path / "report.json")
    (folder.path / "discards" / file.name).symlink_to(file)
    with pytest.raises(GenerationError, match="link to a file outside its folder"):
        folder.read()
    with pytest.raises(GenerationError, match=f"{file.name} is damaged or no thumbnail"):
        folder.discards()


def test_a_model_folder(tmp_path: Path) -> None:
    def read(raw: bytes) -> None:
        (tmp_path / "model_index.json").write_bytes(raw)
        check_model(ModelOptions(str(tmp_path), gamma=6.5, steps=2))

    fuzz.survives(read, json.dumps(INDEX).encode(), "json", fuzz.seeds(300), (GenerationError,))


def test_the_description_of_a_filters_model(tmp_path: Path) -> None:
    path = tmp_path / embedding.CONFIG_NAME
    (tmp_path / embedding.WEIGHTS_NAME).write_bytes(b"")
    config = {"model_cfg": {"embed_dim": 8, "vision_cfg": {"layers": 1}}, "preprocess_cfg": {"mean": [0.5]}}

    def read(raw: bytes) -> None:
        path.write_bytes(raw)
        embedding._check_config(path)

    fuzz.survives(read, json.dumps(config).encode(), "json", fuzz.seeds(300), (GenerationError,))
    for text in ("[]", "{}", '{"model_cfg": []}', '{"model_cfg": {}, "preprocess_cfg": 3}', "[" * 1000):
        path.write_text(text)
        with pytest.raises(GenerationError, match=r"open_clip_config\.json (describes no model|cannot be read)"):
            embedding.load_embedder(str(tmp_path))
    path.write_text('{"model_cfg": {"embed_dim": "x"}}')
    with pytest.raises(GenerationError, match="cannot be loaded"):
        embedding.load_embedder(str(tmp_path))


def test_reports_and_their_pages(tmp_path: Path) -> None:
    folder = ReportFolder(tmp_path / "out.report")
    folder.write(make_run(tmp_path, ["crow", "wren"], hopeless=1, per_class=3).report)
    whole = (folder.path / "report.json").read_bytes()

    def read(raw: bytes) -> None:
        (folder.path / "report.json").write_bytes(raw)
        report = folder.read()
        assert GenerationReport.from_json(json.loads(json.dumps(report.as_json(), allow_nan=False))) == report
        write_page(folder.page, report, [])

    outcomes = fuzz.survives(read, whole, "json", fuzz.seeds(150), (GenerationError,))
    assert min(outcomes["read"], outcomes["refused"]) > 10


@pytest.mark.parametrize(
    "change",
    [
        {"margin": {"bin_width": 0.005, "first": 10**9, "accepted": [1], "discarded": [0]}},
        {"margin": {"bin_width": 0.005, "first": "0", "accepted": [1], "discarded": [0]}},
        {"margin": {"bin_width": 0.005, "first": 0, "accepted": "12", "discarded": "12"}},
        {"never_passed": [{"sample": 0, "label": 2, "name": "a", "attempts": 1, "best": 0.5}]},
        {"never_passed": [{"sample": 0, "label": 0, "name": "a", "attempts": 1, "best": "0.5"}]},
        {"wall_seconds": -1.0},
        {"wall_seconds": True},
        {"timed_images": -3},
        {"timed_images": 2**70},
        {"settings": []},
        {"version": True},
        {"seconds": {"vae": None}},
        {"classes": {"a": 1}},
    ],
)
def test_a_report_that_cannot_be(change: dict[str, object], tmp_path: Path) -> None:
    folder = ReportFolder(tmp_path / "out.report")
    folder.write(make_run(tmp_path, ["crow", "wren"], per_class=2).report)
    content = json.loads((folder.path / "report.json").read_bytes())
    (folder.path / "report.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(GenerationError, match=r"report\.json is damaged"):
        folder.read()


def thumbnail(tmp_path: Path) -> Path:
    folder = ReportFolder(tmp_path)
    folder.keep_discard(DISCARD, torch.zeros(3, 8, 8, dtype=torch.uint8))
    [(_, file)] = folder.discards()
    return file


def test_thumbnails(tmp_path: Path) -> None:
    file = thumbnail(tmp_path)
    whole = file.read_bytes()

    def read(raw: bytes) -> None:
        file.write_bytes(raw)
        ReportFolder(tmp_path).discards()

    fuzz.survives(read, whole, "bytes", fuzz.seeds(500), (GenerationError,))


def test_what_thumbnails_say(tmp_path: Path) -> None:
    file = thumbnail(tmp_path)

    def read(raw: bytes) -> None:
        file.write_bytes(raw)
        ReportFolder(tmp_path).discards()

    def said(text: bytes, size: int = 8) -> bytes:
        info = PngInfo()
        info.add_itxt("candidate", text.decode("utf-8", "replace"))
        data = io.BytesIO()
        Image.new("RGB", (size, size)).save(data, "PNG", pnginfo=info)
        return data.getvalue()

    true = json.dumps(DISCARD.as_json()).encode()
    read(said(true))
    fuzz.survives(lambda text: read(said(text)), true, "json", fuzz.seeds(300), (GenerationError,))
    other = json.dumps({**DISCARD.as_json(), "sample": 4}).encode()
    for raw in (said(true, 161), said(other), said(json.dumps({**DISCARD.as_json(), "accepted": True}).encode())):
        with pytest.raises(GenerationError, match="is damaged or no thumbnail of this report"):
            read(raw)


def test_a_cache_of_embeddings_serves_or_does_not(tmp_path: Path) -> None:
    cache = tmp_path / "cache.safetensors"
    unit = torch.nn.functional.normalize(torch.randn(3, 4), dim=1)
    whole = save({"embeddings": unit}, {"key": "key", "model": "m"})

    def read(raw: bytes) -> None:
        cache.write_bytes(raw)
        found = embedding._read(cache, "key", 3)
        assert isinstance(found, str) or (found.shape[0] == 3 and found.dtype == torch.float32)

    read(whole)
    outcomes = fuzz.survives(read, whole, "safetensors", fuzz.seeds(500), ())
    assert outcomes["refused"] == 0
    for other in (unit[0], unit.double(), unit.half(), unit * 2, unit[:2], unit * torch.nan, torch.ones(3, 4).bool()):
        cache.write_bytes(save({"embeddings": other.contiguous()}, {"key": "key"}))
        assert embedding._read(cache, "key", 3) == "it does not hold unit embeddings of these images"


@pytest.mark.parametrize(
    "mark",
    [
        {"images": -1},
        {"images": "2"},
        {"images": 2.0},
        {"images": True},
        {"images": 10**30},
        {"images": 3},
        {"images": 2, "crc32": 0},
        {"images": 2, "crc32": "x"},
        {"images": None},
    ],
)
def test_a_journal_and_a_mark_that_is_none(mark: dict[str, object], tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.add(np.zeros(2, RECORD))
    true = journal.save()
    assert len(journal.restore(true)) == 2
    with pytest.raises(GenerationError, match="is not the journal of this store"):
        journal.restore({**true, **mark})
    journal.close()


def test_a_journal_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "verdicts.bin")
    journal = Journal(tmp_path)
    with pytest.raises(GenerationError, match="is not the journal of this store"):
        journal.restore({"images": 2, "crc32": 0})
    journal.close()


def test_any_name_of_a_class_gives_words() -> None:
    for seed in fuzz.seeds(500):
        name = fuzz.mutated(b"024.Red_faced_Cormorant n02085620-Chihuahua", seed).decode(errors="replace")
        label = clean_label(name)
        assert article(label) in ("a", "an")
        assert bool(label.strip()) or not name.strip()
