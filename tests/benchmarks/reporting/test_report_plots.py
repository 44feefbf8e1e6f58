"""Plots: drawn for every suite that has some, the same bytes every time, with what they show in words."""

from __future__ import annotations

import io
import itertools

import pytest

pytest.importorskip("matplotlib", reason="the plots need matplotlib")

import matplotlib as mpl
import numpy as np
from PIL import Image

from diffcore_gpu.benchmarks.reporting.accuracy_tables import Point
from diffcore_gpu.benchmarks.reporting.plots import DARK, LIGHT, new_figure, overhead_axis
from diffcore_gpu.benchmarks.reporting.suite_plots import PLOTS, name_points, pictures_of
from diffcore_gpu.errors import BenchmarkError
from tests.benchmarks.reporting.samples import loaded


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@pytest.mark.parametrize("suite", PLOTS)
def test_plots_are_drawn_in_both_themes_with_a_description(suite: str) -> None:
    before = dict(mpl.rcParams)
    ((plot, light, dark),) = pictures_of(loaded(suite))
    assert dict(mpl.rcParams) == before
    assert plot.alt.startswith(plot.alt[0].upper())
    assert len(plot.alt) > 60
    assert light == plot.png(LIGHT)  # drawn anew
    assert Image.open(io.BytesIO(light)).info.keys() <= {"dpi"}
    bright, dim = pixels(light), pixels(dark)
    assert bright.shape == dim.shape
    assert bright[0, 0].tolist() == [255, 255, 255]
    assert dim[0, 0].max() < 60
    marked = np.abs(bright - bright[0, 0]).max(-1) > 60
    assert 0.002 < marked.mean() < 0.5


def test_the_words_hold_the_figures() -> None:
    assert "diffcore-mix +3.0 %" in pictures_of(loaded("overhead"))[0][0].alt
    assert "diffcore-mix-100 on val 92.50 %" in pictures_of(loaded("train"))[0][0].alt
    assert "at 50 %: seconds 5.0, generated 100.0, discarded, % 25.0" in pictures_of(loaded("generation"))[0][0].alt
    assert "2 workers: real images alone 300" in pictures_of(loaded("loader"))[0][0].alt


def test_a_suite_without_plots_and_a_result_without_parts_have_none() -> None:
    assert pictures_of(loaded("peers")) == []
    for suite in PLOTS:
        empty = loaded(suite)
        empty.result["results"] = []
        assert pictures_of(empty) == []


def test_ours_has_a_colour_of_its_own() -> None:
    result = loaded("overhead")
    orange = np.array([int(LIGHT.ours[i : i + 2], 16) for i in (1, 3, 5)])
    with_ours = pixels(pictures_of(result)[0][1])
    for part in result.result["results"]:
        part["times"].pop("diffcore-mix", None)
    without = pixels(pictures_of(result)[0][1])
    assert (np.abs(with_ours - orange).max(-1) < 8).sum() > 50
    assert (np.abs(without - orange).max(-1) < 8).sum() == 0


def test_a_result_that_lacks_a_field_is_named() -> None:
    broken = loaded("train")
    broken.result["results"][0]["splits"]["val"] = {}
    with pytest.raises(BenchmarkError, match=r"train.json: does not hold .* \(KeyError: 'top1'\)"):
        pictures_of(broken)


def test_names_of_crowded_points_do_not_cover_each_other() -> None:
    generator = np.random.default_rng(0)
    drawn = generator.normal((5, 80), (2, 0.5), (19, 2)).tolist()
    points = [
        Point(f"a method {i}", "m", percent, percent - 1, percent + 1, accuracy, 0.2, 2)
        for i, (percent, accuracy) in enumerate(drawn)
    ]
    figure, (axes,) = new_figure(7.2, 4.8, LIGHT)
    overhead_axis(axes, -1, 500)
    axes.set_ylim(60, 95)
    boxes = name_points(figure, axes, points, [False] * len(points), DARK)
    assert len(boxes) == 19
    for one, other in itertools.combinations(boxes, 2):
        assert not one.covers(other)
    texts = [text.get_window_extent(figure.canvas.get_renderer()) for text in axes.texts]
    for text, box in zip(texts, boxes, strict=True):
        np.testing.assert_allclose(text.extents, box, atol=1)
