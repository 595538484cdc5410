"""A run in MLflow as its recorder knows it: which points and models it has, so that nothing is written twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from tracking.errors import TrackingError
from tracking.mlflow_errors import in_words, uploading
from tracking.mlflow_pages import charted
from tracking.mlflow_reader import EXTERNAL_TAG, RUN_KEY_TAG, dataset_name, find_models, read_metrics
from tracking.recorder import ModelOutput, Point
from tracking.state import RunState, check_files

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

MODEL_TYPE = "safe-session"
READY = "READY"
METRICS_PER_CALL = 1000

T = TypeVar("T")


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

    def new_points(self, points: Sequence[Point]) -> list[Point]:
        """Return those of the points that the store does not have, of which it is asked where that is not known.

        Raises:
            ValueError, ConflictError: as `RunState.new_points`.
        """
        unread = self.unread & {point.key for point in points}
        if unread:
            with in_words(self.tracking_uri):
                timed = read_metrics(self.client, self.id, map(self._name, sorted(unread)))
            self.state.add_points(point for point, _ in timed)
            self.times |= {(point.key, point.step): time for point, time in timed}
            self.unread -= unread
        return self.state.new_points(points)

    def log_points(
        self,
        points: Sequence[Point],
        now: int,
        model: ModelOutput | None = None,
        about: Mapping[str, str] | None = None,
    ) -> None:
        """Write points, each with the time of the first time.

        Args:
            now: milliseconds since 1970.
            model: the points that it owns are told to be its own, by the fields `about`.
        """
        from mlflow.entities import Metric

        for chunk in chunks(points, METRICS_PER_CALL):
            times = {(point.key, point.step): self.times.get((point.key, point.step), now) for point in chunk}
            owned = [about or {} if model is not None and model.owns(point) else {} for point in chunk]
            metrics = [
                Metric(self._name(point.key), point.value, times[point.key, point.step], point.step, **fields)
                for point, fields in zip(chunk, owned, strict=True)
            ]
            with in_words(self.tracking_uri):
                self.client.log_batch(self.id, metrics=metrics, synchronous=True)
            self.state.add_points(chunk)
            self.times |= times

    def log_model(self, model: ModelOutput, points: Sequence[Point], now: int) -> None:
        """See `Recorder.log_model`.

        READY is the last that a model becomes, so one that is left otherwise, FAILED when its files did not get
        through, is completed by doing the same again.
        """
        new = self.new_points(points)
        logged = self._open(model)
        ready = str(logged.status) == READY
        if ready and not new:
            return
        about, judged = {"model_id": logged.model_id}, self.state.input_of(model.context)
        if judged:
            about |= {"dataset_name": dataset_name(judged.name, judged.context), "dataset_digest": judged.digest}
        # The store takes a point of the same time for the one that the run has; the model gets it all the same.
        self.log_points([point for point in points if model.owns(point) or point in new], now, model, about)
        if not ready:
            self._complete(model, logged)

    def _name(self, metric: str) -> str:
        return self.names.get(metric) or charted(metric)

    def _open(self, model: ModelOutput) -> LoggedModel:
        """Return the model, made when the run has none of its name."""
        with in_words(self.tracking_uri):
            if self.models is None:
                self.models = find_models(self.client, self.experiment_id, self.id, self.state.key)
            if model.name not in self.models:
                external = {} if model.files else {EXTERNAL_TAG: "true"}
                self.models[model.name] = self.client.create_logged_model(
                    self.experiment_id,
                    model.name,
                    self.id,
                    tags={RUN_KEY_TAG: self.state.key, **model.tags, **external},
                    params=self.state.params,
                    model_type=MODEL_TYPE,
                )
        return self.models[model.name]

    def _complete(self, model: ModelOutput, logged: LoggedModel) -> None:
        """Link a model to the run, bring its files, and have it READY."""
        from mlflow.entities import LoggedModelOutput

        assert self.models is not None, "asked before"
        if logged.model_id not in self.outputs:  # MLflow would write the link a second time
            with in_words(self.tracking_uri):
                self.client.log_outputs(self.id, [LoggedModelOutput(logged.model_id, step=model.step)])
            self.outputs.add(logged.model_id)
        try:
            check_files(model)
            with uploading(self.tracking_uri):
                for part in model.files:
                    upload = self.client.log_model_artifacts if part.path.is_dir() else self.client.log_model_artifact
                    upload(logged.model_id, str(part.path), part.folder or None)
        except (NotADirectoryError, TrackingError):
            with suppress(TrackingError), in_words(self.tracking_uri):
                self.models[model.name] = self.client.finalize_logged_model(logged.model_id, "FAILED")
            raise
        with in_words(self.tracking_uri):
            self.models[model.name] = self.client.finalize_logged_model(logged.model_id, READY)


def chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """Return the items in lists of at most `size`."""
    return (list(items[start : start + size]) for start in range(0, len(items), size))
