"""The tables of every suite: what stands in them, against figures worked out by hand or by numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu.benchmarks.harness import measure
from diffcore_gpu.benchmarks.reporting import tables
from diffcore_gpu.benchmarks.reporting.step_tables import batch_time_tables, overhead_tables
from diffcore_gpu.benchmarks.reporting.suite_tables import TABLES, tables_of
from diffcore_gpu.benchmarks.reporting.tables import Table, make_table, markdown_code, markdown_table, markdown_text
from diffcore_gpu.benchmarks.suites import SUITES
from diffcore_gpu.errors import BenchmarkError
from tests.benchmarks.reporting.samples import PARTS, loaded


def rows(suite: str, number: int = 0) -> list[dict[str, str]]:
    """Each row of a table by its columns; of columns with one name, the last."""
    table = tables_of(loaded(suite))[number]
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


@pytest.mark.parametrize("suite", PARTS)
def test_every_suite_has_tables_for_the_readme(suite: str) -> None:
    found = tables_of(loaded(suite))
    assert [table for table in found if table.rows and not table.details]
    for table in found:
        assert 1 <= table.text_columns < len(table.header)


def test_the_samples_are_of_all_suites_that_write_results() -> None:
    assert set(PARTS) == set(SUITES) - {"report"}
    assert set(TABLES) <= set(PARTS)


def test_table_6_has_a_row_for_each_method_and_columns_for_each_batch() -> None:
    (table, steps) = tables_of(loaded("overhead"))
    own = "own stage, % of step"
    assert table.header == (
        "method", "batch 16: A_O, % (interval)", own, "paper (GPU, ResNet-50), %", "batch 24: A_O, % (interval)", own,
    )  # fmt: skip
    assert table.rows == (
        ("vanilla again", "+0.5 (-1.0 … +2.0) (noise)", "10.45", "–", "–", "–"),
        ("diffcore-mix", "+3.0 (-0.5 … +4.0) (noise)", "12.62", "+68.2", "–", "–"),
        ("mixup", "+1.0 (+0.5 … +2.0)", "10.89", "+0.9", "+1.0 (+0.5 … +2.0)", "10.89"),
        ("vanilla again (others)", "+0.5 (-1.0 … +2.0) (noise)", "10.45", "–", "–", "–"),
        ("saliencymix", "+350.0 (+340.0 … +361.0)", "80.00", "+353.3", "–", "–"),
        ("puzzlemix", "failed", "–", "+138.5", "failed", "–"),
    )
    assert table.note.endswith(" puzzlemix failed at batch 16, 24: there is no gco.")
    assert [row[:2] for row in steps.rows if row[1].startswith("vanilla")] == [
        ("16", "vanilla"), ("16", "vanilla again"), ("16", "vanilla (others)"), ("16", "vanilla again (others)"),
        ("24", "vanilla"),
    ]  # fmt: skip
    assert steps.rows[2] == ("16", "diffcore-mix", "0.103 (0.090–0.114)", "0.0005", "0.0130", "0.0895",
                             "20.0%", "1.37")  # fmt: skip
    assert steps.rows[3][6] == "–"  # no share was told


def test_how_sure_the_overheads_are_stands_below_them() -> None:
    result = loaded("overhead").result
    result["setting"] = {"repeats": 21, "methods": ["diffcore-mix", "mixup", "saliencymix", "puzzlemix"]}
    result["environment"] |= {"load_at_start": 0.5, "cpus": 2}

    def told() -> str:
        return overhead_tables(result)[0].footnote

    assert told().startswith(
        "Unfinished: 3 of 21 turns at batch 24. Not measured yet at batch 24: diffcore-mix, saliencymix."
    )
    # Three turns hold the median with 1 − 2 / 2³; six intervals need 1 − 0.05 / 6 each.
    assert (
        "too few for intervals that hold the medians of all 6 comparisons together with 95 % (99.17 % each)" in told()
    )
    assert "the whole range, which holds its median with 75 %" in told()
    again = "A/A (vanilla against vanilla): batch 16 +0.5 (-1.0 … +2.0) %, batch 16 (others) +0.5 (-1.0 … +2.0) %."
    assert f"{again} It holds 0; differences below 2.0 % cannot be told from none." in told()
    assert told().endswith("Load of the machine at the start: 0.50 on 2 processors.")
    result["environment"] |= {"load_at_start": 0.1, "load_when_resumed": [0.7]}
    assert told().endswith("Load of the machine at the start: 0.10, 0.70 on 2 processors: other programs ran beside.")

    times = result["results"][1]["times"]
    times["vanilla again"]["samples_ms"] = [value * 1.1 for value in times["vanilla"]["samples_ms"]]
    assert "It does not hold 0 at batch 16 (others), where something else" in told()
    for part in result["results"]:
        part["times"].pop("vanilla again", None)
        for time in part["times"].values():
            time["samples_ms"] = time["samples_ms"] * 7
    assert "over 21 turns, the interval of order statistics corrected for 4 comparisons (Bonferroni)" in told()
    assert "each holds its median with 98.75 %, so all together with 95 %" in told()
    assert "There is no A/A arm" in told()


def test_fig_6_is_told_in_seconds_beside_the_papers() -> None:
    found = rows("batch-time")
    ours = [row for row in found if row["method"] == "diffcore-mix"]
    assert [(row["batch"], row["step, s (p10–p90)"], row["paper, s"]) for row in ours] == [
        ("16", "0.103 (0.090–0.114)", "1.37"),
        ("64", "0.103 (0.090–0.114)", "0.73"),
    ]
    assert [row["step, s (p10–p90)"] for row in found if row["method"] == "puzzlemix"] == [
        "failed",
        "failed",
    ]


def test_a_batch_time_that_was_cut_off_says_so_and_what_the_load_was() -> None:
    result = loaded("batch-time").result
    result["results"][1] |= {"unfinished": True, "block": "peers"}
    result["setting"] = {"repeats": 7}
    (table,) = batch_time_tables(result)
    assert table.footnote == (
        "Unfinished: 3 of 7 turns at batch 64 (peers). Load of the machine at the start: 0.50 on 8 processors."
    )


def test_accuracies_are_means_with_deviations_beside_the_papers() -> None:
    found = {row["arm"]: row for row in rows("train")}
    deviation = np.std([85, 86], ddof=1)
    assert found["vanilla"]["val top-1, %"] == f"85.50 ± {deviation:.2f}"
    assert found["vanilla"]["seeds"] == "2"
    assert found["diffcore-mix-50"]["test top-1, %"].endswith("(noise)")
    assert not found["diffcore-mix-100"]["val top-1, %"].endswith("(noise)")
    assert found["mixup"]["val top-1, %"] == "88.00"  # of one seed there is no spread
    assert found["comixup"]["seeds"] == "0 (1 failed)"
    (table,) = tables_of(loaded("train"))
    assert table.rows[0][2:6] == (f"85.50 ± {deviation:.2f}", "85.86", "97.00 ± 0.00", "91.19")
    assert table.header.count("paper, %") == 2  # the paper has none on the test split
    assert "comixup, seed 0, failed: diverged at epoch 2." in table.note


def test_what_is_shown_of_the_trade_off() -> None:
    (table,) = tables_of(loaded("overhead-accuracy"))
    assert table.rows[0] == ("diffcore-mix-100", "measured", "+3.0 (-0.5 … +4.0) (noise)", "92.50 ± 0.50", "2", "yes")
    assert table.rows[1][3:] == ("88.00", "2", "yes")
    assert table.rows[2][5] == "no"
    assert "Not shown: snapmix (no accuracy). Not shown: genaug (no overhead)." in table.note


def test_the_transform_alone() -> None:
    new, in_place = rows("peers")[:2]
    assert new["batch"] == "16×3×224×224 float32"
    assert new["diffcore-gpu, ms (p10–p90)"] == "4.00 (3.60–4.40)"
    assert new["fastest peer, ms (p10–p90)"] == "torchvision cutmix: 8.00 (7.20–8.80)"
    assert new["ratio"] == "0.50"
    assert in_place["fastest peer, ms (p10–p90)"] == "timm cutmix batch: 2.00 (1.80–2.20)"
    assert in_place["ratio"] == "1.05 (noise)"
    assert rows("peers")[2]["batch"] == "16×3×224×224 float32 channels_last"
    assert [row["overhead"] for row in rows("geometry")] == ["–", "–", "+0.0%", "-20.0%"]
    assert [row["batch"] for row in rows("geometry")[1:3]] == ["8 uint8", "8 bfloat16"]
    assert [row["overhead"] for row in rows("residency")] == ["+0.0%", "+1.0% (noise)", "+50.0%"]
    assert rows("bandwidth")[0]["default, of large copy"] == "0.81"
    assert rows("bandwidth")[0]["patch, of peak"] == "0.60"
    assert rows("bandwidth", 1)[2]["µs (p10–p90)"] == "21.30 (19.17–23.43)"
    assert rows("host-overhead")[0]["what"] == "call"


def test_tiles_are_rows_and_an_unknown_peak_is_a_dash() -> None:
    result = loaded("bandwidth")
    (part,) = result.result["results"]
    rate = {**part["cold_rates"]["pixel"], "of_peak": None}
    part["cold_rates"] = {
        "copy": rate,
        "large copy": rate,
        "pixel 8192:4": rate,
        "pixel 4096:2": {**rate, "of_copy": 1},
    }
    part["times"] = dict.fromkeys(part["cold_rates"], part["times"]["copy"])
    shares, _ = tables_of(result)
    assert shares.header == ("batch", "tile", "pixel, of copy", "pixel, of large copy", "pixel, of peak")
    assert [row[1:] for row in shares.rows] == [("8192:4", "0.93", "0.81", "–"), ("4096:2", "1.00", "0.81", "–")]


def test_what_comes_before_training() -> None:
    first = rows("generation")[0]
    assert (first["augmented"], first["discarded"], first["images/s"]) == ("50 %", "25.0%", "20.0")
    assert (first["filter and writer"], first["waited for"]) == ("6.0%", "6.0%")
    store = rows("loader")[2]
    low, middle, high = np.quantile([180, 360], [0.1, 0.5, 0.9])
    assert store["images/s (p10–p90)"] == f"{middle:.1f} ({low:.1f}–{high:.1f})"
    assert store["of the first"] == "0.90"
    assert rows("loader", 1)[0] == {"workers": "0", "what": "png", "MB": "12.0"}
    assert rows("store-access")[0]["p10–p90"] == "3.00 (2.70–3.30)"


def test_codecs() -> None:
    sizes, cached, slow, loader = tables_of(loaded("codecs"))
    assert sizes.rows == (("jpeg", "0.177", "1.50", "40", "2,000", "2,500"),)
    assert (cached.title, slow.title) == (
        "Stores read from the system's cache", "Stores read from an imitated storage of 250 MB/s",
    )  # fmt: skip
    assert slow.rows[1] == ("jpeg", "1100 (1020–1180)", "9", "3.10 (2.90–3.30)")
    assert loader.title == "Loaders with 2 workers"


def test_without_a_real_filter_discards_are_not_told() -> None:
    result = loaded("generation")
    result.result["setting"]["weights"] = "random, in the sizes of SDXL"
    (table,) = tables_of(result)
    assert {row[2] for row in table.rows} == {"–"}


def test_the_labels_of_a_batch() -> None:
    assert rows("batch-gallery") == [
        {"method": "mixup", "Albatross": "Albatross 0.62, Auklet 0.38"},
        {"method": "diffcore-mix", "Albatross": "Albatross"},
        {"method": "snapmix", "Albatross": "failed"},
    ]
    assert tables_of(loaded("batch-gallery"))[0].note.endswith("snapmix failed: no such model.")


def test_a_suite_without_a_table_of_its_own_is_shown_figure_by_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(TABLES, "batch-gallery")
    assert rows("batch-gallery") == [
        {"figure": "method", "1": "mixup", "2": "diffcore-mix", "3": "snapmix"},
        {"figure": "targets / 1 / Auklet", "1": "0.380", "2": "–", "3": "–"},
        {"figure": "targets / 1 / Albatross", "1": "0.620", "2": "1.00", "3": "–"},
        {"figure": "sums", "1": "1.00 (1.00–1.00)", "2": "–", "3": "–"},
        {"figure": "failed", "1": "–", "2": "–", "3": "no such model"},
    ]


@pytest.mark.parametrize("suite", TABLES)
@pytest.mark.parametrize("damage", ["missing", "kind"])
def test_a_result_without_its_fields_is_named(suite: str, damage: str) -> None:
    broken = loaded(suite)
    parts: list[Any] = broken.result["results"]
    parts[0] = {} if damage == "missing" else 7
    with pytest.raises(BenchmarkError, match=f"^device/{suite}.json: does not hold what a result of {suite} holds"):
        tables_of(broken)


@given(st.lists(st.floats(0.001, 1e4), min_size=2, max_size=30))
def test_quantiles_are_those_of_numpy(samples: list[float]) -> None:
    expected = np.quantile(samples, [0.5, 0.1, 0.9])
    np.testing.assert_allclose(measure.quantiles(samples), expected, rtol=1e-9)


@given(st.floats(1e-6, 1e6))
def test_figures_keep_three_digits(value: float) -> None:
    shown = float(tables.figure(value))
    assert abs(shown - value) <= 0.00501 * value or value > 1
    assert abs(shown - value) <= 0.00501 * max(value, 1)


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a row does not have 2 columns"):
        Table("t", ("a", "b"), (("1",),))


def test_markdown_aligns_figures_and_escapes_what_would_end_a_cell() -> None:
    table = make_table("t", ("name", "figure"), [("a|b", "<i>1\n2")])
    assert markdown_table(table) == "| name | figure |\n| --- | ---: |\n| a\\|b | &lt;i>1 2 |\n"
    assert markdown_text("a & b") == "a &amp; b"
    assert markdown_code("a `b` c") == "``a `b` c``"
    assert markdown_code("`b`") == "`` `b` ``"
