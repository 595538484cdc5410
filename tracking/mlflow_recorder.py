"""The recorder that writes to MLflow: a sweep's runs in one experiment, found again by tag.

Only `MlflowClient` with explicit run ids is used: no active run, no global tracking URI. Of one run key there is one
writing process at a time; any number may read meanwhile.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tracking.errors import TrackingError
from tracking.mlflow_backend import artifact_folder, checkpoint, connect, sqlite_path, sqlite_uri
from tracking.mlflow_errors import in_words, shown, uploading
from tracking.mlflow_pages import VIEW_TAG, uncharted
from tracking.mlflow_reader import (
    CONTEXT_TAG,
    NOTE_TAG,
    PARENT_TAG,
    RUN_KEY_TAG,
    STOPPED_TAG,
    dataset_name,
    find_run,
    read_state,
)
from tracking.mlflow_run import MlflowRun, chunks
from tracking.recorder import DatasetInput, ModelOutput, Point, Status, points_of
from tracking.state import (
    RunState,
    check_directory,
    check_key,
    check_model,
    check_status,
    check_tags,
    check_view,
    cut_description,
)

# Tells the UI that the experiment holds training runs, so that it need not guess.
UI_TAGS = {"mlflow.experimentKind": "custom_model_development"}
PARAMS_PER_CALL = 100


class MlflowRecorder:
    """`Recorder` over an MLflow experiment, which is created when absent.

    STOPPED, which MLflow does not know, is written as FINISHED with the tag `stopped_early`. A run deleted in MLflow
    is not found again: its key starts a new one.

    Args:
        tracking_uri: `sqlite:///...` (see `sqlite_uri`) or the address of a server.
        experiment: name of the experiment.
        artifact_root: folder for the artefacts of a new experiment; None leaves the choice to a server, and is the
            folder `mlartifacts` beside an SQLite file.
        clock: seconds since 1970 at which what is being recorded happened.

    Raises:
        TrackingError: the store cannot be used (see `mlflow_backend.connect`), or the experiment is deleted.
    """

    def __init__(
        self,
        tracking_uri: str,
        experiment: str,
        artifact_root: Path | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.client = connect(tracking_uri)
        self._database = sqlite_path(tracking_uri)
        if self._database is not None:
            tracking_uri = sqlite_uri(self._database)
            artifact_root = artifact_root or artifact_folder(self._database)
        self.tracking_uri = tracking_uri
        self.experiment_name = experiment
        self.experiment_id = self._open_experiment(experiment, artifact_root)
        self._clock = clock
        self._runs: dict[str, MlflowRun] = {}

    def run_id(self, run_key: str) -> str:
        """Return MLflow's id of a run; KeyError if there is none."""
        return self._known(run_key).id

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
        nesting = {} if parent is None else {PARENT_TAG: self._known(parent).id}
        known = self._find(check_key(run_key))
        state = known.state if known else RunState(run_key, name=name or run_key)
        new_params, new_tags = state.new_params(params), check_tags(tags)  # before anything is written
        with in_words(self.tracking_uri):
            if known is None:
                own_tags = {RUN_KEY_TAG: run_key, **nesting}
                run = self.client.create_run(
                    self.experiment_id, start_time=self._now(), tags=own_tags, run_name=state.name
                )
                known = self._runs[run_key] = self._run(run.info.run_id, state, models={})
            else:
                self.client.update_run(known.id, status=Status.RUNNING, name=name)
                self._drop_stopped_tag(known)
                new_tags |= nesting  # the parent may have been deleted and made anew
            state.status = Status.RUNNING
        self._add_params(known, new_params)
        self.set_tags(run_key, new_tags)

    def log_params(self, run_key: str, params: Mapping[str, object]) -> None:
        """See `Recorder.log_params`."""
        known = self._known(run_key)
        self._add_params(known, known.state.added_params(params))

    def log_metrics(self, run_key: str, metrics: Mapping[str, float], step: int) -> None:
        """See `Recorder.log_metrics`."""
        self.log_points(run_key, points_of(metrics, step))

    def log_points(self, run_key: str, points: Iterable[Point]) -> None:
        """See `Recorder.log_points`; many points take several calls."""
        known = self._known(run_key)
        known.log_points(known.new_points(list(points)), self._now())

    def log_input(
        self, run_key: str, name: str, digest: str, context: str, *, source: str = "", rows: int | None = None
    ) -> None:
        """See `Recorder.log_input`; of equal name, context and digest, MLflow keeps the first source and row count."""
        from mlflow import entities

        known = self._known(run_key)
        new = known.state.new_input(DatasetInput(name, digest, context, source, rows))
        if new is None:
            return
        profile = None if new.rows is None else json.dumps({"num_rows": new.rows})
        dataset = entities.Dataset(
            dataset_name(new.name, new.context),
            new.digest,
            source_type="local",
            source=json.dumps({"uri": new.source}),
            profile=profile,
        )
        tags = [entities.InputTag(CONTEXT_TAG, new.context)]
        with in_words(self.tracking_uri):
            self.client.log_inputs(known.id, [entities.DatasetInput(dataset, tags)])
        known.state.inputs.append(new)

    def set_tags(self, run_key: str, tags: Mapping[str, str]) -> None:
        """See `Recorder.set_tags`."""
        from mlflow.entities import RunTag

        run_id = self._known(run_key).id
        labels = [RunTag(key, value) for key, value in check_tags(tags).items()]
        with in_words(self.tracking_uri):
            for chunk in chunks(labels, PARAMS_PER_CALL):
                self.client.log_batch(run_id, tags=chunk, synchronous=True)

    def set_description(self, run_key: str, markdown: str) -> None:
        """See `Recorder.set_description`."""
        self.set_tags(run_key, {NOTE_TAG: cut_description(markdown)})

    def set_view(self, run_key: str, view: Mapping[str, object]) -> None:
        """See `Recorder.set_view`; the experiment keeps it."""
        key, text = self._known(run_key).state.key, check_view(view)
        with in_words(self.tracking_uri):
            self.client.set_experiment_tag(self.experiment_id, f"{VIEW_TAG}{key}", text)

    def log_directory(
        self, run_key: str, directory: Path, artifact_path: str | None = None, *, without: Sequence[str] = ()
    ) -> None:
        """See `Recorder.log_directory`."""
        run_id = self._known(run_key).id
        check_directory(directory)
        folder = check_key(artifact_path) if artifact_path else ""
        with uploading(self.tracking_uri):
            if not any((directory / name).exists() for name in without):
                self.client.log_artifacts(run_id, str(directory), folder or None)
                return
            for entry in sorted(directory.iterdir()):
                if entry.name in without:
                    continue
                if entry.is_dir():
                    self.client.log_artifacts(run_id, str(entry), (Path(folder) / entry.name).as_posix())
                else:
                    self.client.log_artifact(run_id, str(entry), folder or None)

    def log_models(self, run_key: str, models: Sequence[ModelOutput], points: Iterable[Point]) -> None:
        """See `Recorder.log_models`; what is wanted of all models together takes one call.

        A model is READY once everything of it is there, so one that is left otherwise, FAILED when its files did not
        get through, is completed by doing the same again.
        """
        for model in models:
            check_model(model)
        self._known(run_key).log_models(models, list(points), self._now())

    def link_model(self, run_key: str, of: str, name: str, step: int) -> None:
        """See `Recorder.link_model`."""
        known, model = self._known(run_key), self._known(of).known_models()[name]
        known.link([(model.model_id, step)])

    def finish(self, run_key: str, status: Status) -> None:
        """See `Recorder.finish`."""
        check_status(status)
        known = self._known(run_key)
        if known.state.status == status:
            return
        self._drop_stopped_tag(known)
        if status == Status.STOPPED:
            # Before the status: FINISHED alone would mean completed.
            self.set_tags(run_key, {STOPPED_TAG: "true"})
        with in_words(self.tracking_uri):
            ended = Status.FINISHED if status == Status.STOPPED else status
            self.client.set_terminated(known.id, status=ended, end_time=self._now())
        del self._runs[run_key]  # of thousands of runs that would be much; the store tells who goes on with one

    def close(self) -> None:
        """See `Recorder.close`: an SQLite file is then whole by itself, without its write-ahead log."""
        if self._database is not None:
            with suppress(sqlite3.OperationalError):  # a reader holds on to the log: it stays, and nothing is lost
                checkpoint(self._database)

    def _open_experiment(self, name: str, artifact_root: Path | None) -> str:
        from mlflow.exceptions import MlflowException

        with in_words(self.tracking_uri):
            experiment = self.client.get_experiment_by_name(name)
            if experiment is None:
                location = artifact_root.absolute().as_uri() if artifact_root else None
                try:
                    return str(self.client.create_experiment(name, artifact_location=location, tags=UI_TAGS))
                except MlflowException as error:
                    experiment = self.client.get_experiment_by_name(name)  # another process was faster
                    if experiment is None:
                        raise error
        if experiment.lifecycle_stage != "active":
            raise TrackingError(
                f"the experiment {name!r} was deleted from MLflow; restore it with: MLFLOW_TRACKING_URI="
                f"'{shown(self.tracking_uri)}' mlflow experiments restore -x {experiment.experiment_id}, "
                "or choose another name"
            )
        return str(experiment.experiment_id)

    def _known(self, run_key: str) -> MlflowRun:
        known = self._find(run_key)
        if known is None:
            raise KeyError(run_key)
        return known

    def _find(self, run_key: str) -> MlflowRun | None:
        if run_key not in self._runs:
            with in_words(self.tracking_uri):
                run = find_run(self.client, self.experiment_id, run_key)
            if run is None:
                return None
            outputs = {output.model_id for output in run.outputs.model_outputs} if run.outputs else set()
            names = {uncharted(name): name for name in run.data.metrics}
            self._runs[run_key] = self._run(
                run.info.run_id, read_state(run), names=names, unread=set(names), outputs=outputs
            )
        return self._runs[run_key]

    def _run(self, run_id: str, state: RunState, **known: Any) -> MlflowRun:
        return MlflowRun(self.client, self.tracking_uri, self.experiment_id, run_id, state, **known)

    def _add_params(self, known: MlflowRun, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        with in_words(self.tracking_uri):
            for chunk in chunks([Param(key, value) for key, value in params.items()], PARAMS_PER_CALL):
                self.client.log_batch(known.id, params=chunk, synchronous=True)
        known.state.params |= params

    def _drop_stopped_tag(self, known: MlflowRun) -> None:
        if known.state.status == Status.STOPPED:
            with in_words(self.tracking_uri):
                self.client.delete_tag(known.id, STOPPED_TAG)

    def _now(self) -> int:
        return int(self._clock() * 1000)
