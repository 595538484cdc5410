"""The recorder that writes to MLflow: a sweep's runs in one experiment, found again by tag.

Only `MlflowClient` with explicit run ids is used: no active run, no global tracking URI. Of one run key there is one
writing process at a time; any number may read meanwhile.
"""

from __future__ import annotations

import io
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tracking.errors import TrackingError
from tracking.mlflow_backend import checkpoint, connect, in_words, shown, sqlite_path, sqlite_uri
from tracking.recorder import FINISHED, RUNNING, STOPPED, Point, points_of
from tracking.state import RunState, check_directory, check_key, check_status, check_tags, cut_description

if TYPE_CHECKING:
    from mlflow.entities import Run

RUN_KEY_TAG = "safe.run_key"
STOPPED_TAG = "stopped_early"
# Tells the UI that the experiment holds training runs, so that it need not guess.
UI_TAGS = {"mlflow.experimentKind": "custom_model_development"}
METRICS_PER_CALL = 1000
PARAMS_PER_CALL = 100

_PARENT_TAG = "mlflow.parentRunId"
_NOTE_TAG = "mlflow.note.content"

T = TypeVar("T")


class MlflowRecorder:
    """`Recorder` over an MLflow experiment, which is created when absent.

    STOPPED, which MLflow does not know, is written as FINISHED with the tag `stopped_early`. A run deleted in MLflow
    is not found again: its key starts a new one.

    Args:
        tracking_uri: `sqlite:///...` (see `sqlite_uri`) or the address of a server.
        experiment: name of the experiment.
        artifact_root: folder for the artefacts of a new experiment; None leaves the choice to a server, and is the
            folder `mlartifacts` beside an SQLite file.

    Raises:
        TrackingError: the store cannot be used (see `mlflow_backend.connect`), or the experiment is deleted.
    """

    def __init__(self, tracking_uri: str, experiment: str, artifact_root: Path | None = None) -> None:
        self._client = connect(tracking_uri)
        self._database = sqlite_path(tracking_uri)
        if self._database is not None:
            tracking_uri = sqlite_uri(self._database)
            artifact_root = artifact_root or self._database.with_name("mlartifacts")
        self.tracking_uri = tracking_uri
        self.experiment_name = experiment
        self.experiment_id = self._open_experiment(experiment, artifact_root)
        self._ids: dict[str, str] = {}
        self._states: dict[str, RunState] = {}

    def run_id(self, run_key: str) -> str:
        """Return MLflow's id of a started run; KeyError if it was not started."""
        return self._ids[run_key]

    def start(
        self,
        run_key: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        *,
        name: str | None = None,
        parent: str | None = None,
    ) -> None:
        """See `Recorder.start`."""
        from mlflow.entities import Param

        own_tags = {RUN_KEY_TAG: check_key(run_key)}
        if parent is not None:
            own_tags[_PARENT_TAG] = self._ids[parent]
        with in_words(self.tracking_uri):
            run = self._find(run_key)
            state = self._load(run_key, run) if run else RunState(run_key, name=name or run_key)
            new_params, new_tags = state.new_params(params), check_tags(tags)  # before anything is written
            if run is None:
                run = self._client.create_run(self.experiment_id, tags=own_tags, run_name=state.name)
            else:
                self._client.update_run(run.info.run_id, status=RUNNING, name=name)
                self._drop_stopped_tag(run.info.run_id, state)
            state.status = RUNNING
            self._ids[run_key], self._states[run_key] = run.info.run_id, state
            texts = [Param(key, value) for key, value in new_params.items()]
            for chunk in _chunks(texts, PARAMS_PER_CALL):
                self._client.log_batch(run.info.run_id, params=chunk, synchronous=True)
            state.params |= new_params
        self.set_tags(run_key, new_tags)

    def log_metrics(self, run_key: str, metrics: Mapping[str, float], step: int) -> None:
        """See `Recorder.log_metrics`."""
        self.log_points(run_key, points_of(metrics, step))

    def log_points(self, run_key: str, points: Iterable[Point]) -> None:
        """See `Recorder.log_points`; more than METRICS_PER_CALL points take several calls."""
        from mlflow.entities import Metric

        run_id, state = self._ids[run_key], self._states[run_key]
        now = int(time.time() * 1000)
        for chunk in _chunks(state.new_points(points), METRICS_PER_CALL):
            with in_words(self.tracking_uri):
                metrics = [Metric(point.key, point.value, now, point.step) for point in chunk]
                self._client.log_batch(run_id, metrics=metrics, synchronous=True)
            state.add_points(chunk)

    def set_tags(self, run_key: str, tags: Mapping[str, str]) -> None:
        """See `Recorder.set_tags`."""
        from mlflow.entities import RunTag

        run_id = self._ids[run_key]
        labels = [RunTag(key, value) for key, value in check_tags(tags).items()]
        with in_words(self.tracking_uri):
            for chunk in _chunks(labels, PARAMS_PER_CALL):
                self._client.log_batch(run_id, tags=chunk, synchronous=True)

    def set_description(self, run_key: str, markdown: str) -> None:
        """See `Recorder.set_description`."""
        self.set_tags(run_key, {_NOTE_TAG: cut_description(markdown)})

    def log_directory(self, run_key: str, directory: Path, artifact_path: str | None = None) -> None:
        """See `Recorder.log_directory`."""
        run_id = self._ids[run_key]
        check_directory(directory)
        with in_words(self.tracking_uri):
            self._client.log_artifacts(run_id, str(directory), check_key(artifact_path) if artifact_path else None)

    def finish(self, run_key: str, status: str) -> None:
        """See `Recorder.finish`."""
        check_status(status)
        run_id, state = self._ids[run_key], self._states[run_key]
        if state.status == status:
            return
        self._drop_stopped_tag(run_id, state)
        if status == STOPPED:
            self.set_tags(run_key, {STOPPED_TAG: "true"})  # before the status: FINISHED alone would mean completed
        # For a server MLflow prints links to standard output, which belongs to the program.
        with in_words(self.tracking_uri), redirect_stdout(io.StringIO()):
            self._client.set_terminated(run_id, status=FINISHED if status == STOPPED else status)
        state.status = status

    def close(self) -> None:
        """See `Recorder.close`: an SQLite file is then whole by itself, without its write-ahead log."""
        if self._database is not None:
            with suppress(sqlite3.OperationalError):  # a reader holds on to the log: it stays, and nothing is lost
                checkpoint(self._database)

    def _open_experiment(self, name: str, artifact_root: Path | None) -> str:
        from mlflow.exceptions import MlflowException

        with in_words(self.tracking_uri):
            found = self._client.get_experiment_by_name(name)
            if found is None:
                location = artifact_root.absolute().as_uri() if artifact_root else None
                try:
                    return str(self._client.create_experiment(name, artifact_location=location, tags=UI_TAGS))
                except MlflowException as error:
                    found = self._client.get_experiment_by_name(name)  # another process was faster
                    if found is None:
                        raise error
        if found.lifecycle_stage != "active":
            raise TrackingError(
                f"the experiment {name!r} was deleted from MLflow; restore it with: MLFLOW_TRACKING_URI="
                f"'{shown(self.tracking_uri)}' mlflow experiments restore -x {found.experiment_id}, "
                "or choose another name"
            )
        return str(found.experiment_id)

    def _find(self, run_key: str) -> Run | None:
        runs = self._client.search_runs([self.experiment_id], f"tags.`{RUN_KEY_TAG}` = '{run_key}'")
        # Some databases compare text without case.
        return next((run for run in runs if run.data.tags[RUN_KEY_TAG] == run_key), None)

    def _load(self, run_key: str, run: Run) -> RunState:
        status = STOPPED if STOPPED_TAG in run.data.tags else run.info.status
        state = RunState(run_key, run.info.run_name or run_key, params=dict(run.data.params), status=status)
        for key in run.data.metrics:
            history = self._client.get_metric_history(run.info.run_id, key)
            state.add_points(Point(key, metric.value, metric.step) for metric in history)
        return state

    def _drop_stopped_tag(self, run_id: str, state: RunState) -> None:
        if state.status == STOPPED:
            with in_words(self.tracking_uri):
                self._client.delete_tag(run_id, STOPPED_TAG)


def _chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    return (list(items[start : start + size]) for start in range(0, len(items), size))
