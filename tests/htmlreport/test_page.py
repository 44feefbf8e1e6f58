"""A page from a template loads nothing, and takes no text for markup; its colours can be told apart."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markupsafe import Markup

from diffcore_gpu.htmlreport.page import LONGEST, SCRIPT, STYLE, isolated, render, spelled
from tests.htmlreport.page_reader import read_page

TEMPLATE = """{% extends "base.html" %}
{% from "parts.html" import number, sortable %}
{% block main %}
<p id="plain" title="{{ name }}">{{ name }}</p>
<p id="isolated">{{ name|isolated }}</p>
{% call sortable("Names", name, [("Name", "text"), ("S", "number"), ("Picture", "picture")], long=true) %}
<tr><td>{{ shout(name) }}</td>{{ number(0.5, "0.5") }}<td></td></tr>
{% endcall %}
{% endblock %}
"""
NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp; a_b/c {{ 7 * 7 }}"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that has `TEMPLATE`."""
    folder = tmp_path / "package_of_a_page"
    (folder / "templates").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "templates" / "a.html").write_text(TEMPLATE)
    monkeypatch.syspath_prepend(tmp_path)
    return folder.name


def page(package: str, name: str, *, scripted: bool = False, longest: int = LONGEST) -> str:
    return render(
        package,
        "a.html",
        functions={"shout": str.upper},
        scripted=scripted,
        longest=longest,
        title=f"On {name}",
        name=name,
    )


def test_text_stays_text_wherever_it_stands(package: str) -> None:
    document = read_page(page(package, NASTY))
    assert document.all("title")[0].text == document.all("h1")[0].text == f"On {NASTY}"
    [plain] = document.all(id="plain")
    assert plain.text == plain.attributes["title"] == NASTY
    [alone] = document.all(id="isolated")
    assert alone.text == NASTY
    assert len(alone.all("bdi")) == 1
    assert len(alone.all("wbr")) == len(re.findall("[_/]", NASTY))
    assert document.all("caption")[0].text == NASTY
    assert document.all("td")[0].text == NASTY.upper()
    assert not document.all("script")
    assert not document.all("img")


def test_control_characters_are_spelled_out_and_long_text_is_cut(package: str) -> None:
    text = page(package, "bidi\u202ename\x00\n" + "x" * 1000, longest=40)
    assert "\u202e" not in text
    assert "\x00" not in text
    [plain] = read_page(text).all(id="plain")
    assert plain.text.startswith("bidi\\u202ename\\x00\\nxxx")
    assert plain.text.count("x") == 40 - len("bidi.name..") - 1 + len("x")  # of \x00, and without the ellipsis
    assert plain.text.endswith("…")


@given(st.text())
def test_spelled_text_can_be_printed(text: str) -> None:
    shown = spelled(text)
    assert shown.isprintable()
    assert shown == text or len(text) > LONGEST or not text.isprintable()
    assert spelled(Markup(text)) == text
    read_page(isolated(text))


@pytest.mark.parametrize("scripted", [False, True])
def test_the_policy_names_what_is_in_the_page_and_nothing_else(package: str, scripted: bool) -> None:
    document = read_page(page(package, "a", scripted=scripted))
    [policy] = document.all("meta", **{"http-equiv": "Content-Security-Policy"})
    text = str(policy.attributes["content"])
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" for part in (STYLE, SCRIPT)
    ]
    assert text.startswith("default-src 'none'; ")
    assert f"style-src {hashes[0]};" in text
    assert (f"script-src {hashes[1]};" in text) == (len(document.all("script")) == 1) == scripted
    assert "unsafe" not in text


def test_a_value_that_is_missing_is_an_error(package: str) -> None:
    with pytest.raises(UndefinedError, match="title"):
        render(package, "a.html", functions={"shout": str.upper}, name="a")


def test_a_table_scrolls_by_itself_and_says_how_it_is_sorted(package: str) -> None:
    document = read_page(page(package, "a"))
    [frame] = document.all(class_="scroll")
    assert frame.attributes["class"] == "scroll long"
    assert (frame.attributes["tabindex"], frame.attributes["aria-label"]) == ("0", "Names")
    assert [head.attributes.get("data-sort") for head in frame.all("th")] == ["text", "number", None]
    assert frame.all("td", class_="number")[0].attributes["data-value"] == "0.500000"


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_contrast_of_text_and_bars(mode: str) -> None:
    """WCAG 2 asks for 4.5 : 1 for text, and for 3 : 1 for what a chart is read from."""
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in STYLE.split("@media (prefers")[:2])
    colours = light if mode == "light" else dark
    assert set(light) == set(dark)

    def contrast(first: str, second: str) -> float:
        low, high = sorted((_luminance(colours[first]), _luminance(colours[second])))
        return (high + 0.05) / (low + 0.05)

    for ground in ("page", "card"):
        assert min(contrast(ink, ground) for ink in ("ink", "soft", "link", "threshold", "ours")) >= 4.5
    assert min(contrast("warn-ink", ground) for ground in ("warn", "card")) >= 4.5
    assert min(contrast(bar, "card") for bar in ("accepted", "discarded", "s0", "s1", "s2", "s3", "s4", "s5")) >= 3
