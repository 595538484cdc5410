"""What runs, shown live: a table on a terminal, one line per event everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from safe.errors import shown
from safe.io.progress import SILENCE_S, Ticking, duration
from safe.io.tables import Column, Table
from safe.types import Working
from sweeps.engine.bookkeeper import Display
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import ADDED, SEARCH_KINDS, UNPLANNED
from sweeps.ledger.ledger import SweepLog
from sweeps.ledger.record import SessionRecord
from sweeps.spec.titles import status_word
from tracking.recorder import Status

_COLOURS = {
    status_word(Status.RUNNING): "cyan",
    status_word(Status.FINISHED): "green",
    status_word(Status.STOPPED): "yellow",
    status_word(Status.FAILED): "red",
    status_word(Status.KILLED): "yellow",
}
_NOW = "now"  # a column that is there while somebody works
_COLUMNS = (
    Column("run"),
    Column("state", rank=1),
    Column("session", right=True, rank=3),
    Column(_NOW, rank=2),
    Column("accuracy", right=True),
    Column("forgetting", right=True, rank=4),
    Column("after each session", rank=5),
)
_BAR_WIDTH = 40
_MOST_TOLD = 3  # runs in a line


@dataclass
class _Row:
    """What is shown of a run: cells as text, and its share in the overall progress."""

    title: str
    status: str
    session: str
    accuracies: str
    accuracy: str
    forgetting: str
    sessions: int
    over: bool
    planned: bool
    running: bool


Detail = Literal["quiet", "usual", "verbose"]


class LiveDisplay(Display):
    """One line a run, overall progress, what the search has trained, and time left; use it as a context manager.

    Args:
        log: of the study, which tells how many runs there will be and what the budget is.
        stream: where to write, by default standard output.
        detail: `quiet` shows notes alone; `verbose` a line per event, on a terminal too, with what a session cost and
            its last loss terms.
    """

    def __init__(
        self,
        log: SweepLog,
        stream: TextIO | None = None,
        detail: Detail = "usual",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = Console(file=stream or sys.stdout, markup=False, emoji=False)
        self.log = log
        self.detail = detail
        self._rows: dict[str, _Row] = {}
        self._lines: dict[str, str] = {}
        self._clock, self._begin, self._said = clock, clock(), clock()
        self._working: dict[str, Working] = {}  # how far running jobs are
        self._between = "starting"  # what is done while nothing runs
        self._known = 0  # sessions that were done before this process, which say nothing about its speed
        self._length = 0  # sessions of the stream
        self._done = self._sessions_over = self._runs_over = 0
        self._ticking: Ticking | None = None
        self._live = Live(get_renderable=self._render, console=self.console, refresh_per_second=2, transient=True)

    def __enter__(self) -> LiveDisplay:
        if self._is_table:
            self._live.start()
        elif self.detail != "quiet":
            self._print(f"{self.log.spec.kind} {self.log.spec.name}: {self.log.spec.runs} runs")
            self._ticking = Ticking(self.tick)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ticking is not None:
            self._ticking.close()
        self._live.stop()

    def job_changed(self, job: JobLog, sessions: Sequence[Mapping[str, float]]) -> None:
        if job.id not in self._rows:
            self._known += len(job.sessions)
        before, row = self._rows.get(job.id), _row(job, sessions)
        self._count(before, -1)
        self._count(row, 1)
        if before is not None and row.running and not before.running:
            del self._rows[job.id]  # what goes on stands last, with all that runs
        self._rows[job.id] = row
        self._working.pop(job.id, None)  # of the session that is over
        if job.sessions:
            self._length = max(self._length, job.sessions[-1].sessions)
        if not self._is_table and self.detail != "quiet":
            parts = [f"{row.title:<9}", f"{row.status:<9}", row.session and f"session {row.session}"]
            parts += [
                row.accuracy and f"accuracy {row.accuracy} %",
                row.forgetting and f"forgetting {row.forgetting} %",
            ]
            line = " ".join(filter(None, parts)).rstrip()
            if self._lines.get(job.id) != line:
                self._lines[job.id] = line
                self._print(f"{line}  [{self._progress()}]")
                if self.detail == "verbose" and job.sessions:
                    self._print(f"  {_cost(job.sessions[-1])}")

    def working(self, job_id: str, working: Working) -> None:
        if job_id in self._rows and working.session == self._rows[job_id].sessions + 1:
            if not self._working and self._done == self._known:  # how long all took to start says nothing of its pace
                self._begin = self._clock()
            self._working[job_id] = working
            self._length = max(self._length, working.sessions)

    def tick(self) -> None:
        """Say how far it is if nothing was said for ten seconds."""
        if self._clock() - self._said < SILENCE_S:
            return
        told = [
            f"{self._rows[job].title} session {one.session} of {one.sessions}: {one.in_words()}"
            for job, one in list(self._working.items())
            if job in self._rows
        ]
        more = f"; and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
        self._print(f"{'; '.join(told[:_MOST_TOLD]) or self._idle()}{more}  [{self._progress()}]")

    def _idle(self) -> str:
        """Return what is done while no run tells how far it is."""
        running = [row for row in list(self._rows.values()) if row.running]
        if not running:
            return self._between
        doing = "between sessions" if any(row.sessions for row in running) else "starting"
        return f"{len(running)} {'run' if len(running) == 1 else 'runs'} {doing}"

    def ending(self) -> None:
        """All runs are over, and what they gave is written down."""
        self._between = "writing what it gave"

    def note(self, words: str) -> None:
        self._print(f"note: {shown(words)}")

    @property
    def _is_table(self) -> bool:
        return self.console.is_terminal and self.detail == "usual"

    def _count(self, row: _Row | None, by: int) -> None:
        if row is not None:
            self._done += by * row.sessions
            self._runs_over += by * (row.over and row.planned)
            self._sessions_over += by * row.sessions * row.over

    def _print(self, line: str) -> None:
        self._said = self._clock()
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        self.console.file.flush()

    def _counts(self) -> tuple[float, int]:
        """Sessions done and sessions in all; 0 in all while no session tells how long the stream is.

        A running session counts by the epochs of it that are done, once there is one: before, its pace is unknown.
        """
        left = self._length * max(self.log.spec.runs - self._runs_over, 0)
        begun = sum(one.share for one in list(self._working.values()) if one.epoch > 1)
        return self._done + begun, left + self._sessions_over

    def _progress(self) -> str:
        done, total = self._counts()
        fresh = done - self._known
        if not total or fresh <= 0:
            return f"{int(100 * done / total)} %" if done and total else "starting"
        left = (self._clock() - self._begin) / fresh * (total - done)
        return f"{int(100 * done / total)} %, {duration(left)} left"

    def _render(self) -> Group:
        rows, working = list[list[str | Text]](), dict(self._working)
        # A screen holds the newest runs; older ones are in the leaderboard at the end.
        for job, row in list(self._rows.items())[-max(5, self.console.height - 7) :]:
            status = Text(row.status, style=_COLOURS.get(row.status, ""))
            now = working[job].in_words() if job in working else ""
            rows.append([row.title, status, row.session, now, row.accuracy, row.forgetting, row.accuracies])
        columns = _COLUMNS if working else [column for column in _COLUMNS if column.heading != _NOW]
        if not working:
            rows = [[*row[:3], *row[4:]] for row in rows]
        table = Table(columns, rows).on_terminal(self.console.width)
        done, total = self._counts()
        foot = Grid.grid(padding=(0, 1))
        foot.add_row(ProgressBar(total=total or 1, completed=done, width=_BAR_WIDTH), self._progress())
        title = Text(f"{self.log.spec.kind} {self.log.spec.name}", style="bold")
        return Group(title, table, *filter(None, [search_work(self.log)]), foot)


def search_work(log: SweepLog) -> str:
    """Return what the search has trained and what is left of its budget, in words; empty before it has begun."""
    if not any(job.kind in SEARCH_KINDS for job in log.jobs.values()):
        return ""
    sessions = getattr(log.spec, "max_sessions", None)
    hours = getattr(log.spec, "max_hours", None)
    text = f"search: {log.sessions_trained}{f' of {sessions}' if sessions else ''} sessions trained"
    text += f", {log.sessions_reused} reused"
    return text + (f", {log.search_seconds / 3600:.2f} of {hours:g} hours" if hours else "")


def _cost(record: SessionRecord) -> str:
    """Return in words what a session cost, and its loss terms after the last epoch."""
    words = [f"{record.work.seconds:.1f} s ({record.work.training})"]
    words += [
        f"{name.removeprefix('train/')} {value:.4g}" for _, terms in record.losses[-1:] for name, value in terms.items()
    ]
    return ", ".join(words)


def _row(job: JobLog, sessions: Sequence[Mapping[str, float]]) -> _Row:
    session = ""
    if job.sessions:
        reused = sum(record.reused for record in job.sessions)
        session = f"{len(job.sessions)} of {job.sessions[-1].sessions}{f' ({reused} reused)' if reused else ''}"
    accuracies = [f"{100 * metrics['accuracy']:.1f}" for metrics in sessions if "accuracy" in metrics]
    lost = sessions[-1].get("forgetting") if sessions else None
    return _Row(
        title=job.title,
        status=status_word(job.status),
        session=session,
        accuracies=" ".join(accuracies),
        accuracy=accuracies[-1] if accuracies else "",
        forgetting="" if lost is None else f"{100 * lost:z.1f}",
        sessions=len(job.sessions),
        planned=job.kind not in UNPLANNED and job.variant != ADDED,
        over=job.status not in (Status.RUNNING, Status.KILLED),  # what was interrupted is still to do
        running=job.status == Status.RUNNING,
    )
