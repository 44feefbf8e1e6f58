"""The page in a real browser: its script runs, nothing else does, and it fits a phone."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffcore_gpu.generation.report.page import write_page
from tests.generation.report.reports import Run, make_run
from tests.htmlreport.browser import dump, needs_browser, overflow, with_script

pytestmark = needs_browser
ATTACK = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("real"), ["wren", "crow", f"rook {ATTACK}"], 5, hopeless=1)


@pytest.fixture(scope="module")
def page(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(path, run.report, run.items, title=f"Birds {ATTACK}")
    return path


def test_the_policy_lets_the_own_script_and_style_run_and_no_other(page: Path, run: Run) -> None:
    document = dump(page)
    assert document.all("title")[0].text == f"Birds {ATTACK}"
    tools = document.all(class_="tools")
    assert len(tools) == 2
    assert all("hidden" not in tool.attributes for tool in tools)
    assert all(head.all("button") for head in document.all("th", **{"data-sort": "number"}))
    assert len(document.all(id="pairs")[0].all("li")) == run.report.total.accepted
    text = page.read_text(encoding="utf-8").replace("</body>", "<script>document.title = 'owned'</script></body>")
    (page.parent / "attacked.html").write_text(text, encoding="utf-8")
    assert dump(page.parent / "attacked.html").all("title")[0].text == f"Birds {ATTACK}"


def test_a_reader_sorts_and_filters(page: Path, run: Run) -> None:
    script = """
    const button = [...document.querySelectorAll("#classes th button")].find((b) => b.textContent === "Discarded %");
    button.click();
    const [order, only] = document.querySelectorAll("[data-gallery=pairs] select");
    order.value = "similarity 1";
    order.dispatchEvent(new Event("change"));
    only.value = "2";
    only.dispatchEvent(new Event("change"));
    """
    document = dump(with_script(page, script))
    rows = document.all(id="classes")[0].all("tbody")[0].all("tr")
    shares = [float(str(row.all("td")[5].attributes["data-value"])) for row in rows]
    expected = sorted((part.discarded_percent for part in run.report.classes), reverse=True)
    assert shares == pytest.approx(expected, abs=1e-5)
    [head] = document.all("th", **{"aria-sort": "descending"})
    assert head.text == "Discarded %"
    figures = document.all(id="pairs")[0].all("li")
    values = [float(str(figure.attributes["data-similarity"])) for figure in figures]
    assert values == sorted(values)
    for figure in figures:
        assert ("hidden" in figure.attributes) == (figure.attributes["data-label"] != "2")
    shown = sum(candidate.accepted and candidate.label == 2 for candidate in run.candidates)
    assert document.all("output")[0].text == f"{shown} shown"


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_wider_than_the_window(page: Path, width: int) -> None:
    assert overflow(page, width) <= 0


def test_small_pictures_are_crisp_and_all_pictures_decode(page: Path) -> None:
    # Decoded at once, on a canvas, when the page has loaded: a promise may come after the document was written out.
    script = """
    onload = () => {
      const canvas = document.createElement("canvas").getContext("2d");
      for (const image of document.images) canvas.drawImage(image, 0, 0);
      const whole = [...document.images].every((image) => image.complete && image.naturalWidth > 0);
      const rendered = new Set([...document.images].map((image) => getComputedStyle(image).imageRendering));
      document.title = `${document.images.length > 0} ${whole} ${[...rendered].join()}`;
    };
    """
    acted = with_script(page, script)
    acted.write_text(acted.read_text(encoding="utf-8").replace('loading="lazy"', ""), encoding="utf-8")
    assert dump(acted).all("title")[0].text == "true true pixelated"
