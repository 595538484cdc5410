"""Sections of text, tables and figures, rendered into one HTML page that needs nothing from anywhere else."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from safe.io.tables import Table

# The bundle of bars, lines and heat maps, as plotly.js publishes it; the Python package has only the whole of it, which
# is three times as large.
PLOTLY = "plotly-cartesian.min.js.gz"


@dataclass(frozen=True)
class Text:
    """A paragraph; `tone` is a class of the style sheet: plain, lead, note, good or warn."""

    text: str
    tone: str = "plain"
    kind: str = field(default="text", init=False)


@dataclass(frozen=True)
class Figure:
    """A plotly figure, and in words what it shows."""

    id: str
    figure: Any
    caption: str
    kind: str = field(default="figure", init=False)

    @property
    def json(self) -> str:
        """Return the figure as JSON that is safe inside a script element."""
        return str(self.figure.to_json()).replace("<", "\\u003c").replace(">", "\\u003e")

    @property
    def height(self) -> int:
        """Return the height in pixels, which the page keeps free until the figure is drawn."""
        return int(self.figure.layout.height)


@dataclass(frozen=True)
class Picture:
    """A PNG picture, and in words what it shows."""

    png: bytes
    caption: str
    kind: str = field(default="picture", init=False)

    @property
    def address(self) -> str:
        """Return the picture itself as an address, so that nothing is loaded."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Code:
    """Text to copy; `title` set: folded under it."""

    text: str
    title: str = ""
    kind: str = field(default="code", init=False)


@dataclass(frozen=True)
class Facts:
    """A few numbers that matter most: (number, what it is, remark)."""

    facts: Sequence[tuple[str, str, str]]
    kind: str = field(default="facts", init=False)


Block = Text | Table | Figure | Picture | Code | Facts


@dataclass(frozen=True)
class Section:
    """A titled part of the page."""

    id: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Missing:
    """A part that the ledger has nothing for, and why, in one sentence."""

    title: str
    why: str


@dataclass(frozen=True)
class Page:
    """A page: `banners` are warnings that stand above everything, `foot` explains words at its end, `mlflow` are
    addresses by what MLflow shows there, on a server that runs by itself where `mlflow_served`."""

    title: str
    subtitle: str
    sections: Sequence[Section | Missing]
    banners: Sequence[str] = ()
    foot: Sequence[str] = ()
    mlflow: Mapping[str, str] = field(default_factory=dict)
    mlflow_served: bool = False

    @property
    def shown(self) -> list[Section]:
        """The sections that have something to show."""
        return [entry for entry in self.sections if isinstance(entry, Section)]

    @property
    def missing(self) -> list[Missing]:
        """The others."""
        return [entry for entry in self.sections if isinstance(entry, Missing)]


def render(page: Page) -> str:
    """Return the page as HTML; every text is escaped, plotly.js is in it once, compressed, and nothing is loaded."""
    from jinja2 import Environment, StrictUndefined

    here = files("sweeps.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    parts = {name: (here / f"page.{name}").read_text("utf-8") for name in ("css", "js")}
    has_figures = any(isinstance(block, Figure) for section in page.shown for block in section.blocks)
    template = environment.from_string((here / "page.html.j2").read_text("utf-8"))
    plotly = base64.b64encode((here / PLOTLY).read_bytes()).decode() if has_figures else ""
    return template.render(page=page, **parts, plotly=plotly)
