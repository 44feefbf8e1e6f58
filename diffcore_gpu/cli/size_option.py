"""Sizes of images as they are typed."""

from __future__ import annotations

import re

import typer

_MAX_SIDE = 16384


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """``256`` or ``224x192`` as (height, width).

    Raises:
        typer.BadParameter: it is something else.
    """
    match = re.fullmatch(r"(\d{1,5})(?:[xX×](\d{1,5}))?", text.strip())
    if match:
        height, width = int(match[1]), int(match[2] or match[1])
        if 1 <= height <= _MAX_SIDE and 1 <= width <= _MAX_SIDE:
            return height, width
    raise typer.BadParameter(
        f"{text!r} is no size; give pixels as 256, or height x width as 224x192.", param_hint=option
    )
