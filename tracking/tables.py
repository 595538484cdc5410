"""A sweep as tidy pandas frames, for notebooks: from its journal, without a server, or from any MLflow store.

from tracking import load_sweep

sweep = load_sweep("digits-tpe")
sweep.runs.sort_values("fast.cross_weight")
sweep.metrics.query("key == 'val/accuracy'").pivot(index="step", columns="run", values="value")
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracking.errors import TrackingError
from tracking.jsonl import read_journal
from tracking.layout import journal_path, journals
from tracking.state import RunState

if TYPE_CHECKING:
    import pandas as pd

EPOCHS_PREFIX = "train/"  # loss terms, which are counted in epochs, unlike everything else, counted in sessions

_RUN_COLUMNS = ("run", "kind", "name", "status", "reason")
_WORDS: dict[str, bool | None] = {"True": True, "False": False, "None": None}


@dataclass(frozen=True)
class SweepTables:
    """A sweep in three frames; `run` is the run's key without the sweep's name, and empty for the sweep itself.

    Attributes:
        runs: a row per run: run, kind, name, status, reason, and its params in columns of their dotted names.
        metrics: a row per point: run, key, step, value.
        sessions: a row per session of every trial and other training run: run, session, and a column per metric;
            losses are left out, as they are counted in epochs. What is undefined is NaN, as pandas has it.
    """

    runs: pd.DataFrame
    metrics: pd.DataFrame
    sessions: pd.DataFrame


def load_sweep(name: str, results: Path | str = "results", tracking_uri: str | None = None) -> SweepTables:
    """Return the sweep called `name`, finished or not.

    Args:
        name: of the sweep.
        results: results folder that holds its journal.
        tracking_uri: MLflow store to read instead of the journal.

    Raises:
        TrackingError: there is no such sweep, or the journal or the store cannot be used.
    """
    if tracking_uri is not None:
        return tables(name, _from_mlflow(name, tracking_uri))
    path = journal_path(Path(results), name)
    if not path.exists():
        known = ", ".join(journals(Path(results))) or "none yet"
        raise TrackingError(
            f"no sweep called {name!r} has a journal in {results}; known: {known}. "
            "One that only MLflow has is read with tracking_uri="
        )
    return tables(name, read_journal(path))


def tables(name: str, runs: Mapping[str, RunState]) -> SweepTables:
    """Return the runs of the sweep `name`, by run key, as frames."""
    import pandas as pd

    states = {key[len(name) + 1 :]: run for key, run in runs.items() if f"{key}/".startswith(f"{name}/")}
    own = [
        {
            "run": key,
            "kind": run.tags.get("kind"),
            "name": run.name,
            "status": str(run.status),
            "reason": run.tags.get("reason") or None,
        }
        | {param: _value(text) for param, text in run.params.items()}
        for key, run in states.items()
    ]
    points = [
        {"run": key, "key": metric, "step": step, "value": value}
        for key, run in states.items()
        for metric, values in sorted(run.metrics.items())
        for step, value in sorted(values.items())
    ]
    metrics = pd.DataFrame(points, columns=["run", "key", "step", "value"])
    by_session = metrics[(metrics["run"] != "") & ~metrics["key"].str.startswith(EPOCHS_PREFIX)]
    sessions = by_session.pivot(index=["run", "step"], columns="key", values="value").reset_index()
    sessions = sessions.rename(columns={"step": "session"}).rename_axis(columns=None)
    return SweepTables(pd.DataFrame(own, columns=_columns(own)), metrics, sessions)


def _columns(rows: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys([*_RUN_COLUMNS, *(column for row in rows for column in row)]))


def _value(text: str) -> object:
    """Return what a param was before it became text."""
    if text in _WORDS:
        return _WORDS[text]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _from_mlflow(name: str, tracking_uri: str) -> Mapping[str, RunState]:
    from tracking.mlflow_backend import connect
    from tracking.mlflow_errors import in_words, shown
    from tracking.mlflow_reader import find_runs, read_runs

    client = connect(tracking_uri)
    with in_words(tracking_uri):
        runs = read_runs(client, find_runs(client, name))
    if not runs:
        raise TrackingError(f"MLflow at {shown(tracking_uri)} has no sweep called {name!r}")
    return runs
