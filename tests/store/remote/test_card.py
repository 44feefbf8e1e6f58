"""The card of a store says what the store knows, is read by the Hub, and shows no real image."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from diffcore_gpu.contact_sheet import counterpart_sheet
from diffcore_gpu.generation.presets import PRESETS
from diffcore_gpu.store import CounterpartStore, CounterpartWriter
from diffcore_gpu.store.remote.card import card, licence_of, models_of, picture_of
from tests.store import work

MADE = {
    "made_by": "diffcore generate",
    "version": "0.1.0",
    "real": "birds | of *prey*",
    "model": {"model": "stabilityai/cosxl/cosxl.safetensors", "vae": "madebyollin/sdxl-vae-fp16-fix", "steps": 50},
    "filter": {"model": "ViT-B-32"},
    "thresholds": [0.5, None, 0.75],
    "prompts": {"name": "bird", "contextual": ["a {label} in the `snow`"], "negative": "text"},
}
URL = "hf://datasets/someone/birds"


def front_matter(text: str) -> dict:
    cards = pytest.importorskip("huggingface_hub", reason="the extra remote brings it")
    return cards.DatasetCard(text).data.to_dict()


def test_what_it_says(tmp_path):
    text = card(work.build(tmp_path / "store", metadata=MADE), URL)
    assert text.startswith("---\n")
    for said in (
        r"# Counterparts of birds \| of \*prey\*",
        "Generated images for 12 training images of 3 classes",
        "| samples | 12, of which 11 (91.7%) have a counterpart |",
        "| made by | `diffcore generate 0.1.0` |",
        "| thresholds | `similarity above 0.500 to 0.750 by class, median 0.625` |",
        "- `a {label} in the 'snow'`",
        "- Weights of `stabilityai/cosxl/cosxl.safetensors`: `cosxl-nc-community`, as its page on the Hub says.",
        "- Weights of `madebyollin/sdxl-vae-fp16-fix`: `mit`, as its page on the Hub says.",
        "- The images: not known.",
        f'store = dc.CounterpartStore.open("{URL}")',
        "| `red` | 4 | 4 | 8 |",
    ):
        assert said in text


def test_what_is_not_known_is_said_to_be_unknown(tmp_path):
    text = card(work.build(tmp_path / "store", metadata={"model": {"model": "my/model"}}), URL, picture=False)
    assert "- Weights of `my/model`: not known." in text
    assert "Counterparts of a dataset whose name is not known" in text
    assert "![" not in text
    assert "The model that made the images, and its licence: not known." in card(
        work.build(tmp_path / "other", metadata={}), URL
    )


@pytest.mark.parametrize("name", ["birds", 'x: "y"\n---\nlicense: mit', "日本 🐦", "#a\x7f\u2028b", "\\", "[", "&x"])
def test_the_hub_reads_the_front_matter(tmp_path, name):
    found = front_matter(card(work.build(tmp_path / "store", metadata={"real": name}), URL))
    assert found["license"] == "unknown"
    assert found["pretty_name"].startswith("Counterparts of ")
    assert found["size_categories"] == ["n<1K"]
    assert found["task_categories"] == ["image-classification"]


def test_every_preset_has_its_licence():
    for preset in PRESETS.values():
        for model in models_of({"model": {"model": preset.model, "vae": preset.vae}}):
            assert licence_of(model), model


def test_class_names_stay_in_their_cells(tmp_path):
    names = ["a|b", "c`d", "<script>\n| e"]
    text = card(work.build(tmp_path / "store", class_names=names), URL)
    table = text.partition("## Classes\n\n")[2].splitlines()
    assert [line.count("|") - line.count("\\|") for line in table] == [5] * 5


def test_the_picture_shows_counterparts(tmp_path):
    shape = (3, 160, 160)
    with CounterpartWriter(tmp_path / "store", **work.arguments(image_shape=shape)) as writer:
        for row in range(6):
            image = torch.full(shape, 40 * row + 10, dtype=torch.uint8)
            writer.add_row(image, label=row % 3)
    store = CounterpartStore.open(tmp_path / "store")
    sheet = np.asarray(counterpart_sheet(store, columns=3))
    for row in range(6):
        assert int((sheet == 40 * row + 10).all(axis=-1).sum()) >= 160 * 160
    picture = Image.open(io.BytesIO(picture_of(store)))
    assert picture.format == "JPEG"
    with CounterpartWriter(tmp_path / "empty", **work.arguments()):
        pass
    with pytest.raises(ValueError, match="needs a store with rows"):
        counterpart_sheet(CounterpartStore.open(tmp_path / "empty"))
