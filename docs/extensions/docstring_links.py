"""The role of `single backticks` in docstrings: a link where they hold a name that the reference has, else code."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.roles import XRefRole

ROLE = "docstring-link"


class DocstringLink(XRefRole):
    """Like `:py:obj:`, but not a promise that there is such a name."""

    def process_link(
        self, env: BuildEnvironment, refnode: nodes.Element, has_explicit_title: bool, title: str, target: str
    ) -> tuple[str, str]:
        """Say where the role stands: names are those of this module and class, or whole."""
        refnode.update_all_atts({name: env.ref_context.get(name) for name in ("py:module", "py:class")})
        refnode["refdomain"], refnode["reftype"] = "py", "obj"
        refnode["may_be_code"] = True
        return title, target.removesuffix("()")


def leave_as_code(app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.Element) -> nodes.Element | None:
    """What has no place in the reference stays code, and no warning is due."""
    return shown if node.get("may_be_code") else None


def keep_whole(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from taking what stands before a colon for the type of a property: it is a part of a sentence."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # an empty comment, in which there is no colon


def parameters_are_code(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep the name of a parameter from linking to what else has that name, as `mix` of a loader to the operator."""
    _, args, described = "\n".join(lines).partition("Args:\n")
    if args:
        names = "|".join(re.findall(r"^    (\w+):", described.partition("\n\n")[0], re.MULTILINE))
        lines[:] = [re.sub(rf"(?<!`)`({names})`(?!`)", r"``\1``", line) for line in lines]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register."""
    app.add_role(ROLE, DocstringLink(innernodeclass=nodes.literal, warn_dangling=False))
    app.connect("missing-reference", leave_as_code)
    for function in (keep_whole, parameters_are_code):
        app.connect("autodoc-process-docstring", function, priority=400)  # napoleon's is 500
    return {"parallel_read_safe": True}
