"""What the final runs say: accuracy by session, what is forgotten, and what each learner adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from safe.evaluation.metrics import MAIN
from safe.io.tables import Table
from sweeps.report import run_plots
from sweeps.report.formatting import Measure, plural
from sweeps.report.gather import Curve, Gathered, curves, last_metric, matrix
from sweeps.report.page import Block, Figure, Missing, Section, Text


def by_session(gathered: Gathered) -> Section | Missing:
    """Accuracy after every session, with its spread over the final runs."""
    title, drawn = "Accuracy by session", curves(gathered)
    if not drawn:
        return Missing(title, "no final run is finished yet.")
    measure = Measure("accuracy")
    runs = plural(drawn[0].runs, "seed")
    caption = f"Accuracy on the test images of all classes so far; line: mean over {runs}"
    caption += ", band: one standard deviation." if drawn[0].runs > 1 else "."
    blocks = session_blocks(drawn, caption, lambda c, s: measure.spread({"mean": c.mean[s], "std": c.std[s]}))
    return Section("by-session", title, blocks)


def session_blocks(drawn: Sequence[Curve], caption: str, cell: Callable[[Curve, int], str]) -> list[Block]:
    """Return curves of accuracy as a figure and as a table; `cell` writes the value of one after a session, from 0."""
    rows = [
        [str(s + 1), *(cell(c, s) if s < len(c.mean) else "–" for c in drawn)]
        for s in range(max(len(c.mean) for c in drawn))
    ]
    table = Table(["session", *(c.label for c in drawn)], rows, "Accuracy by session, in percent", folded=True)
    return [Figure("sessions", run_plots.sessions(drawn), caption), table]


def forgetting(gathered: Gathered) -> Section | Missing:
    """The accuracy matrix: what each state knows of every session's classes."""
    title, accuracies = "Forgetting, session by session", matrix(gathered)
    if accuracies is None:
        return Missing(title, "nothing is chosen yet.")
    whose = f"mean over {plural(accuracies.runs, 'final run')}" if accuracies.of_finals else "chosen trial"
    images = "test images" if accuracies.split == "test" else "held-out training images"
    caption = (
        f"Accuracy in percent on the {images} of each session's classes (column) after each session (row), {whose}."
    )
    width = max(map(len, accuracies.rows))
    rows = [
        [str(s), *(f"{100 * a:z.1f}" for a in row), *[""] * (width - len(row))]
        for s, row in enumerate(accuracies.rows, start=1)
    ]
    blocks: list[Block] = [
        Text("Read a column downwards: it gets lighter where what was learned in that session is forgotten.", "note"),
        Figure("matrix", run_plots.matrix(accuracies), caption),
        Table(
            ["after session", *(str(s) for s in range(1, width + 1))], rows, "Accuracy matrix, in percent", folded=True
        ),
    ]
    return Section("forgetting", title, blocks)


def learners(gathered: Gathered) -> Section | Missing:
    """Slow, fast and aggregate, run by run."""
    title = "Slow, fast and their aggregate"
    if len(gathered.learners) == 1:
        return Missing(title, f"what was chosen, {gathered.learners[0][0]}, has one learner.")
    panels: dict[str, dict[str, Any]] = {}
    for metric in MAIN:
        stats = {
            label.partition(" ")[0]: spread
            for label, prefix in (*gathered.learners[1:], gathered.learners[0])
            if (spread := last_metric(gathered.finals, f"{prefix}{metric}")) is not None
        }
        if len(stats) > 1:
            panels[Measure(metric).title] = stats
    if not panels:
        return Missing(title, "no final run is finished yet.")
    measure = Measure("accuracy")
    rows = [
        [name, *(measure.spread(panel.get(name)) for panel in panels.values())] for name in next(iter(panels.values()))
    ]
    blocks: list[Block] = [
        Figure(
            "learners-compared",
            run_plots.learners(panels),
            "Test images after the last session; one grey line a seed, large marks: mean ± standard deviation.",
        ),
        Table(["learner", *panels], rows, "Learners after the last session, in percent"),
    ]
    both = [
        [Measure(name).title, Measure(name).spread(spread)]
        for name in ("agreement", "complementarity", "oracle_accuracy", "aggregation/weight_fast")
        if (spread := last_metric(gathered.finals, name)) is not None
    ]
    if both:
        blocks.append(Table(["the two together", "percent"], both))
    return Section("learners", title, blocks)
