"""The page is one file, says what the report says, and takes no text for markup."""

from __future__ import annotations

import base64
import io
import itertools
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from diffcore_gpu.errors import GenerationError, StoreError
from diffcore_gpu.generation.report.page import MAX_DISCARDS, MAX_PAIRS, write_page
from diffcore_gpu.generation.report.records import Candidate, ClassReport, GenerationReport
from tests.generation.report.reports import Run, make_run
from tests.htmlreport.page_reader import Element, read_page

NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;"


def page_of(run: Run, path: Path, **options: int) -> tuple[str, Element]:
    write_page(path, run.report, run.items, **options)
    text = path.read_text(encoding="utf-8")
    return text, read_page(text)


def by_id(page: Element, name: str) -> Element:
    [element] = page.all(id=name)
    return element


def test_says_what_the_report_says(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["wren", "crow", "rook"], hopeless=1)
    report = run.report
    _, page = page_of(run, tmp_path / "page.html")
    figures = {card.all("dt")[0].text: card.all(class_="figure")[0].text for card in page.all("div", class_="card")[:5]}
    assert figures == {
        "Samples": "18",
        "Covered samples": str(report.total.covered),
        "Generated": str(report.total.generated),
        "Discarded": f"{report.total.discarded_percent:.1f} %",
        "Time per image": f"{1000 * report.seconds_per_image:.0f} ms",
    }
    rows = by_id(page, "classes").all("tbody")[0].all("tr")
    for part, row in zip(report.classes, rows, strict=True):
        shown = [cell.attributes["data-value"] for cell in row.all("td", class_="number")]
        assert shown[:5] == [
            str(number) for number in (part.samples, part.wanted, part.covered, part.generated, part.discarded)
        ]
        assert float(str(shown[5])) == pytest.approx(part.discarded_percent, abs=1e-5)
        assert float(str(shown[6])) == pytest.approx(part.threshold, abs=1e-5)
    assert ["none covered" in row.text for row in rows] == [False, True, False]
    assert "1 class with no counterpart at all: crow" in page.all(class_="warn")[0].text
    assert (
        f"{report.total.discarded_percent:.1f} % of {report.total.generated} generated images"
        in by_id(page, "cost").text
    )
    assert "about half of all pairs of real images lie below it as well" in by_id(page, "cost").text
    stages = by_id(page, "cost").all("svg", class_="stages")[0]
    widths = [float(str(rect.attributes["width"]).rstrip("%")) for rect in stages.all("rect")]
    assert widths == pytest.approx([80, 15, 3, 2])
    names, values = (by_id(page, "settings").all(tag) for tag in ("dt", "dd"))
    assert {name.text: value.text for name, value in zip(names, values, strict=True)} == {
        "model": "a model",
        "guidance γ (eq. 4)": "11",
        "guidance w = 1 + γ": "12",
        "steps": "50",
        "revision": "none",
        "filter": "open_clip ViT-B-32 openai",
        "max attempts": "3",
        "prompts name": "bird",
    }
    assert by_id(page, "settings").all("details")[0].all("li")[0].text == "blurred"
    never = by_id(page, "never-passed").all("tbody")[0].all("tr")
    assert len(never) == report.total.never_passed


def test_bars_add_up_to_the_counts(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["a", "b", "c"], 12)
    _, page = page_of(run, tmp_path / "page.html")
    charts = by_id(page, "similarities").all("svg", class_="chart")
    assert len(charts) == 4
    expected = [(run.report.total.accepted, run.report.total.discarded)]
    expected += [(part.accepted, part.discarded) for part in run.report.classes]
    for chart, counts in zip(charts, expected, strict=True):
        bars = chart.all(class_="bar")
        assert sum(int(str(bar.attributes["data-accepted"])) for bar in bars) == counts[0]
        assert sum(int(str(bar.attributes["data-discarded"])) for bar in bars) == counts[1]
        for bar in bars:
            drawn = {str(rect.attributes["class"]) for rect in bar.all("rect")}
            assert drawn == {name for name in ("accepted", "discarded") if bar.attributes[f"data-{name}"] != "0"}
        assert len(chart.all("line", class_="threshold")) == 1
    # Of S − τ, the line at 0 parts the accepted from the discarded.
    line = float(str(charts[0].all("line", class_="threshold")[0].attributes["x1"]).rstrip("%"))
    for bar in charts[0].all(class_="bar"):
        for rect in bar.all("rect"):
            left = float(str(rect.attributes["x"]).rstrip("%"))
            right = left + float(str(rect.attributes["width"]).rstrip("%"))
            assert left > line if rect.attributes["class"] == "accepted" else right < line


def test_one_threshold_for_all_is_shown_on_the_similarities(tmp_path: Path) -> None:
    _, page = page_of(make_run(tmp_path, ["a", "b"], thresholds=[0.75, 0.75]), tmp_path / "page.html")
    overall = by_id(page, "overall")
    assert "S of all classes" in overall.text
    assert "τ 0.750" in overall.text


def test_galleries(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["wren", "crow"], 5)
    _, page = page_of(run, tmp_path / "page.html")
    for name, accepted in (("pairs", True), ("discards", False)):
        wanted = sorted((c for c in run.candidates if c.accepted is accepted), key=lambda c: -c.similarity)
        figures = by_id(page, name).all("li")
        assert [figure.attributes["data-sample"] for figure in figures] == [str(c.sample) for c in wanted]
        for candidate, figure in zip(wanted, figures, strict=True):
            part = run.report.classes[candidate.label]
            for text in (
                part.name,
                f"S {candidate.similarity:.3f} {'>' if accepted else '≤'} τ {part.threshold:.3f}",
                candidate.prompt,
                f"seed {candidate.seed}",
                f"attempt {candidate.attempt + 1}",
            ):
                assert text in figure.text
            assert [image.attributes["class"] for image in figure.all("img")] == ["crisp", "crisp"]


def test_embedded_pixels_are_those_of_the_images(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["a"], 1)
    _, page = page_of(run, tmp_path / "page.html")
    candidate, real, image = next(item for item in run.items if item[0].accepted)
    shown = [_decode(str(element.attributes["src"])) for element in by_id(page, "pairs").all("img")]
    assert isinstance(image, torch.Tensor)
    assert shown[0].tobytes() == Image.open(real).tobytes()
    assert shown[1].tobytes() == image.permute(1, 2, 0).contiguous().numpy().tobytes()
    assert candidate.accepted


def test_large_images_become_small_jpegs_of_one_shape(tmp_path: Path) -> None:
    real = tmp_path / "real.jpg"
    Image.new("RGB", (900, 400), (10, 200, 30)).save(real)
    report = GenerationReport([ClassReport("a", 1, 1, 1, 1, 0, 0.5)], {}, {})
    candidate = Candidate(0, 0, 0, 1, "", "", 0.75, True)
    write_page(tmp_path / "page.html", report, [(candidate, real, torch.zeros(3, 512, 256, dtype=torch.uint8))])
    images = by_id(read_page((tmp_path / "page.html").read_text()), "pairs").all("img")
    assert [_decode(str(image.attributes["src"])).size for image in images] == [(80, 160), (80, 160)]
    assert all("class" not in image.attributes for image in images)


def test_untrusted_text_stays_text(tmp_path: Path) -> None:
    run = make_run(tmp_path, [NASTY, "bidi\u202ename\x00\n"], hopeless=0)
    text, page = page_of(run, tmp_path / "page.html")
    assert len(page.all("script")) == 1
    assert not [element for element in page.all() if any(name.startswith("on") for name in element.attributes)]
    assert "alert(1)" in text
    assert NASTY in by_id(page, "classes").text
    assert "\u202e" not in text
    assert "\x00" not in text
    assert all(str(image.attributes["src"]).startswith("data:image/") for image in page.all("img"))


def test_nothing_is_loaded_from_anywhere(tmp_path: Path) -> None:
    text, page = page_of(make_run(tmp_path, ["a http://example.org", "b"]), tmp_path / "page.html")
    for element in page.all():
        assert element.tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            value = element.attributes.get(name)
            assert value is None or value.startswith(("data:image/", "#"))
        assert "style" not in element.attributes  # the policy forbids it
    [style] = page.all("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    [policy] = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in str(policy.attributes["content"])
    assert "unsafe" not in text


def test_can_be_read_without_seeing_it(tmp_path: Path) -> None:
    _, page = page_of(make_run(tmp_path, ["a", "b"]), tmp_path / "page.html")
    assert page.all("html")[0].attributes["lang"] == "en"
    assert len(page.all("h1")) == len(page.all("main")) == 1
    assert all(image.attributes.get("alt") for image in page.all("img"))
    for svg in page.all("svg"):
        hidden = svg.attributes.get("aria-hidden") or svg.parent.attributes.get("aria-hidden")  # type: ignore[union-attr]
        in_key = any("key" in str(ul.attributes.get("class")) and svg in ul.all("svg") for ul in page.all("ul"))
        assert hidden or in_key or svg.attributes.get("aria-label")
    for table in page.all("table", class_="sortable"):
        assert table.all("caption")
        assert all(head.attributes.get("scope") == "col" and head.text for head in table.all("thead")[0].all("th"))
    links = {str(link.attributes["href"])[1:] for link in page.all("nav")[0].all("a")}
    assert links <= {str(section.attributes["id"]) for section in page.all("section")}
    levels = [int(element.tag[1]) for element in page.all() if re.fullmatch("h[1-6]", element.tag)]
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))


def test_same_input_same_bytes_in_any_order(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["a", "b", "c"], 10)
    options = {"max_pairs": 7, "max_discards": 4}
    first, page = page_of(run, tmp_path / "1.html", **options)
    write_page(tmp_path / "2.html", run.report, reversed(run.items), **options)
    assert (tmp_path / "2.html").read_text() == first
    assert len(by_id(page, "pairs").all("li")) == 7
    assert len(by_id(page, "discards").all("li")) == 4
    assert (
        f"7 of {run.report.total.accepted} pairs, chosen evenly over the classes" in by_id(page, "pairs-section").text
    )


def test_many_candidates_and_classes_stay_small(tmp_path: Path) -> None:
    names = [f"n{label:08d}_a class" for label in range(1000)]
    real = tmp_path / "noise.png"
    noise = torch.randint(0, 256, (3, 160, 160), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(noise.permute(1, 2, 0).contiguous().numpy()).save(real)
    parts = [ClassReport(name, 10, 10, 5, 10, 5, 0.8) for name in names]
    report = GenerationReport(parts, {}, {})
    looked_at = []

    def offered():  # type: ignore[no-untyped-def]
        for number in range(10_000):
            looked_at.append(number)
            yield Candidate(number, number // 10, 0, number, "a prompt", "", 0.7, number % 2 == 0), real, noise

    write_page(tmp_path / "page.html", report, offered())
    assert len(looked_at) == 10_000
    assert (tmp_path / "page.html").stat().st_size < 8_000_000
    page = read_page((tmp_path / "page.html").read_text())
    pairs, discards = by_id(page, "pairs").all("li"), by_id(page, "discards").all("li")
    assert (len(pairs), len(discards)) == (MAX_PAIRS, MAX_DISCARDS)
    assert len({figure.attributes["data-label"] for figure in pairs}) == MAX_PAIRS
    assert "120 of 5,000 pairs" in by_id(page, "pairs-section").text
    assert len(by_id(page, "classes").all("tbody")[0].all("tr")) == 1000
    assert len(by_id(page, "similarities").all("svg", class_="chart")) == 21


def test_more_classes_than_the_table_holds(tmp_path: Path) -> None:
    parts = [ClassReport(f"c{k}", 4, 4, 0 if k == 2400 else 3, 4, 1, 0.5) for k in range(2500)]
    write_page(tmp_path / "page.html", GenerationReport(parts, {}, {}), [])
    page = read_page((tmp_path / "page.html").read_text())
    table = by_id(page, "classes")
    assert len(table.all("tbody")[0].all("tr")) == 2000
    assert "2,000 of 2,500 classes" in table.text
    assert "c2400 ⚠ none covered" in table.text


def test_nothing_generated(tmp_path: Path) -> None:
    report = GenerationReport([ClassReport("a", 3, 3, 0, 0, 0, float("nan"))], {}, {})
    write_page(tmp_path / "new" / "page.html", report, [])
    page = read_page((tmp_path / "new" / "page.html").read_text())
    assert "No image was generated for 3 samples." in page.text
    assert "There is no pair." in page.text
    assert "nan" not in page.all("main")[0].text.lower()


def test_a_failed_write_leaves_the_old_page(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["a"], 2)
    path = tmp_path / "page.html"
    path.write_text("old")
    run.items[0][1].unlink()
    with pytest.raises(GenerationError, match=r"0\.png cannot be shown in the report"):
        write_page(path, run.report, run.items)
    assert path.read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["1.png", "page.html"]


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["a"], 1)
    run.items[0][1].write_bytes(b"no image")
    with pytest.raises(GenerationError, match=r"0\.png cannot be shown in the report"):
        write_page(tmp_path / "page.html", run.report, run.items)
    candidate, _, _ = run.items[0]
    (tmp_path / "shot.png").write_bytes(b"")
    with pytest.raises(GenerationError, match=r"shot\.png cannot be shown"):
        write_page(tmp_path / "page.html", run.report, [(candidate, tmp_path, tmp_path / "shot.png")])


def test_candidates_that_do_not_fit_the_report(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["a"], 1)
    _, real, image = run.items[0]
    for candidate, message in (
        (Candidate(0, 1, 0, 1, "", "", 0.5, True), "class 1, which the report does not have"),
        (Candidate(0, 0, 0, 1, "", "", float("nan"), True), "nan, not a number"),
    ):
        with pytest.raises(ValueError, match=message):
            write_page(tmp_path / "page.html", run.report, [(candidate, real, image)])


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["a"], 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_page(tmp_path / "file" / "page.html", run.report, run.items)


def _decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")
