"""Closing the runs that a dead process left RUNNING."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from tracking.delivery import deliver, waiting
from tracking.journal_file import experiment_of
from tracking.jsonl import JsonlRecorder
from tracking.mlflow_errors import in_words
from tracking.mlflow_reader import RUN_KEY_TAG, find_runs
from tracking.mlflow_recorder import MlflowRecorder
from tracking.recorder import Recorder, Status
from tracking.state import RunState

REASON = "the process ended without a word"


def reconcile(recorder: JsonlRecorder, *, own: str = "") -> list[str]:
    """Close every run that the journal has as RUNNING, except `own`, which this process started; return their keys.

    The journal belongs to one process, so when this one opens it, whoever started those runs is dead. They become
    KILLED, with REASON as their tag `reason`.
    """
    left = [key for key, run in recorder.runs.items() if run.status == Status.RUNNING and key != own]
    for key in left:
        _close(recorder, key, Status.KILLED)
    return left


def reconcile_store(path: Path, tracking_uri: str) -> list[str]:
    """Close the runs of the sweep with the journal `path` that are RUNNING in the journal or in the MLflow store.

    What the journal holds is delivered first. A run that it has as ended, but the store (a restored copy, say) as
    RUNNING, ends there as it ended. Returns the keys of the closed runs.

    Raises:
        InUseError: the sweep is being run.
        TrackingError: the journal or the store cannot be used.
    """
    with closing(JsonlRecorder(path)) as journal:
        waiting(path, tracking_uri)  # refuses what cannot be delivered before anything is closed
        closed = reconcile(journal)
    deliver(path, tracking_uri)
    store = MlflowRecorder(tracking_uri, experiment_of(path))
    for key in _running(store, path.parent.name, journal.runs):
        _close(store, key, Status(journal.runs[key].status))
        closed.append(key)
    store.close()
    return closed


def _running(store: MlflowRecorder, sweep: str, runs: Mapping[str, RunState]) -> list[str]:
    with in_words(store.tracking_uri):
        stored = find_runs(store.client, sweep)
    keys = [run.data.tags[RUN_KEY_TAG] for run in stored if run.info.status == Status.RUNNING]
    return [key for key in keys if key in runs]  # another results folder may have a sweep of this name


def _close(recorder: Recorder, key: str, status: Status) -> None:
    if status == Status.KILLED:
        recorder.set_tags(key, {"reason": REASON})
    recorder.finish(key, status)
