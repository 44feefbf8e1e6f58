"""Check a built site as a reader's browser would see it: ``python docs/check_site.py FOLDER``.

Sphinx warns of references that it resolves itself, not of what raw HTML, notebooks and included files link to. So every
link and picture within the site must lead to a file of it, every `#anchor` to an element, and nothing that a page needs
may be loaded from elsewhere: the site works without a network.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
LINK_RELS = {"stylesheet", "icon", "preload"}
"""Of `<link>`, those that a browser fetches."""


class Page(HTMLParser):
    """What one page has: its anchors, and what it links to and loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors = {"", "top"}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        attributes = {name: value or "" for name, value in attrs}
        self.anchors |= {attributes[name] for name in ("id", "name") if name in attributes}
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        for name in ("src", "href"):
            fetched = tag != "link" or set(attributes.get("rel", "").split()) & LINK_RELS
            if (tag, name) in LOADED and name in attributes and fetched:
                self.loaded.append(attributes[name])


def check(site: Path) -> list[str]:
    """One sentence for each thing that is wrong."""
    pages = {path.resolve(): Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    wrong = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        wrong += [f"{name}: loads {url} from elsewhere." for url in page.loaded if urlsplit(url).netloc]
        for url in page.links + page.loaded:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                wrong.append(f"{name}: leads to {url}, which is not there.")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                wrong.append(f"{name}: leads to {url}, where there is no such anchor.")
    if not pages:
        wrong.append(f"{site}: there is no page.")
    return wrong


if __name__ == "__main__":
    found = check(Path(sys.argv[1]))
    print("\n".join(found) or "Every link of the site leads somewhere, and nothing is loaded from elsewhere.")
    raise SystemExit(bool(found))
