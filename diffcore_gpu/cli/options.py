"""How options are declared, and what several commands are told in the same way: folders, devices, sizes of images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from diffcore_gpu.errors import StoreError


def option(about: str, *names: str, **rules: Any) -> Any:
    """An option by what it is, the default included where there is one to tell.

    Args:
        about: what ``--help`` says.
        names: with the dashes; none: from the parameter.
        rules: more of `typer.Option`, such as the range of a number.
    """
    return typer.Option(*names, help=about, show_default=False, **rules)


# A string, since a path would make one slash of the two in a URL.
Store = Annotated[
    str, typer.Argument(metavar="STORE", help="The store's folder, or its URL: s3://…, gs://…, https://…, hf://….")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Real = Annotated[Path, typer.Option(help="The real images: an ImageFolder, one folder per class.")]
Out = Annotated[Path, typer.Option(help="The store's folder.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …; auto: a GPU if there is one.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the store that is there.")]
Codec = Annotated[
    str,
    typer.Option(
        help="How the store keeps its images. raw: as they are. jpeg: a sixth of that, nearly the same pixels (quality "
        "95; another as jpeg:90). webp: lossless, about half."
    ),
]

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


def parse_codec(text: str) -> str:
    """A `--codec` that there is.

    Raises:
        typer.BadParameter: it is something else.
    """
    from diffcore_gpu.store.codecs import codec_named

    try:
        return codec_named(text).setting
    except StoreError as error:
        raise typer.BadParameter(str(error), param_hint="--codec") from None
