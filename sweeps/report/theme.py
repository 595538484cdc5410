"""How figures look: colours, dashes, markers, fonts, and the empty figure that all of them start from.

Nothing is told by colour alone: dashes and markers differ too. Colours are those of Okabe and Ito (2008), told apart
with every common form of colour-vision deficiency. Only SVG traces are used: they print sharply and need no WebGL.
plotly reads markup in texts, so all that come from a ledger go through `safe`.
"""

from __future__ import annotations

import html

import plotly.graph_objects as go

BLACK, ORANGE, SKY, GREEN = "#000000", "#e69f00", "#56b4e9", "#009e73"
BLUE, VERMILLION, PURPLE = "#0072b2", "#d55e00", "#cc79a7"
GREY = "#8c959f"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY, BLACK)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid", "dash")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")
STYLE = {  # of what has the same look in every figure: colour, dash, marker
    "SAFE": (BLUE, "solid", "circle"),
    "slow": (ORANGE, "dash", "square"),
    "fast": (GREEN, "dot", "diamond"),
    "control": (BLACK, "longdash", "x"),
}
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"
INK, SOFT, LINE = "#1f2328", "#57606a", "#e3e7eb"


def mark(figure: go.Figure, words: str) -> go.Figure:
    """Write a warning into the figure itself, which stays when it is saved as an image."""
    figure.add_annotation(
        text=safe(words), xref="paper", yref="paper", x=1, y=1.02, xanchor="right", yanchor="bottom",
        showarrow=False, font={"color": VERMILLION, "size": 12, "weight": 700},
    )  # fmt: skip
    return figure


def style(label: str, index: int = 0) -> tuple[str, str, str]:
    """Return colour, dash and marker of a line: what is known looks the same in every figure."""
    return STYLE.get(label.removesuffix(" learner"), (PALETTE[index % 7], DASHES[index % 7], SYMBOLS[index % 7]))


def empty(height: int, x: str, y: str) -> go.Figure:
    figure = go.Figure()
    finish(figure, height)
    figure.update_xaxes(title_text=safe(x))
    figure.update_yaxes(title_text=safe(y))
    return figure


def finish(figure: go.Figure, height: int) -> None:
    figure.update_layout(
        template="none",
        height=height,
        autosize=True,
        margin={"l": 62, "r": 18, "t": 44, "b": 52},
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",  # the page's own ground, light or dark
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "itemwidth": 40},
        hoverlabel={"bgcolor": "#fff", "font": {"color": INK}},
        hovermode="closest",
    )
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(
            gridcolor=LINE,
            zeroline=False,
            linecolor=LINE,
            ticks="",
            title_font={"size": 13, "color": SOFT},
            title_standoff=8,
        )


def star(figure: go.Figure, x: float, y: float) -> None:
    figure.add_scatter(
        x=[x],
        y=[y],
        name="chosen",
        mode="markers",
        marker={"symbol": "star", "size": 17, "color": VERMILLION, "line": {"color": "#fff", "width": 1}},
        hovertemplate="chosen: %{x:.4g}, %{y:.4g}<extra></extra>",
    )


def percent(value: float) -> float:
    return 100 * value


def faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.13)"


def safe(words: str) -> str:
    return html.escape(words, quote=False)


def short(words: str, length: int) -> str:
    return words if len(words) <= length else f"{words[: length - 1]}…"
