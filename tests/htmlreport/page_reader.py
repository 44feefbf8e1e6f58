"""What a page says, read with html.parser: no part of the code that wrote it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "img", "br", "link", "input", "hr", "wbr", "source"}


@dataclass
class Element:
    """An element with its attributes, its text and its children."""

    tag: str
    attributes: dict[str, str | None]
    children: list[Element] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    parent: Element | None = None

    def all(self, tag: str | None = None, **wanted: str) -> list[Element]:
        """Descendants of that tag whose attributes have those values, in order; `class_` asks for one class."""
        found = []
        for child in self.children:
            classes = (child.attributes.get("class") or "").split()
            fits = all(
                value in classes if name == "class_" else child.attributes.get(name) == value
                for name, value in wanted.items()
            )
            if fits and tag in (None, child.tag):
                found.append(child)
            found += child.all(tag, **wanted)
        return found

    @property
    def text(self) -> str:
        """All text inside, in order."""
        return " ".join("".join(self.texts).split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("root", {})
        self.open = self.root

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs), parent=self.open)
        self.open.children.append(element)
        if tag not in _VOID:
            self.open = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.children.append(Element(tag, dict(attrs), parent=self.open))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.tag, f"</{tag}> closes <{self.open.tag}>"
        assert self.open.parent is not None
        self.open = self.open.parent

    def handle_data(self, data: str) -> None:
        element: Element | None = self.open
        while element is not None:
            element.texts.append(data)
            element = element.parent


def read_page(text: str) -> Element:
    """The document; a tag that is not closed where it was opened is an error."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.open is reader.root, f"<{reader.open.tag}> is not closed"
    return reader.root
