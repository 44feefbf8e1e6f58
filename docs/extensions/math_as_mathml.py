"""Equations as MathML, which browsers set themselves: the usual renderers load a script, or need LaTeX."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx


def visit(writer: Any, node: nodes.math | nodes.math_block) -> None:
    """Write an equation, in the line or as a block of its own.

    Raises:
        docutils.utils.math.MathError: it is no LaTeX that docutils can read.
        SkipNode: always, since the equation's text is not to be written again.
    """
    as_block = isinstance(node, nodes.math_block)
    equation = tex2mathml(node.astext(), as_block=as_block)
    writer.body.append(f'<div class="math">{equation}</div>\n' if as_block else equation)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register."""
    app.add_html_math_renderer("mathml", inline_renderers=(visit, None), block_renderers=(visit, None))
    return {"parallel_read_safe": True}
