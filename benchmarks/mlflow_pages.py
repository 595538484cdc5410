"""Suite `mlflow_pages`: how long MLflow's pages take to open on a large sweep, and what the sweep takes of its store.

The trials train nothing, but have as many metrics as real ones; each of their sessions is a model, without files. Pages
are opened in a headless Chromium from the server that `python -m sweeps ui` starts. The table of runs is open when the
best trial can be read on it, the models when the newest can, the parent run when any trial can.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.driving import Browser, browser, chromium, served
from benchmarks.scale import Quiet, begun, job
from benchmarks.stub import session_record
from safe.errors import UserError
from safe.evaluation.metrics import LEARNERS, METRICS
from sweeps.engine.bookkeeper import Bookkeeper
from sweeps.engine.parent_run import start_parent
from tracking import MlflowRecorder, Status, sqlite_uri
from tracking.mlflow_pages import run_page, table_page

TRIALS, SESSIONS = 200, 10
OPENINGS = 3
BAR_SECONDS = 5.0
OF_LEARNERS = ("images", "probabilities")
NAMES = [
    *METRICS,
    *(f"{learner}/{name}" for learner in LEARNERS for name, known in METRICS.items() if known.of in OF_LEARNERS),
]


class Counted:
    """A client of MLflow that counts what is asked of it."""

    def __init__(self, client: Any) -> None:
        self.client, self.calls = client, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        own = getattr(self.client, name)
        if not callable(own):
            return own

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            return own(*args, **kwargs)

        return call


def run(console: Console, trials: int = TRIALS, sessions: int = SESSIONS) -> list[dict[str, Any]]:
    """Record a sweep, open its pages; return a row a page, and one of the store.

    Raises:
        UserError: no Chromium with chromedriver.
    """
    if chromium() is None:
        raise UserError("the suite mlflow_pages needs Chromium and chromedriver; install them, or choose other suites")
    with TemporaryDirectory() as folder:
        store, pages, best = recorded(Path(folder), trials, sessions)
        rows = opened(Path(folder), pages, best)
    table = Table(title=f"MLflow's pages of {trials} trials of {sessions} sessions; the bar is {BAR_SECONDS:.0f} s")
    for heading in ("page", "seconds", "slowest"):
        table.add_column(heading, justify="left" if heading == "page" else "right")
    for row in rows:
        table.add_row(row["page"], f"{row['seconds']:.1f}", f"{row['slowest']:.1f}")
    console.print(table)
    console.print(
        f"MLflow's database: {store['database_MB']:.0f} MB, {store['kB_a_session']:.1f} kB a session; "
        f"{store['calls_a_session']:.2f} calls a session, {store['calls_with_a_model']:.2f} with its model",
        soft_wrap=True,
    )
    return [*rows, store]


def recorded(folder: Path, trials: int, sessions: int) -> tuple[dict[str, Any], dict[str, str], tuple[str, str]]:
    """Record a sweep; return what it took, the addresses of its pages, and names of its best trial and model.

    What a session's result takes of calls, and what its model takes besides, is counted apart.
    """
    base, ledger, journal = begun(folder, trials, 1, checkpoints="none")
    journal.close()
    recorder = MlflowRecorder(sqlite_uri(folder / "mlflow.db"), "digits")
    recorder.client = counted = Counted(recorder.client)
    start_parent(recorder, ledger.log, {})
    books = Bookkeeper(ledger, recorder, Quiet(), folder / "runs", {})
    results, models = Counter[str](), Counter[str]()
    for index in range(trials):
        made = job(index, base, folder)
        books.started(made)
        counted.calls.clear()
        for session in range(1, sessions + 1):
            accuracy = 0.5 + 0.4 * (index * 7919 % trials) / trials - 0.01 * session
            books.session(made.id, session_record(session, sessions, accuracy, len(made.predictions), NAMES))
            if session > 1:  # the first brings what the run was fed with, too
                results += counted.calls
            counted.calls.clear()
        books.ended(made.id, Status.FINISHED)
        models += counted.calls
    recorder.finish("stub", Status.FINISHED)
    recorder.close()
    size = (folder / "mlflow.db").stat().st_size
    best = next(index for index in range(trials) if index * 7919 % trials == trials - 1)
    tracking = {"experiment_id": recorder.experiment_id, "parent_run_id": recorder.run_id("stub"), "view": "stub"}
    pages = {
        "parent run": run_page(tracking),
        "table of runs": (runs := table_page(tracking)),
        "models": runs.replace("/runs?", "/models?"),
    }
    of_model = models.total() / (trials * sessions)
    of_result = results.total() / (trials * (sessions - 1))
    store = {
        "store": f"{trials} trials of {sessions} sessions, each a model",
        "database_MB": size / 1e6,
        "kB_a_session": size / 1e3 / (trials * sessions),
        "calls_a_session": of_result,
        "calls_with_a_model": of_result + of_model,
    }
    return store, pages, (f"trial-{best:03d}", f"trial-{trials - 1:03d}-session-{sessions:02d}")


def opened(folder: Path, pages: dict[str, str], best: tuple[str, str]) -> list[dict[str, Any]]:
    """Open every page several times in a browser of its own; return the median and the slowest."""
    trial, model = best
    shown = {"parent run": trial[:-2], "table of runs": trial, "models": model}
    rows = []
    with served(folder) as told, browser(folder / "profile") as window:
        address = told[0].split()[2]
        window.open(address)  # what all pages share is loaded
        for name, page in pages.items():
            seconds = [_seconds(window, address + page, shown[name]) for _ in range(OPENINGS)]
            rows.append({"page": name, "seconds": statistics.median(seconds), "slowest": max(seconds)})
            if shots := os.environ.get("BROWSER_SHOTS"):
                window.picture(Path(shots) / f"scale-{name.replace(' ', '-')}.png")
    return rows


def _seconds(window: Browser, address: str, words: str) -> float:
    window.open("about:blank")
    began = time.perf_counter()
    window.open(address)
    window.shows(words)
    return time.perf_counter() - began
