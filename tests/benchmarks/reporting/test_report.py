"""The report as a user makes it: one page that needs nothing else, plots, and errors before anything is written."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="the report's plots need matplotlib")

from diffcore_gpu.benchmarks.harness.result_file import write_result
from diffcore_gpu.benchmarks.reporting.suite_plots import PLOTS
from diffcore_gpu.benchmarks.suites import run_suite
from diffcore_gpu.cli import main
from diffcore_gpu.errors import BenchmarkError
from tests.benchmarks.reporting.samples import PARTS, sample, write_samples
from tests.htmlreport.browser import dump, needs_browser, overflow, with_script

VOID = {"meta", "img", "source", "br", "link", "input", "hr"}
ADDRESSES = {"src", "href", "srcset", "data", "action", "poster"}


class Page(HTMLParser):
    """Checks that tags nest, and remembers what a reader would see."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def addresses(self) -> Iterator[str]:
        for _, attributes in self.tags:
            yield from (value or "" for name, value in attributes.items() if name in ADDRESSES)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of every suite, and the report on them."""
    folder = tmp_path_factory.mktemp("report")
    write_samples(folder / "results")
    report(folder / "results", "--out", folder / "out" / "report.html", "--plots", folder / "plots")
    return folder


def report(*arguments: Any) -> None:
    run_suite("report", list(map(str, arguments)))


def read(folder: Path) -> Page:
    return Page((folder / "out" / "report.html").read_text())


def test_the_page_needs_nothing_else(folder: Path) -> None:
    page = read(folder)
    assert page.open == []
    for address in page.addresses():
        assert address.startswith(("#", "data:image/png;base64,")), address[:60]
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    (style,) = re.findall("<style>(.*?)</style>", (folder / "out" / "report.html").read_text(), re.DOTALL)
    assert "prefers-color-scheme: dark" in style
    assert "tabular-nums" in style
    assert "url(" not in style
    assert "@import" not in style
    assert {"charset": "utf-8"} in page.all("meta")
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))


def test_the_policy_of_the_page_lets_its_own_style_in_and_no_script(folder: Path) -> None:
    [policy] = [meta["content"] for meta in read(folder).all("meta") if "http-equiv" in meta]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert not [attributes for _, attributes in read(folder).tags if "style" in attributes]  # the policy forbids it


@needs_browser
@pytest.mark.parametrize("width", [360, 1200])
def test_tables_and_plots_scroll_by_themselves(folder: Path, width: int) -> None:
    assert overflow(folder / "out" / "report.html", width) <= 0


@needs_browser
def test_a_plot_is_not_shrunk_until_it_cannot_be_read(folder: Path) -> None:
    page = folder / "out" / "report.html"
    probe = """
    onload = () => {
      const shares = [...document.querySelectorAll(".plot img")].map((image) => image.offsetWidth / image.width);
      document.title = `${document.body.clientWidth} ${shares.map((share) => share.toFixed(2)).join()}`;
    };
    """
    narrow = with_script(page, probe.replace("image.width", "image.getAttribute('width')"))
    narrow.write_text(narrow.read_text().replace("<body>", '<body style="width: 390px">'))
    width, shares = dump(narrow).all("title")[0].text.split()
    assert width == "390"
    assert set(shares.split(",")) == {"0.68"}


def test_links_in_the_page_lead_somewhere(folder: Path) -> None:
    page = read(folder)
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    targets = {address[1:] for address in page.addresses() if address.startswith("#")}
    assert targets == set(names)
    assert {name for name in targets if not str(name).startswith("result-")} == set(PARTS)


def test_every_result_tells_how_it_was_measured(folder: Path) -> None:
    page = read(folder)
    text = " ".join(page.text)
    for suite in PARTS:
        assert f"device/{suite.replace('-', '_')}.json" in text
    assert text.count("diffcore bench something --json something.json") == len(PARTS)
    for words, least in (("Python 3.12, torch 2.11", 2), ("CPU 2400–2500 MHz", 1), ("CPU 2300 MHz", 1)):
        assert text.count(words) == least * len(PARTS), words


def test_figures_and_plots_are_on_the_page(folder: Path) -> None:
    page = read(folder)
    text = " ".join(page.text)
    for words in (
        "+68.2",
        "4.00 (3.60–4.40)",
        "failed at batch 16, 24: there is no gco",
        "85.86",
        "(noise)",
        "targets / 1 / Albatross",
    ):
        assert words in text, words
    images = page.all("img")
    assert len(images) == len(PLOTS)
    assert all(len(image["alt"] or "") > 60 for image in images)
    plots = {path.name: path.read_bytes() for path in (folder / "plots").iterdir()}
    embedded = {base64.b64decode((image["src"] or "").partition(",")[2]) for image in images}
    assert set(plots.values()) == embedded
    assert {"device-overhead.png", "device-train-cars.png"} <= plots.keys()


def test_the_same_results_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    report(folder / "results", "--out", folder / "again.html", "--plots", tmp_path / "plots")
    # From elsewhere the links to the results differ, and nothing else.
    unlinked = [re.sub(r'<a href="[^#"][^"]*">(.*?)</a>', r"\1", path.read_text()) for path in
                (folder / "again.html", folder / "out" / "report.html")]  # fmt: skip
    assert unlinked[0] == unlinked[1]
    for path in (folder / "plots").iterdir():
        assert (tmp_path / "plots" / path.name).read_bytes() == path.read_bytes()


def test_a_result_below_the_page_is_linked(tmp_path: Path) -> None:
    path = tmp_path / "results" / "a device" / "peers.json"
    write_result(path, sample("peers"))
    report(path, "--out", tmp_path / "report.html")
    assert "results/a%20device/peers.json" in Page((tmp_path / "report.html").read_text()).addresses()


def test_hostile_text_is_shown_as_text(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>\"'&amp;$\\oops$"
    result = sample("overhead", cpu=evil, command=evil)
    result["environment"]["versions"][evil] = evil
    result["setting"] = {evil: [evil]}
    for part in result["results"]:
        part["times"][evil], part["stages"][evil] = part["times"]["vanilla"], part["stages"]["vanilla"]
        part["failed"][evil + "2"] = evil
        part["clocks_at_end"] = {"cpu_mhz": None, "gpu": {evil: evil}}
    write_result(tmp_path / "a<b>&\"'.json", result)
    gallery = sample("batch-gallery")
    gallery["results"] = [{"method": evil, evil: evil, "targets": [{evil: 1.0}]}]
    write_result(tmp_path / "gallery.json", gallery)
    trained = sample("train")
    for run in trained["results"]:
        run["variant"], run["arm"] = evil, evil + run["arm"]
    write_result(tmp_path / "train.json", trained)
    report(tmp_path, "--out", tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    page = Page(html)
    assert "<script" not in html
    assert page.all("script") == []
    assert " ".join(page.text).count(evil) > 10
    assert any(evil in (image["alt"] or "") for image in page.all("img"))


@pytest.mark.parametrize("content", ["{", json.dumps({**sample("peers"), "suite": "nothing"}), None])
def test_nothing_is_written_where_a_file_is_refused(tmp_path: Path, content: str | None) -> None:
    write_result(tmp_path / "results" / "overhead.json", sample("overhead"))
    damaged = tmp_path / "results" / "z.json"
    if content is None:
        broken = sample("generation")
        del broken["results"][-1]["wall_seconds"]
        write_result(damaged, broken)
    else:
        damaged.write_text(content)
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results: overhead -->\n<!-- end of results -->\n")
    with pytest.raises(BenchmarkError, match=r"z\.json"):
        report(tmp_path / "results", "--out", tmp_path / "r.html", "--plots", tmp_path / "p", "--readme", readme)
    assert {path.name for path in tmp_path.iterdir()} == {"results", "README.md"}
    assert "|" not in readme.read_text()


def test_a_readme_and_a_page_in_one_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_result(tmp_path / "results" / "generation.json", sample("generation"))
    (tmp_path / "results" / "store.json").write_text('{"format": "counterparts"}')
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results: generation -->\n<!-- end of results -->\n")
    report(tmp_path / "results", "--out", tmp_path / "r.html", "--readme", readme)
    shown = capsys.readouterr().out
    assert "store.json" in shown.splitlines()[0]
    assert "| 50 % |" in readme.read_text()
    report(tmp_path / "results", "--readme", readme, "--check")
    readme.write_text(readme.read_text().replace("| 50 % |", "| 51 % |"))
    with pytest.raises(BenchmarkError, match="its tables are not those of the results"):
        report(tmp_path / "results", "--readme", readme, "--check")
    assert main(["bench", "report", str(tmp_path / "results"), "--readme", str(readme), "--check"]) == 1
    assert main(["bench", "report", str(tmp_path / "results"), "--readme", str(readme)]) == 0
    assert "| 50 % |" in readme.read_text()


def test_two_results_whose_plots_have_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_result(tmp_path / name / "overhead.json", sample("overhead"))
    files = [tmp_path / name / "overhead.json" for name in ("a", "b")]
    with pytest.raises(BenchmarkError, match=r"another result's plot is called overhead\.png"):
        report(*files, "--plots", tmp_path / "plots")
    report(tmp_path, "--plots", tmp_path / "plots")
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"a-overhead.png", "b-overhead.png"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "nothing to write: give --out, --plots or --readme"),
        (["--check"], "nothing to write"),
        (["--check", "--out", "x.html"], "--check goes with --readme alone"),
        (["--check", "--readme", "README.md", "--plots", "x"], "--check goes with --readme alone"),
        (["--out", "."], "--out . is a folder; name a file"),
    ],
)
def test_a_command_line_that_asks_for_nothing_sensible(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        report("results", *arguments)
    assert stop.value.code == 2
    assert why in capsys.readouterr().err
