"""The report of a sweep, its parts in order, the answer first. What the ledger has nothing for is named at the end."""

from __future__ import annotations

from collections.abc import Callable

from safe.io.tables import Table
from sweeps.ledger.ledger import SweepLog
from sweeps.report import theme
from sweeps.report.answer import answer
from sweeps.report.cost import DiskUse, disk_use, work
from sweeps.report.final import by_session, forgetting, learners
from sweeps.report.formatting import plural
from sweeps.report.gather import Gathered
from sweeps.report.losses import DEFINITIONS, Confused, confused, lost
from sweeps.report.page import Block, Figure, Missing, Page, Section
from sweeps.report.prediction import at_prediction
from sweeps.report.race import finalists
from sweeps.report.reproduce import reproduce
from sweeps.report.search import (
    importance,
    leaderboard,
    optimism,
    parallel,
    pareto_front,
    search_progress,
    slow_settings,
)
from sweeps.report.terminal import ON_TEST
from sweeps.results.summary import status_of
from sweeps.spec.titles import title_of
from tracking.mlflow_pages import LOCAL_SERVER, run_page, table_page

PARTS: tuple[Callable[[Gathered], Section | Missing], ...] = (
    answer, finalists, by_session, forgetting, lost, learners, at_prediction, slow_settings, parallel, importance,
    search_progress, pareto_front, work, optimism, leaderboard,
)  # fmt: skip


def report_page(log: SweepLog, disk: DiskUse, pairs: Confused | None = None) -> Page:
    """Return the report of a sweep; `disk` maps a folder to its (files, bytes), `pairs` are of its first final run."""
    gathered = Gathered(log)
    complete = gathered.winner is not None and len(gathered.finals) == log.spec.seeds
    tracking = log.tracking or {}
    uri = str(tracking.get("tracking_uri", ""))
    server = uri if uri.startswith(("http://", "https://")) else LOCAL_SERVER
    pages = {"runs in MLflow": table_page(tracking), "the sweep in MLflow": run_page(tracking)}
    told = plural(len(gathered.finals), "final run") if complete else status_of(log)
    sections = [*(part(gathered) for part in PARTS), confused(pairs), disk_use(disk), reproduce(gathered)]
    return Page(
        title=log.spec.name,
        subtitle=f"{title_of(gathered.spec)} · {plural(len(gathered.trials), 'trial')} · {told}",
        sections=[marked(section) for section in sections] if gathered.on_test else sections,
        banners=[f"Attention: {ON_TEST}."] if gathered.on_test else [],
        foot=DEFINITIONS,
        mlflow={words: server + page for words, page in pages.items() if page},
        mlflow_served=server == uri,
    )


def marked(section: Section | Missing) -> Section | Missing:
    """Return a section that says `selected on test` on every figure and table."""
    if isinstance(section, Missing):
        return section
    words = ON_TEST.partition(":")[0]
    blocks: list[Block] = []
    for block in section.blocks:
        if isinstance(block, Figure):
            block = Figure(block.id, theme.mark(block.figure, words), f"{block.caption} ({words})")
        elif isinstance(block, Table):
            caption = f"{block.caption} ({words})" if block.caption else words
            block = Table(block.head, block.rows, caption, block.marked, block.folded)
        blocks.append(block)
    return Section(section.id, section.title, blocks)
