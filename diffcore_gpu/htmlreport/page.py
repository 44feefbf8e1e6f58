"""From templates to one HTML file that loads nothing, and in which no text of a user becomes markup."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

_HERE = "diffcore_gpu.htmlreport"
LONGEST = 600
"""Characters of one text on a page, unless the page says otherwise."""
STYLE = files(_HERE).joinpath("page.css").read_text("utf-8")
"""The style sheet of every page."""
SCRIPT = files(_HERE).joinpath("page.js").read_text("utf-8")
"""Sorts tables, and sorts and filters galleries, where a page asks for it; a page is complete without it."""


def render(
    package: str,
    template: str,
    *,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    scripted: bool = False,
    longest: int = LONGEST,
    **values: Any,
) -> str:
    """A page from a template that extends `base.html`; the same values give the same text.

    Whatever a template puts out is text, unless it is `Markup`: control characters are spelled out, it is cut to
    `longest` characters, and markup in it is escaped.

    Args:
        package: that has the template, in its folder `templates`.
        template: its name.
        functions: what all templates may call, by name.
        scripted: whether `SCRIPT` is in the page.
        longest: characters of one text.
        values: what the template shows; `title` is one of them.

    Raises:
        jinja2.UndefinedError: a value that the template shows is missing.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(_HERE)]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: spelled(value, longest) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["isolated"] = lambda text: isolated(text, longest)
    environment.globals |= {"data_value": data_value, **(functions or {})}
    script = SCRIPT if scripted else ""
    text = environment.get_template(template).render(
        style=Markup(STYLE), script=Markup(script), policy=_policy(STYLE, script), **values
    )
    return text + "\n"


def spelled(text: str, longest: int = LONGEST) -> str:
    """Text with its control characters spelled out, cut to `longest` characters; `Markup` as it is."""
    if isinstance(text, Markup):
        return text
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def isolated(text: str, longest: int = LONGEST) -> Markup:
    """Text as an element that keeps its writing direction to itself; names may break after `_` and `/`."""
    breakable = re.sub("([_/])", r"\1<wbr>", str(escape(spelled(text, longest))))
    return Markup(f"<bdi>{breakable}</bdi>")


def data_value(value: float) -> str:
    """What a cell of a table is sorted by: the number, or nothing where there is none."""
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.6f}"


def _policy(style: str, script: str) -> str:
    """Nothing may be loaded, and no script may run but the page's own: whatever text found its way into the page."""
    scripts = f"script-src '{_hash(script)}'; " if script else ""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; {scripts}base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
