"""The recorder that writes to MLflow: a sweep's runs in one experiment, found again by tag.

Only `MlflowClient` with explicit run ids is used: no active run, no global tracking URI. Of one run key there is one
writing process at a time; any number may read meanwhile.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tracking.compat import close_database
from tracking.errors import ConflictError
from tracking.mlflow_backend import artifact_folder, checkpoint, connect, open_experiment, sqlite_path, sqlite_uri
from tracking.mlflow_errors import in_words, uploading
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
from tracking.mlflow_run import READY, MlflowRun
from tracking.recorder import DatasetInput, ModelOutput, Point, Recorder, Status
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


class MlflowRecorder(Recorder):
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
        self.experiment_id = open_experiment(self.client, tracking_uri, experiment, artifact_root)
        self._clock = clock
        self._runs: dict[str, MlflowRun] = {}
        self._gathering = False

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """See `Recorder.gathered`; a run that is over, or gets models, is written before that."""
        self._gathering = True
        try:
            yield
        except ConflictError:
            self._write_gathered()  # what was told before it stands
            raise
        else:
            self._write_gathered()
        finally:
            self._gathering = False

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
        nesting = {} if parent is None else {PARENT_TAG: self._known(parent).id}
        known = self._find(check_key(run_key))
        state = known.state if known else RunState(run_key, name=name or run_key)
        new_params, new_tags = state.new_params(params), check_tags(tags)  # before anything is written
        with in_words(self.tracking_uri):
            if known is None:
                own_tags = {RUN_KEY_TAG: run_key, **nesting, **new_tags}
                run = self.client.create_run(
                    self.experiment_id, start_time=self._now(), tags=own_tags, run_name=state.name
                )
                known = self._runs[run_key] = self._run(run.info.run_id, state, models={})
            else:
                self.client.update_run(known.id, status=Status.RUNNING, name=name)
                self._drop_stopped_tag(known)
                known.untold.tags |= new_tags | nesting  # the parent may have been deleted and made anew
            state.status = Status.RUNNING
        known.add_params(new_params)
        self._tell(known)

    def log_params(self, run_key: str, params: Mapping[str, object]) -> None:
        known = self._known(run_key)
        known.add_params(known.state.added_params(params))
        self._tell(known)

    def log_points(self, run_key: str, points: Iterable[Point]) -> None:
        """See `Recorder.log_points`; many points take several calls."""
        known = self._known(run_key)
        known.add_points(known.new_points(list(points)), self._now())
        self._tell(known)

    def log_input(self, run_key: str, name: str, digest: str, context: str) -> None:
        from mlflow import entities

        known = self._known(run_key)
        new = known.state.new_input(DatasetInput(name, digest, context))
        if new is None:
            return
        called = dataset_name(new.name, new.context)
        dataset = entities.Dataset(called, new.digest, source_type="local", source='{"uri": ""}')  # MLflow wants one
        tags = [entities.InputTag(CONTEXT_TAG, new.context)]
        with in_words(self.tracking_uri):
            self.client.log_inputs(known.id, [entities.DatasetInput(dataset, tags)])
        known.state.inputs.append(new)

    def set_tags(self, run_key: str, tags: Mapping[str, str]) -> None:
        known = self._known(run_key)
        known.untold.tags |= check_tags(tags)
        self._tell(known)

    def set_description(self, run_key: str, markdown: str) -> None:
        self.set_tags(run_key, {NOTE_TAG: cut_description(markdown)})

    def set_view(self, run_key: str, view: Mapping[str, object]) -> None:
        """See `Recorder.set_view`; the experiment keeps it."""
        key, text = self._known(run_key).state.key, check_view(view)
        with in_words(self.tracking_uri):
            self.client.set_experiment_tag(self.experiment_id, f"{VIEW_TAG}{key}", text)

    def log_directory(
        self, run_key: str, directory: Path, artifact_path: str | None = None, *, without: Sequence[str] = ()
    ) -> None:
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
        known, points = self._known(run_key), list(points)
        new = set(known.new_points(points))
        logged = {model.name: known.open_model(model) for model in models}
        unready = [model for model in models if str(logged[model.name].status) != READY]
        if not unready and not new:
            return
        owner = {point: model for point in points for model in models if model.owns(point)}

        def about(point: Point) -> dict[str, str]:
            return known.about(owner[point], logged[owner[point].name]) if point in owner else {}

        # The store takes a point of the same time for the one that the run has; the model gets it all the same.
        told = [point for point in points if point in owner or point in new]
        known.add_points(told, self._now(), about)
        self._write(known)
        known.link([(logged[model.name].model_id, model.step) for model in unready])
        for model in unready:
            known.complete(model, logged[model.name])

    def link_model(self, run_key: str, of: str, name: str, step: int) -> None:
        known, model = self._known(run_key), self._known(of).known_models()[name]
        known.link([(model.model_id, step)])

    def finish(self, run_key: str, status: Status) -> None:
        check_status(status)
        known = self._known(run_key)
        if known.state.status == status:
            return
        self._drop_stopped_tag(known)
        if status == Status.STOPPED:
            # Before the status: FINISHED alone would mean completed.
            known.untold.tags[STOPPED_TAG] = "true"
        self._write(known)
        with in_words(self.tracking_uri):
            ended = Status.FINISHED if status == Status.STOPPED else status
            self.client.set_terminated(known.id, status=ended, end_time=self._now())
        del self._runs[run_key]  # of thousands of runs that would be much; the store tells who goes on with one

    def close(self) -> None:
        """See `Recorder.close`: an SQLite file is then whole by itself, without its write-ahead log."""
        if self._database is not None:
            close_database(self.tracking_uri)
            with suppress(sqlite3.OperationalError):  # a reader holds on to the log: it stays, and nothing is lost
                checkpoint(self._database)

    def _tell(self, known: MlflowRun) -> None:
        """Write what the store was not told yet of a run, now or with what else is gathered."""
        if not self._gathering:
            self._write(known)

    def _write_gathered(self) -> None:
        for known in [run for run in self._runs.values() if run.untold]:
            self._write(known)

    def _write(self, known: MlflowRun) -> None:
        try:
            known.write()
        except BaseException:
            self._runs.pop(known.state.key, None)  # what the store has of it is unknown: it is asked again
            raise

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

    def _drop_stopped_tag(self, known: MlflowRun) -> None:
        if known.state.status == Status.STOPPED:
            with in_words(self.tracking_uri):
                self.client.delete_tag(known.id, STOPPED_TAG)

    def _now(self) -> int:
        return int(self._clock() * 1000)
