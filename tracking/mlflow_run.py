"""A run in MLflow as its recorder knows it: which points and models it has, so that nothing is written twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tracking.errors import TrackingError
from tracking.mlflow_errors import in_words, uploading
from tracking.mlflow_pages import charted
from tracking.mlflow_reader import EXTERNAL_TAG, RUN_KEY_TAG, dataset_name, find_models, read_metrics
from tracking.recorder import ModelFiles, ModelOutput, Point
from tracking.state import RunState, check_files

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Metric

MODEL_TYPE = "safe-session"
# MLflow's limits of what one call may hold.
PARAMS_PER_CALL, ENTRIES_PER_CALL = 100, 1000
# Points that a model has already are passed over in a call of at most so many, and refused in a larger one.
MODEL_METRICS_PER_CALL = 100
READY = "READY"


@dataclass
class Untold:
    """What the store is to be told of a run, in as few calls as MLflow's limits allow."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.params or self.tags or self.metrics)

    def calls(self) -> Iterator[dict[str, list[Any]]]:
        """Give the arguments of the calls."""
        from mlflow.entities import Param, RunTag

        params = [Param(key, value) for key, value in self.params.items()]
        tags = [RunTag(key, value) for key, value in self.tags.items()]
        metrics = self.metrics
        at_once = MODEL_METRICS_PER_CALL if any(metric.model_id for metric in metrics) else ENTRIES_PER_CALL
        while params or tags or metrics:
            call = {"params": params[:PARAMS_PER_CALL], "tags": tags[:PARAMS_PER_CALL]}
            room = min(at_once, ENTRIES_PER_CALL - len(call["params"]) - len(call["tags"]))
            yield {**call, "metrics": metrics[:room]}
            params, tags, metrics = params[PARAMS_PER_CALL:], tags[PARAMS_PER_CALL:], metrics[room:]


@dataclass
class MlflowRun:
    """A run of the store.

    Attributes:
        state: what is recorded of it, as far as it is known.
        names: what MLflow calls metrics of the run where that is not what it calls them now.
        unread: metrics of which the points are not known yet.
        outputs: ids of the models that are linked to it.
        models: its models by name; None while the store was not asked.
        times: of known points, in milliseconds since 1970.
        untold: what `write` tells the store.
    """

    client: MlflowClient
    tracking_uri: str
    experiment_id: str
    id: str
    state: RunState
    names: Mapping[str, str] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)
    models: dict[str, LoggedModel] | None = None
    times: dict[tuple[str, int], int] = field(default_factory=dict)
    untold: Untold = field(default_factory=Untold)

    def write(self) -> None:
        """Tell the store what it was not told yet."""
        untold, self.untold = self.untold, Untold()
        for call in untold.calls():
            with in_words(self.tracking_uri):
                self.client.log_batch(self.id, **call, synchronous=True)

    def add_params(self, params: Mapping[str, str]) -> None:
        """Take over new params, to be told."""
        self.state.params |= params
        self.untold.params |= params

    def add_points(
        self, points: Sequence[Point], now: int, about: Callable[[Point], Mapping[str, str]] = lambda _: {}
    ) -> None:
        """Take over points, to be told, each with its first time and the fields that `about` gives.

        New ones have the time `now`, in milliseconds since 1970.
        """
        from mlflow.entities import Metric

        for point in points:
            time = self.times.setdefault((point.key, point.step), now)
            self.untold.metrics.append(Metric(self.name(point.key), point.value, time, point.step, **about(point)))
        self.state.add_points(points)

    def new_points(self, points: Sequence[Point]) -> list[Point]:
        """Return those of the points that the store does not have, of which it is asked where that is not known.

        Raises:
            ValueError, ConflictError: as `RunState.new_points`.
        """
        unread = self.unread & {point.key for point in points}
        if unread:
            with in_words(self.tracking_uri):
                timed = read_metrics(self.client, self.id, map(self.name, sorted(unread)))
            self.state.add_points(point for point, _ in timed)
            self.times |= {(point.key, point.step): time for point, time in timed}
            self.unread -= unread
        return self.state.new_points(points)

    def name(self, metric: str) -> str:
        """Return what MLflow calls a metric of the run."""
        return self.names.get(metric) or charted(metric)

    def open_model(self, model: ModelOutput) -> LoggedModel:
        """Return the model, made when the run has none of its name."""
        known = self.known_models()
        if model.name not in known:
            external = {} if model.files else {EXTERNAL_TAG: "true"}
            with in_words(self.tracking_uri):
                known[model.name] = self.client.create_logged_model(
                    self.experiment_id,
                    model.name,
                    self.id,
                    tags={RUN_KEY_TAG: self.state.key, **model.tags, **external},
                    params=self.state.params,
                    model_type=MODEL_TYPE,
                )
        return known[model.name]

    def known_models(self) -> dict[str, LoggedModel]:
        """Return the models of the run by name, of which the store is asked once."""
        if self.models is None:
            with in_words(self.tracking_uri):
                self.models = find_models(self.client, self.experiment_id, self.id, self.state.key)
        return self.models

    def about(self, model: ModelOutput, logged: LoggedModel) -> dict[str, str]:
        """Return the fields that tell of a point which model's it is, and which data judged it."""
        about, judged = {"model_id": logged.model_id}, self.state.input_of(model.context)
        if judged:
            about |= {"dataset_name": dataset_name(judged.name, judged.context), "dataset_digest": judged.digest}
        return about

    def link(self, models: Sequence[tuple[str, int]]) -> None:
        """Have the run show models, by id and step, among its outputs; MLflow would write a link a second time."""
        from mlflow.entities import LoggedModelOutput

        new = [LoggedModelOutput(id, step=step) for id, step in models if id not in self.outputs]
        if new:
            with in_words(self.tracking_uri):
                self.client.log_outputs(self.id, new)
            self.outputs |= {output.model_id for output in new}

    def complete(self, model: ModelOutput, logged: LoggedModel) -> None:
        """Bring the files of a model, and have it READY."""
        known = self.known_models()
        try:
            check_files(model)
            if model.files:
                with uploading(self.tracking_uri), _together(model.files) as folder:
                    self.client.log_model_artifacts(logged.model_id, str(folder))
        except (NotADirectoryError, TrackingError):
            with suppress(TrackingError), in_words(self.tracking_uri):
                known[model.name] = self.client.finalize_logged_model(logged.model_id, "FAILED")
            raise
        with in_words(self.tracking_uri):
            known[model.name] = self.client.finalize_logged_model(logged.model_id, READY)


@contextmanager
def _together(files: Sequence[ModelFiles]) -> Iterator[Path]:
    """Give a folder of links in which the parts of a model lie as in the model: a call to MLflow is asked for each."""
    with TemporaryDirectory() as scratch:
        for part in files:
            place, path = Path(scratch) / part.folder, part.path.absolute()
            if path.is_dir():
                shutil.copytree(path, place, copy_function=_link, dirs_exist_ok=True)
            else:
                place.mkdir(parents=True, exist_ok=True)
                _link(path, place / path.name)
        yield Path(scratch)


def _link(file: str | Path, place: str | Path) -> None:
    Path(place).unlink(missing_ok=True)  # a folder among the parts may hold another part too
    Path(place).symlink_to(file)
