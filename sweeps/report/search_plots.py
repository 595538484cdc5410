"""Figures of the search: its trials, its settings, its course and its work. Values are in the units of their axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from sweeps.report.axes import Axis
from sweeps.report.gather import Progress
from sweeps.report.theme import (
    BLACK,
    BLUE,
    DASHES,
    GREY,
    INK,
    ORANGE,
    PALETTE,
    SOFT,
    SYMBOLS,
    VERMILLION,
    empty,
    safe,
    short,
    star,
)
from sweeps.report.tree import Node
from sweeps.results.importance import Importance
from sweeps.spec.titles import short_name, short_value

SHADES = 24  # of lines by their objective
SCALE = "Cividis"  # told apart with every common form of colour-vision deficiency, and in grey
MOST_LINES = 300  # of a sweep's trials, best first, in one figure of lines
WIDEST_TREE = 120


def parallel(axes: Sequence[Axis], objective: Axis, ids: Sequence[str], winner: str | None) -> go.Figure:
    """Return one line a trial across its settings to its objective; trials come best first.

    The colour of a line is its objective, so that trials that tie have one colour; the chosen one is wider and on top.
    """
    figure = empty(420, "", "")
    columns = [*axes, objective]
    drawn = min(len(ids), MOST_LINES)
    places = objective.positions[:drawn]
    low, high = min(places), max(places)
    shades = [round(SHADES * (place - low) / (high - low)) if high > low else SHADES for place in places]
    for shade in sorted(set(shades)):
        members = [i for i in range(drawn) if shades[i] == shade and ids[i] != winner]
        _lines(figure, columns, ids, members, sample_colorscale(SCALE, shade / SHADES)[0], width=1.6)
    if winner in ids:
        _lines(figure, columns, ids, [ids.index(winner)], VERMILLION, width=3.5, name="the chosen trial")
    if objective.ticks:
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            marker={
                "color": [low],
                "colorscale": SCALE,
                "cmin": low,
                "cmax": high,
                "showscale": True,
                "colorbar": {
                    "title": {"text": safe(objective.name), "side": "right", "font": {"size": 12, "color": SOFT}},
                    "tickvals": [height for height, _ in objective.ticks],
                    "ticktext": [safe(word) for _, word in objective.ticks],
                    "thickness": 14,
                    "outlinewidth": 0,
                },
            },
            hoverinfo="skip",
            showlegend=False,
        )
    for place, column in enumerate(columns):
        figure.add_shape(type="line", x0=place, x1=place, y0=0, y1=1, line={"color": SOFT, "width": 1}, layer="below")
        for height, word in column.ticks:
            figure.add_annotation(
                x=place,
                y=height,
                text=safe(short(word, 18)),
                showarrow=False,
                xanchor="left",
                xshift=5,
                font={"size": 11, "color": SOFT},
            )
    figure.update_xaxes(
        tickvals=list(range(len(columns))),
        ticktext=[safe(short(column.name, 26)) for column in columns],
        showgrid=False,
        range=[-0.15, len(columns) - 1 + 0.45],
    )
    figure.update_yaxes(visible=False, range=[-0.05, 1.05])
    figure.update_layout(hovermode="closest")
    return figure


def _lines(
    figure: go.Figure,
    columns: Sequence[Axis],
    ids: Sequence[str],
    members: Sequence[int],
    colour: str,
    width: float,
    name: str = "",
) -> None:
    """Draw trials as one trace, so that hundreds of them are a few."""
    xs: list[int | None] = []
    ys: list[float | None] = []
    hints: list[str] = []
    for member in members:
        xs += [*range(len(columns)), None]
        ys += [*(column.positions[member] for column in columns), None]
        hints += [safe(ids[member])] * (len(columns) + 1)
    if members:
        figure.add_scatter(
            x=xs,
            y=ys,
            text=hints,
            name=name,
            showlegend=bool(name),
            mode="lines+markers",
            line={"color": colour, "width": width},
            marker={"size": 5 if name else 3},
            hovertemplate="%{text}<extra></extra>",
        )


def importance(shares: Sequence[Importance]) -> go.Figure:
    """Return a bar per setting with its interval, the largest on top."""
    figure = empty(110 + 30 * len(shares), "share of all divergences (%)", "")
    figure.add_bar(
        x=[100 * entry.share for entry in shares],
        y=[safe(entry.setting) for entry in shares],
        error_x={
            "array": [100 * max(0.0, entry.high - entry.share) for entry in shares],
            "arrayminus": [100 * max(0.0, entry.share - entry.low) for entry in shares],
            "color": INK,
            "thickness": 1.2,
        },
        orientation="h",
        marker={"color": BLUE},
        hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
        showlegend=False,
    )
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False)
    figure.update_xaxes(range=[0, 102])
    return figure


def progress(searches: Mapping[str, Progress], y: str) -> go.Figure:
    """Return the score of each trial and the best one so far against the training sessions spent on the search."""
    figure = empty(360, "training sessions of the search so far", y)
    for index, (name, course) in enumerate(searches.items()):
        colour, dash, symbol = PALETTE[index], DASHES[index], SYMBOLS[index]
        prefix = f"{safe(name)}: " if len(searches) > 1 else ""
        figure.add_scatter(
            x=course.sessions,
            y=course.scores,
            text=[safe(trial) for trial in course.trials],
            name=f"{prefix}trials",
            mode="markers",
            marker={"color": colour, "symbol": f"{symbol}-open", "size": 6 if len(course.trials) > 100 else 8},
            opacity=0.7,
            hovertemplate="%{text}: %{y:.4g} after %{x} sessions<extra></extra>",
        )
        figure.add_scatter(
            x=course.sessions,
            y=course.best,
            name=f"{prefix}best so far",
            mode="lines",
            line={"color": colour, "dash": dash, "width": 2.5, "shape": "hv"},
            hovertemplate="best so far: %{y:.4g} after %{x} sessions<extra></extra>",
        )
    figure.update_xaxes(rangemode="tozero")
    return figure


def pareto(
    points: Sequence[tuple[str, float, float]],
    front: Sequence[tuple[str, float, float]],
    chosen: tuple[float, float] | None,
    x: str,
    y: str,
) -> go.Figure:
    """Return the trials (id, first objective, second objective) and, joined, the points that none dominates."""
    figure = empty(400, x, y)
    groups = (
        ("trials", points, GREY, "circle-open", "markers"),
        ("Pareto front", front, BLUE, "diamond", "lines+markers"),
    )
    for name, members, colour, symbol, mode in groups:
        figure.add_scatter(
            x=[first for _, first, _ in members],
            y=[second for _, _, second in members],
            text=[safe(trial) for trial, _, _ in members],
            name=name,
            mode=mode,
            line={"color": colour, "dash": "dash", "width": 1.5},
            marker={"color": colour, "symbol": symbol, "size": 9},
            hovertemplate="%{text}: %{x:.4g}, %{y:.4g}<extra></extra>",
        )
    if chosen is not None:
        star(figure, *chosen)
    return figure


def stages(counts: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Return for each kind of stage how many were computed and how many taken from the store."""
    figure = empty(120 + 34 * len(counts), "stages", "")
    for name, colour, pattern in (("computed", BLUE, ""), ("reused", ORANGE, "/")):
        figure.add_bar(
            y=[safe(kind) for kind in counts],
            x=[row[name] for row in counts.values()],
            name=name,
            orientation="h",
            marker={
                "color": colour,
                "pattern": {"shape": pattern, "bgcolor": colour, "fgcolor": "#fff", "size": 8, "solidity": 0.2},
            },
            insidetextfont={"color": "#fff" if name == "computed" else BLACK},
            text=[f"{row[name]:.0f}" if row[name] else "" for row in counts.values()],
            textposition="auto",
            hovertemplate=f"%{{y}}: %{{x:.0f}} {name}<extra></extra>",
        )
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False)
    return figure


def tree(nodes: Sequence[Node], root: str) -> go.Figure:
    """Return the stage tree as rows of boxes, what begins from a piece below it; the width is the number of trials."""
    rows, starts, widths = [0], [0], [sum(len(node.trials) for node in nodes)]
    labels, colours, patterns, hints = [safe(root)], ["#eef1f4"], [""], [safe(root)]
    start = 0
    for node in nodes:
        for depth, entries in ((1, [node]), (2, node.children)):
            place = start
            for entry in entries:
                rows.append(depth)
                starts.append(place)
                widths.append(len(entry.trials))
                labels.append(_label(entry))
                colours.append("#cfe3f1" if depth == 1 else "#f8e3b8")
                patterns.append("/" if entry.reused and not entry.trained else "")
                hints.append(f"{_told(entry)}<br>{entry.trained} sessions trained, {entry.reused} reused")
                place += len(entry.trials)
        start += len(node.trials)
    figure = empty(360, "", "")
    figure.add_bar(
        orientation="h",
        base=starts,
        x=widths,
        y=rows,
        width=1,
        marker={
            "color": colours,
            "line": {"color": "#fff", "width": 1.5},
            "pattern": {"shape": patterns, "size": 8, "solidity": 0.3},
        },
        text=labels,
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"color": INK, "size": 12},
        hovertext=hints,
        hoverinfo="text",
    )
    figure.update_xaxes(visible=False, range=[0, start])
    figure.update_yaxes(visible=False, range=[2.5, -0.5])
    figure.update_layout(uniformtext={"minsize": 10, "mode": "hide"}, margin={"l": 0, "r": 0, "t": 8, "b": 0})
    return figure


def _label(node: Node) -> str:
    lines = [f"{safe(short_name(name))} {safe(short_value(value))}" for name, value in node.settings.items()]
    trials = f"{len(node.trials)} trials" if len(node.trials) > 1 else safe(node.trials[0])
    shared = [f"{node.trained} trained, {node.reused} reused"] if node.reused else []
    return "<br>".join([*lines, trials, *shared])


def _told(node: Node) -> str:
    settings = "<br>".join(f"{safe(name)} = {safe(short_value(value))}" for name, value in node.settings.items())
    return f"{settings}<br>{len(node.trials)} trials" if settings else f"{len(node.trials)} trials"
