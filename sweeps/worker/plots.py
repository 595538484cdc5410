"""Pictures of one run: heat map of the accuracy matrix, curves by session, confusion matrix; PNG files.

Drawn without pyplot, so that no global state and no screen is needed. Colours are told apart with any colour vision.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safe.errors import shown

if TYPE_CHECKING:
    from torch import Tensor

CELLS_WITH_NUMBERS = 20  # per side; with more the numbers could not be read
CLASSES_WITH_NAMES = 40  # per side; with more the names could not be read
LEARNERS = {"SAFE": ("", "#000000", "o"), "slow": ("slow/", "#0072b2", "s"), "fast": ("fast/", "#d55e00", "^")}
CURVES = (
    ("accuracy", "accuracy, classes seen (%)", 100),
    ("forgetting", "forgetting (%)", 100),
    ("nll", "nll (nats)", 1),
)


def accuracy_heat_map(rows: Sequence[Sequence[float]], title: str, path: Path) -> None:
    """Draw accuracy by session group (columns) after each session (rows); row s has s entries in [0, 1]."""
    sessions = len(rows)
    cells = [[*row, *[float("nan")] * (sessions - len(row))] for row in rows]
    ticks = [str(number) for number in range(1, sessions + 1)]
    axes = _heat_map(cells, ticks, ticks, "accuracy (%)", 100)
    axes.set(title=title, xlabel="images of session", ylabel="after session")
    _save(axes.figure, path)


def confusion_heat_map(
    counts: Sequence[Sequence[int]], classes: Sequence[str], boundaries: Sequence[int], title: str, path: Path
) -> None:
    """Draw a confusion matrix in shares of each true class (rows); thin lines stand between sessions.

    Args:
        counts: C x C; entry (i, j) counts images of class i predicted as j. A class without images stays empty.
        classes: names in order of arrival; of more than can be read those most confused are drawn, by `most_confused`.
        boundaries: how many classes were seen after each session.
    """
    shares = [[n / sum(row) if sum(row) else float("nan") for n in row] for row in counts]
    drawn = most_confused(shares, CLASSES_WITH_NAMES)
    ticks = [_short(classes[index]) for index in drawn]
    axes = _heat_map([[shares[i][j] for j in drawn] for i in drawn], ticks, ticks, "share of the true class (%)", 100)
    for boundary in {bisect_left(drawn, boundary) for boundary in boundaries} - {0, len(drawn)}:
        axes.axhline(boundary - 0.5, color="#d55e00", linewidth=0.6)
        axes.axvline(boundary - 0.5, color="#d55e00", linewidth=0.6)
    if len(drawn) < len(classes):
        title = f"{title}\nthe {len(drawn)} classes most confused of {len(classes)}"
    axes.set(title=title, xlabel="predicted class", ylabel="true class")
    _save(axes.figure, path)


def most_confused(shares: Sequence[Sequence[float]], most: int) -> list[int]:
    """Return which classes a confusion matrix is to show, in their order: all, or `most` of them.

    These are the pairs of which one is taken for the other most often; then, where that does not fill the picture, the
    first classes.

    Args:
        shares: entry (i, j) is the share of class i that is predicted as j; NaN where it has no images.
    """
    classes = range(len(shares))
    if len(shares) <= most:
        return list(classes)
    pairs = ((shares[i][j], i, j) for i in classes for j in classes if i != j and shares[i][j] > 0)
    ranked = (index for _, *pair in sorted(pairs, key=lambda pair: (-pair[0], *pair[1:])) for index in pair)
    return sorted(itertools.islice(dict.fromkeys(itertools.chain(ranked, classes)), most))


def session_curves(sessions: Sequence[Mapping[str, float]], title: str, path: Path) -> None:
    """Draw accuracy, forgetting and negative log-likelihood by session, aggregated and of each learner alone."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4))
    for axes, (metric, label, factor) in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
        for learner, (prefix, colour, marker) in LEARNERS.items():
            points = [(s, factor * m[prefix + metric]) for s, m in enumerate(sessions, start=1) if prefix + metric in m]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=4, label=learner)
        axes.set(xlabel="session", ylabel=label, xlim=(0.5, len(sessions) + 0.5))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.suptitle(title)
    figure.subplots_adjust(left=0.06, right=0.98, bottom=0.16, top=0.88, wspace=0.26)
    _save(figure, path, bounds=None)


def image_rows(
    rows: Sequence[tuple[Sequence[Tensor], Sequence[Tensor]]], names: Sequence[tuple[str, str]], path: Path
) -> None:
    """Draw a line for each pair of classes: images, uint8 (3, H, W), taken for the other class, and of that class."""
    from matplotlib.figure import Figure

    most = max(len(images) for row in rows for images in row)
    figure = Figure(figsize=(2 * most + 1, 1.25 * len(rows)))
    for line, (row, pair) in enumerate(zip(rows, names, strict=True)):
        for side, (images, name) in enumerate(zip(row, pair, strict=True)):
            for place in range(most):
                axes = figure.add_subplot(
                    len(rows), 2 * most + 1, line * (2 * most + 1) + side * (most + 1) + place + 1
                )
                axes.axis("off")
                if place < len(images):
                    axes.imshow(images[place].permute(1, 2, 0).numpy(), interpolation="nearest")
                if place == 0:
                    axes.set_title(
                        _short(name) + ("" if side else ", taken for"), fontsize=8, loc="left", pad=2, parse_math=False
                    )
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=1 - 0.18 / len(rows), wspace=0.06, hspace=0.28)
    _save(figure, path, bounds=None)


def _heat_map(
    cells: Sequence[Sequence[float]], columns: Sequence[str], rows: Sequence[str], label: str, factor: float
) -> Any:
    """Return axes with a heat map of values in [0, 1], or NaN for none, of a figure that grows with it a little."""
    from matplotlib.figure import Figure

    side = min(12.0, max(4.5, 0.42 * len(cells) + 1.5))
    axes = Figure(figsize=(side + 1, side)).subplots()
    image = axes.imshow(cells, vmin=0, vmax=1, cmap="cividis", interpolation="nearest")
    bar = axes.figure.colorbar(image, fraction=0.046, pad=0.03)
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100"])
    bar.set_label(label)
    if columns:
        axes.set_xticks(
            range(len(columns)), columns, rotation=90 if max(map(len, columns)) > 2 else 0, parse_math=False
        )
        axes.set_yticks(range(len(rows)), rows, parse_math=False)
    if len(cells) <= CELLS_WITH_NUMBERS:
        for y, row in enumerate(cells):
            for x, value in enumerate(row):
                if value == value:
                    colour = "white" if value < 0.5 else "black"
                    axes.text(x, y, f"{factor * value:.0f}", ha="center", va="center", color=colour, fontsize=8)
    return axes


def _short(name: str) -> str:
    name = shown(name)  # the bytes of a name that is no text cannot be drawn
    return name if len(name) <= 16 else f"{name[:15]}…"


def _save(figure: Any, path: Path, bounds: str | None = "tight") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without matplotlib's version in it, equal runs give equal files.
    figure.savefig(path, dpi=110, bbox_inches=bounds, metadata={"Software": None})
