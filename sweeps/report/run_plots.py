"""Figures of runs: what they score after every session, and at every setting of prediction.

Functions of plain data: accuracies as fractions, objectives in the unit of their axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sweeps.report.gather import Curve, Matrix, Stats
from sweeps.report.theme import BLUE, GREY, SOFT, VERMILLION, empty, faint, finish, percent, safe, star, style
from sweeps.spec.titles import short_value

SCALE = [[0.0, "#f7fbff"], [0.5, "#6baed6"], [1.0, "#08306b"]]  # one hue, light to dark, also in grey print
MOST_CELLS_WITH_TEXT = 15
LEAST_SPAN = 20.0  # points from one end of the scale to the other, so that 99.1 % beside 99.6 % is not white
UNSEEN = "#d0d7de"


def sessions(curves: Sequence[Curve]) -> go.Figure:
    """Return accuracy by session, one line a curve, with a band of one standard deviation where there is one."""
    figure = empty(380, "session", "accuracy on all classes so far (%)")
    for index, curve in enumerate(curves):
        colour, dash, symbol = style(curve.label, index)
        steps = list(range(1, len(curve.mean) + 1))
        if all(std is not None for std in curve.std):
            high = [percent(m + (s or 0)) for m, s in zip(curve.mean, curve.std, strict=True)]
            low = [percent(m - (s or 0)) for m, s in zip(curve.mean, curve.std, strict=True)]
            figure.add_scatter(
                x=steps + steps[::-1],
                y=high + low[::-1],
                fill="toself",
                fillcolor=faint(colour),
                line={"width": 0},
                mode="lines",
                name=f"{safe(curve.label)} ± std",
                hoverinfo="skip",
                legendgroup=curve.label,
                showlegend=False,
            )
        figure.add_scatter(
            x=steps,
            y=[percent(m) for m in curve.mean],
            customdata=[f" ± {100 * s:.1f}" if s is not None else "" for s in curve.std],
            name=safe(curve.label),
            legendgroup=curve.label,
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 4 if index == 0 else 2},
            marker={"symbol": symbol, "size": 11 if index == 0 else 7},  # what lies under another line still shows
            hovertemplate="session %{x}: %{y:.1f}%{customdata} %",
        )
    figure.update_xaxes(dtick=1 if max(len(c.mean) for c in curves) <= 20 else None)
    return figure


def matrix(accuracies: Matrix) -> go.Figure:
    """Return the triangle of accuracies: a row for each state, a column for the classes of each session."""
    count = len(accuracies.rows)
    width = max(map(len, accuracies.rows))
    cells = [[percent(a) for a in row] + [None] * (width - len(row)) for row in accuracies.rows]
    low, high = scale_ends([cell for row in cells for cell in row if cell is not None])
    figure = empty(min(640, 150 + 34 * count), "classes of session", "state after session")
    unseen = [[None if cell is not None else 0.0 for cell in row] for row in cells]
    where = "after session %{y}, classes of session %{x}"
    add_cells(
        figure,
        unseen,
        colorscale=[[0.0, UNSEEN], [1.0, UNSEEN]],
        texttemplate=None,
        meta="unseen",  # and so not among the numbers that are saved
        showscale=False,
        hovertemplate=f"{where}: not seen yet<extra></extra>",
    )
    bar = {"title": {"text": "accuracy (%)", "side": "right", "font": {"size": 12, "color": SOFT}}, "outlinewidth": 0}
    add_cells(
        figure,
        cells,
        zmin=low,
        zmax=high,
        hovertemplate=f"{where}: %{{z:.1f}} %<extra></extra>",
        colorbar={**bar, "thickness": 14},
    )
    return figure


def add_cells(figure: go.Figure, cells: Sequence[Sequence[float | None]], **more: Any) -> None:
    """Add a heat map of percents by session, both ways from 1 and the first on top; None stays empty."""
    rows, columns = len(cells), len(cells[0])
    told = {"colorscale": SCALE, "texttemplate": "%{z:.1f}" if columns <= MOST_CELLS_WITH_TEXT else None, **more}
    x, y = list(range(1, columns + 1)), list(range(1, rows + 1))
    figure.add_heatmap(x=x, y=y, z=cells, xgap=2, ygap=2, hoverongaps=False, **told)
    every = 1 if rows <= 20 else None
    figure.update_xaxes(dtick=every, showgrid=False, side="bottom")
    figure.update_yaxes(dtick=every, showgrid=False, autorange="reversed")


def scale_ends(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of a scale in percent that holds all values, at least `LEAST_SPAN` apart, within [0, 100]."""
    low, high = min(values), max(values)
    more = max(0.0, LEAST_SPAN - (high - low))
    high = min(100.0, high + more / 2)
    low = max(0.0, min(low, high - LEAST_SPAN))
    return low, max(high, low + LEAST_SPAN)


def learners(panels: Mapping[str, Mapping[str, Stats]]) -> go.Figure:
    """Return for each metric a panel with the runs of every learner, runs of one seed joined, and mean ± std.

    Args:
        panels: metric -> learner -> `mean`, `std` and `values` in the order of the seeds.
    """
    figure = make_subplots(rows=1, cols=len(panels), subplot_titles=[safe(name) for name in panels])
    for column, (metric, learner_stats) in enumerate(panels.items(), start=1):
        names = list(learner_stats)
        for values in zip(*(stats["values"] for stats in learner_stats.values()), strict=True):
            figure.add_scatter(
                x=names,
                y=[percent(v) for v in values],
                name=f"{safe(metric)}, one seed",
                mode="lines+markers",
                line={"color": "#c4cbd2", "width": 1},
                marker={"color": GREY, "size": 5},
                hoverinfo="skip",
                showlegend=False,
                row=1,
                col=column,
            )
        for name, stats in learner_stats.items():
            colour, _, symbol = style(name)
            spread = None if stats["std"] is None else {"array": [100 * stats["std"]], "width": 7, "thickness": 2}
            figure.add_scatter(
                x=[name],
                y=[percent(stats["mean"])],
                name=f"{safe(metric)}, mean",
                error_y=spread,
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 12},
                hovertemplate="%{x}: %{y:.1f} %<extra></extra>",
                showlegend=False,
                row=1,
                col=column,
            )
    finish(figure, 340)
    figure.update_annotations(font={"size": 13, "color": SOFT})
    figure.update_yaxes(title_text="percent", col=1)
    figure.update_xaxes(range=[-0.5, 2.5] if len(next(iter(panels.values()))) == 3 else None)
    return figure


def temperatures(
    lines: Mapping[str, Sequence[tuple[float, float]]], chosen: tuple[float, float], others: int, y: str
) -> go.Figure:
    """Return the objective against the temperature.

    Args:
        lines: (temperature, objective) by name; the first is the chosen trial at its other settings of prediction, the
            last `others` of them are other trials, drawn faintly.
        chosen: the point that was chosen.
    """
    figure = empty(360, "temperature of the aggregation (log scale)", y)
    shown = len(lines) - others
    for index, (name, points) in reversed(list(enumerate(lines.items()))):
        faint = index >= shown
        colour, dash, symbol = (GREY, "solid", "circle") if faint else style(name, index)
        figure.add_scatter(
            x=[t for t, _ in points],
            y=[v for _, v in points],
            name="other trials" if faint else safe(name),
            legendgroup="others" if faint else name,
            showlegend=not faint or index == shown,
            legendrank=1000 + index,
            mode="lines" if faint else "lines+markers",
            opacity=0.45 if faint else 1,
            line={"color": colour, "dash": dash, "width": 1 if faint else 2.5},
            marker={"symbol": symbol, "size": 7},
            hovertemplate=f"{safe(name)}: temperature %{{x:g}}, %{{y:.4g}}<extra></extra>",
        )
    star(figure, *chosen)
    values = sorted({t for points in lines.values() for t, _ in points})
    figure.update_xaxes(type="log", tickvals=values, ticktext=[short_value(value) for value in values])
    return figure


def choices_at_prediction(scores: Mapping[str, float], chosen: str, x: str) -> go.Figure:
    """Return the objective at every setting of prediction as points, best first; for settings without temperature."""
    names = list(scores)
    figure = empty(120 + 26 * len(names), x, "")
    figure.add_scatter(
        x=list(scores.values()),
        y=[safe(name) for name in names],
        mode="markers",
        marker={
            "size": 11,
            "color": [VERMILLION if name == chosen else BLUE for name in names],
            "symbol": ["star" if name == chosen else "circle" for name in names],
        },
        hovertemplate="%{y}: %{x:.4g}<extra></extra>",
        showlegend=False,
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure
