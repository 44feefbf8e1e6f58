"""Untrusted text on the report's page: names of classes and files, prompts, settings."""

from __future__ import annotations

import html
import re

_LONGEST = 600  # characters of one untrusted text


def escaped(text: str) -> str:
    """Untrusted text for the page: markup escaped, control characters spelled out, cut to 600 characters."""
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return html.escape(shown, quote=True)


def isolated(text: str) -> str:
    """Untrusted text as an element that keeps its writing direction to itself; names may break after `_` and `/`."""
    breakable = re.sub("([_/])", r"\1<wbr>", escaped(text))
    return f"<bdi>{breakable}</bdi>"
