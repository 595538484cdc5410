"""What runs, shown live: a table on a terminal, one line per event everywhere else."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeps.ledger import JobLog

_COLOURS = {"RUNNING": "cyan", "FINISHED": "green", "STOPPED": "yellow", "FAILED": "red", "KILLED": "yellow"}
_BAR_WIDTH = 40


class LiveDisplay:
    """One line a run, overall progress and time left; use it as a context manager.

    Args:
        name: of the sweep.
        runs: how many there will be.
        stream: where to write, by default standard output.
    """

    def __init__(self, name: str, runs: int, stream: TextIO | None = None) -> None:
        self.console = Console(file=stream or sys.stdout)
        self.name = name
        self.runs = runs
        self.jobs: dict[str, tuple[JobLog, float | None, float | None]] = {}
        self._lines: dict[str, str] = {}
        self._begin = time.monotonic()
        self._known = 0  # sessions that were done before this process, which say nothing about its speed
        self._live = Live(get_renderable=self._render, console=self.console, refresh_per_second=2, transient=True)

    def __enter__(self) -> LiveDisplay:
        if self.console.is_terminal:
            self._live.start()
        else:
            self._print(f"sweep {self.name}: {self.runs} runs")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def job_changed(self, job: JobLog, accuracy: float | None, forgetting: float | None) -> None:
        """See `sweeps.bookkeeper.Display`."""
        if job.id not in self.jobs:
            self._known += len(job.sessions)
        self.jobs[job.id] = (job, accuracy, forgetting)
        if not self.console.is_terminal:
            state, session, score, lost = _cells(job, accuracy, forgetting)
            parts = [f"{job.title:<9}", f"{state:<9}", session and f"session {session}"]
            parts += [score and f"accuracy {score} %", lost and f"forgetting {lost} %"]
            line = " ".join(filter(None, parts)).rstrip()
            if self._lines.get(job.id) != line:
                self._lines[job.id] = line
                self._print(f"{line}  [{self._progress()}]")

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        self.console.file.flush()

    def _counts(self) -> tuple[int, int]:
        """Sessions done and sessions in all; 0 in all while no session tells how long the stream is."""
        jobs = [job for job, *_ in self.jobs.values()]
        length = max((job.sessions[-1]["sessions"] for job in jobs if job.sessions), default=0)
        over = [job for job in jobs if job.status != "RUNNING"]
        left = length * max(self.runs - len(over), 0)
        return sum(len(job.sessions) for job in jobs), left + sum(len(job.sessions) for job in over)

    def _progress(self) -> str:
        done, total = self._counts()
        fresh = done - self._known
        if not total or fresh <= 0:
            return "starting" if done < total or not total else "done"
        left = (time.monotonic() - self._begin) / fresh * (total - done)
        return f"{100 * done // total} %, {_duration(left)} left"

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for heading in ("run", "state", "session", "accuracy", "forgetting"):
            table.add_column(heading, justify="left" if heading in ("run", "state") else "right", min_width=9)
        # A screen holds the newest runs; older ones are in the leaderboard at the end.
        for job, accuracy, forgetting in list(self.jobs.values())[-max(5, self.console.height - 6) :]:
            state, *cells = _cells(job, accuracy, forgetting)
            table.add_row(job.title, Text(state, style=_COLOURS.get(job.status, "")), *cells)
        done, total = self._counts()
        foot = Table.grid(padding=(0, 1))
        foot.add_row(ProgressBar(total=total or 1, completed=done, width=_BAR_WIDTH), self._progress())
        return Group(Text(f"sweep {self.name}", style="bold"), table, foot)


def _cells(job: JobLog, accuracy: float | None, forgetting: float | None) -> tuple[str, str, str, str]:
    session = f"{len(job.sessions)} of {job.sessions[-1]['sessions']}" if job.sessions else ""
    score = "" if accuracy is None else f"{100 * accuracy:.1f}"
    lost = "" if forgetting is None else f"{100 * forgetting:z.1f}"
    return job.status.lower(), session, score, lost


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
