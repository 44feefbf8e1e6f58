"""What several commands are told in the same way: a store, that the result is JSON, sizes of images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

Store = Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

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
