"""A page as its elements, for tests that look at structure rather than at text."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "img", "br", "hr", "circle", "path", "source"}


@dataclass
class Element:
    """One element with its attributes and the text inside it."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    ancestors: "tuple[Element, ...]" = field(default=(), repr=False)

    def is_in(self, tag: str) -> bool:
        """Whether an element of that kind is around it."""
        return any(element.tag == tag for element in self.ancestors)

    def __getitem__(self, name: str) -> str | None:
        return self.attributes.get(name)


class Page(HTMLParser):
    """Page(html).all("img") -> elements in the order of the document; `unclosed` names tags that were left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.mistakes: list[str] = []
        self.feed(html)
        self.close()
        self.mistakes += [f"<{element.tag}> is never closed" for element in self.open]

    def all(self, tag: str, **attributes: str) -> list[Element]:
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            element
            for element in self.elements
            if element.tag == tag and all(element[name] == value for name, value in wanted.items())
        ]

    def one(self, tag: str, **attributes: str) -> Element:
        (found,) = self.all(tag, **attributes)
        return found

    def inside(self, tag: str, **attributes: str) -> list[Element]:
        """The elements inside the one that is asked for."""
        parent = self.one(tag, **attributes)
        return [element for element in self.elements if any(step is parent for step in element.ancestors)]

    def handle_starttag(self, tag, attrs):
        names = [name for name, _value in attrs]
        if len(names) != len(set(names)):
            self.mistakes.append(f"<{tag}> has an attribute twice")
        element = Element(tag, dict(attrs), ancestors=tuple(self.open))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(Element(tag, dict(attrs), ancestors=tuple(self.open)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if self.open and self.open[-1].tag == tag:
            self.open.pop()
        else:
            self.mistakes.append(f"</{tag}> closes {self.open[-1].tag if self.open else 'nothing'}")

    def handle_data(self, data):
        for element in self.open:
            element.text += data
