"""Why accuracy is lost: what forgetting is made of, which sessions and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import plotly.graph_objects as go

from safe.evaluation.metrics import losses
from safe.io.tables import Table
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.ledger import SweepLog
from sweeps.report.formatting import Measure, plural
from sweeps.report.gather import Gathered, last_metric
from sweeps.report.page import Block, Figure, Missing, Picture, Section, Text
from sweeps.report.run_plots import add_cells
from sweeps.report.theme import BLUE, VERMILLION, empty, percent
from sweeps.report.words import forgetting_words
from sweeps.results.confused import PICTURE, Pair, read_pairs
from sweeps.results.summary import final_runs

SHOWN = ("forgetting", "forgetting_within", "forgetting_confusion", "accuracy_within_session", "forgetting_nonneg")
DEFINITIONS = (
    "Forgetting of a session's classes is their best accuracy after an earlier session minus that after the last one; "
    "the mean is over all old sessions. The last session is not among those of which the best is taken, so forgetting "
    "may be negative, where old classes have gained. “At least 0” takes it among them, as mammoth and PILOT do.",
    "Forgetting is the sum of two parts. Really forgotten: the accuracy that is lost where only the classes of an "
    "image's own session compete. More confusion with other sessions: the growth of the share of images that are right "
    "among the classes of their session and wrong among all.",
)


def lost(gathered: Gathered) -> Section | Missing:
    """What forgetting is made of, session by session, and which sessions take whose images."""
    title, runs = "Why accuracy is lost", [job for job in gathered.finals if _whole(job)]
    if not runs or len({len(job.sessions) for job in runs}) > 1:
        return Missing(title, "no final run tells what was right among the classes of one session.")
    mean = f"mean over {plural(len(runs), 'final run')}"
    blocks: list[Block] = []
    if parts := _parts(runs):
        means = {name: stats for name in SHOWN if (stats := last_metric(runs, name)) is not None}
        caption = f"Points that the classes of each old session lost since their best accuracy, test images, {mean}."
        rows = [
            [str(s), f"{100 * (a + b):z.1f}", f"{100 * a:z.1f}", f"{100 * b:z.1f}"]
            for s, (a, b) in enumerate(parts, start=1)
        ]
        head = ["classes of session", "lost", "really forgotten", "more confusion with other sessions"]
        blocks += [
            Text(" ".join(forgetting_words(means))),
            Figure("losses-by-session", losses_figure(parts), caption),
            Table(head, rows, "Points lost by session", folded=True),
        ]
        measures = [Measure(name) for name in SHOWN]
        spreads = [
            [label, *(m.spread(last_metric(runs, f"{prefix}{m.name}")) for m in measures)]
            for label, prefix in gathered.learners
        ]
        caption = (
            f"Test images after the last session, in percent, {mean}{' ± standard deviation' if len(runs) > 1 else ''}"
        )
        blocks.append(Table(["", *(m.title for m in measures)], spreads, caption))
    if len(shares := session_shares([job.sessions[-1].confusion for job in runs])) > 1:
        caption = f"Percent of the test images of each session's classes (row) taken for classes of a session, {mean}."
        rows = [[str(s), *(f"{100 * share:.1f}" for share in row)] for s, row in enumerate(shares, start=1)]
        head = ["images of session", *(f"as {s}" for s in range(1, len(shares) + 1))]
        blocks += [
            Text("Which sessions take whose images: a dark column takes images of many others.", "note"),
            Figure("session-confusion", confusion_figure(shares), caption),
            Table(head, rows, "Images by session and predicted session, in percent", folded=True),
        ]
    return Section("losses", title, blocks) if blocks else Missing(title, "the stream has one session.")


def _whole(job: JobLog) -> bool:
    return all(record.row and record.within for record in job.sessions)


def _parts(runs: Sequence[JobLog]) -> list[tuple[float, float]]:
    """Return for each old session its two losses, the mean over runs."""
    each = [losses([record.row for record in job.sessions], [r.within for r in job.sessions]) for job in runs]
    return [(fmean(a for a, _ in same), fmean(b for _, b in same)) for same in zip(*each, strict=True)]


def session_shares(counts: Sequence[Sequence[Sequence[int]]]) -> list[list[float]]:
    """Return the shares of each session's images (row) by predicted session, the mean over runs; empty without any."""
    if not all(counts):
        return []
    shares = [[[cell / sum(row) for cell in row] for row in cells] for cells in counts]
    return [[fmean(same) for same in zip(*rows, strict=True)] for rows in zip(*shares, strict=True)]


def losses_figure(parts: Sequence[tuple[float, float]]) -> go.Figure:
    """Return a bar for each old session, its two losses stacked; a gain stands below 0."""
    figure, steps = empty(340, "classes of session", "points lost"), list(range(1, len(parts) + 1))
    looks = (("really forgotten", VERMILLION, ""), ("more confusion with other sessions", BLUE, "/"))
    for place, (name, colour, pattern) in enumerate(looks):
        figure.add_bar(
            x=steps,
            y=[percent(part[place]) for part in parts],
            name=name,
            marker={
                "color": colour,
                "pattern": {"shape": pattern, "bgcolor": colour, "fgcolor": "#fff", "solidity": 0.25},
            },
            hovertemplate=f"session %{{x}}, {name}: %{{y:.1f}} points<extra></extra>",
        )
    figure.update_layout(barmode="relative")
    figure.update_xaxes(dtick=1 if len(parts) <= 20 else None)
    return figure


def confusion_figure(shares: Sequence[Sequence[float]]) -> go.Figure:
    """Return a heat map: the images of each session (row) by the session whose class is predicted (column)."""
    figure = empty(min(640, 150 + 34 * len(shares)), "predicted class is of session", "images of session")
    hint = "images of session %{y} taken for session %{x}: %{z:.1f} %<extra></extra>"
    cells = [[percent(share) for share in row] for row in shares]
    add_cells(figure, cells, zmin=0, zmax=100, showscale=False, hovertemplate=hint)
    return figure


@dataclass(frozen=True)
class Confused:
    """The pairs of classes that a run confused most often, and the picture of their images where there is one."""

    run: str
    pairs: Sequence[Pair]
    picture: bytes | None


def read_confused(log: SweepLog, folder: Path) -> Confused | None:
    """Return what the first final run wrote into the folder of the sweep, `None` where it did not."""
    for job in final_runs(log):
        run = folder / "runs" / job.id
        if pairs := read_pairs(run):
            return Confused(job.id, pairs, (run / PICTURE).read_bytes() if (run / PICTURE).is_file() else None)
    return None


def confused(seen: Confused | None) -> Section | Missing:
    """The classes taken for another most often, with images of both."""
    title = "Classes taken for each other"
    if seen is None:
        return Missing(title, "no final run has confused any, or its files are not here.")
    rows = [
        [pair.true, str(pair.true_session), pair.predicted, str(pair.predicted_session), f"{pair.images} of {pair.of}"]
        for pair in seen.pairs
    ]
    head = ["class", "of session", "taken for", "of session", "test images"]
    blocks: list[Block] = [Table(head, rows, f"Most test images first, after the last session of {seen.run}")]
    if seen.picture is not None:
        words = "A line a pair; left: images of the class that are taken for the other, right: images of the other."
        blocks.append(Picture(seen.picture, words))
    return Section("confused", title, blocks)
