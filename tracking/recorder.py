"""What every recorder promises: the protocol, its words and the point it stores.

A recorder writes down what a sweep does. Runs are named by a `run_key` that the sweep chooses and that never
changes ("demo", "demo/trial-00"), so that a resumed sweep finds its runs again; points are named by key and step,
so that work done twice is written once. `tests/tracking/test_recorder_contract.py` holds every implementation to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

R = TypeVar("R")


class Status(StrEnum):
    """What became of a run, so far or for good."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    STOPPED = "STOPPED"  # ended early by the scheduler: a result, not a failure
    FAILED = "FAILED"
    KILLED = "KILLED"


FINAL_STATUSES = (Status.FINISHED, Status.STOPPED, Status.FAILED, Status.KILLED)

# Metrics that differ each time the same work is done, or by what was done first; of two values at one step the first
# is kept.
VOLATILE_PREFIXES = ("time/", "system/", "memory/", "work.", "best/")


@dataclass(frozen=True)
class Point:
    """One value of one metric; `step` counts what the metric counts (sessions or epochs, from 1)."""

    key: str
    value: float
    step: int


@dataclass(frozen=True)
class DatasetInput:
    """Images that a run used.

    Attributes:
        digest: of exactly these images, at most MAX_DIGEST characters.
        context: what they were used for: "train", "holdout" or "test".
    """

    name: str
    digest: str
    context: str


@dataclass(frozen=True)
class ModelFiles:
    """A part of a model: a file, or everything below a folder, and the folder of the model that it lies in."""

    path: Path
    folder: str = ""


@dataclass(frozen=True)
class ModelOutput:
    """A model that a run gave.

    Attributes:
        name: one of the run's own, without any of `/ : . % " '`.
        step: after which it was taken, counted as that of its metrics.
        judged: what the names of the metrics that judge it begin with: "val/", "test/".
        context: of the run's data set that judged it, so that models can be ranked by data set.
        tags: what it is found by.
        files: where its parts lie; a model without any is one of which only the metrics are kept.
    """

    name: str
    step: int
    judged: str
    context: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    files: tuple[ModelFiles, ...] = ()

    def owns(self, point: Point) -> bool:
        """Return whether a point of the run is one of the model too."""
        return point.step == self.step and point.key.startswith(self.judged)


class Recorder(Protocol):
    """Writes down runs, their settings, metrics and files. One recorder belongs to one thread.

    Logging to a `run_key` that was never started, by this recorder or an earlier one, is a bug and raises KeyError.
    """

    def gathered(self) -> AbstractContextManager[None]:
        """Within it params, tags and points of a run may be gathered, and written together at the end.

        What a store says against them is then raised there.
        """
        return nullcontext()

    def call(self, function: Callable[..., R], *arguments: object) -> R:
        """Return what a function of a module gives, called where the store is reached from; raises what it raises."""
        return function(*arguments)

    def start(
        self,
        run_key: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        *,
        name: str | None = None,
        parent: str | None = None,
    ) -> None:
        """Create the run, or reopen the one already known by this key, and set it RUNNING.

        Params are kept as text and are write-once: a repeated value is fine, new keys are added. Tags overwrite.
        `name` is what people see (default on creation: the run key). `parent` is the run key of a run that was
        started before; nesting is decided when the run is created.

        Raises:
            ConflictError: a param differs from what is recorded.
            TrackingError: a param or tag is too long.
            KeyError: `parent` was not started.
        """
        ...

    def log_params(self, run_key: str, params: Mapping[str, object]) -> None:
        """Add what is settled later to the run's params; of one that is recorded already the first value stays.

        Raises TrackingError when a new one is too long.
        """
        ...

    def log_metrics(self, run_key: str, metrics: Mapping[str, float], step: int) -> None:
        """Record metrics that share one step; the rules are those of `log_points`."""
        self.log_points(run_key, [Point(key, value, step) for key, value in metrics.items()])

    def log_points(self, run_key: str, points: Iterable[Point]) -> None:
        """Record points in one call to the store; a point already there is not written again.

        Empty input does nothing.

        Raises:
            ValueError: a value is NaN or infinite (what is undefined must be absent).
            ConflictError: another value is recorded at that key and step (volatile metrics: the first is kept).
        """
        ...

    def log_input(self, run_key: str, name: str, digest: str, context: str) -> None:
        """Record that the run used a data set, as in `DatasetInput`; a longer digest is cut. Repeating does nothing.

        Raises ConflictError when the run used other images by that name in that context.
        """
        ...

    def set_tags(self, run_key: str, tags: Mapping[str, str]) -> None:
        """Set tags, overwriting those of the same key. Raises TrackingError when a value is too long."""
        ...

    def set_description(self, run_key: str, markdown: str) -> None:
        """Replace the description of the run; a text over the store's limit ends in a line that says so."""
        ...

    def set_view(self, run_key: str, view: Mapping[str, object]) -> None:
        """Prepare the table of runs that the store's pages show under the run's key (see `mlflow_pages.table_view`).

        A view of before is replaced. Raises TrackingError when it is too long.
        """
        ...

    def log_directory(
        self, run_key: str, directory: Path, artifact_path: str | None = None, *, without: Sequence[str] = ()
    ) -> None:
        """Copy the files below `directory` into the run's artefacts, under `artifact_path`, overwriting.

        `without` names folders right below it that are left out.

        Raises NotADirectoryError when `directory` is no directory.
        """
        ...

    def log_models(self, run_key: str, models: Sequence[ModelOutput], points: Iterable[Point]) -> None:
        """Record points as `log_points` does, and models that the run gave, to which those belong that they own.

        Points that the run has already become the models' too. A model whose name is there already is left as it is,
        but for points that are new. Models have the run's params. Without any, it is `log_points`.

        Raises:
            ValueError: a name is none of a model, besides what `log_points` raises.
            NotADirectoryError: a file of one is not there.
        """
        ...

    def link_model(self, run_key: str, of: str, name: str, step: int) -> None:
        """Have a run show a model that the run `of` gave after `step` among its outputs too; repeating does nothing.

        Raises KeyError when that run has no such model.
        """
        ...

    def finish(self, run_key: str, status: Status) -> None:
        """End the run with one of FINAL_STATUSES; repeating it does nothing, another status replaces the first.

        Raises ValueError for any other status.
        """
        ...

    def close(self) -> None:
        """Bring everything to disk; the recorder is not used afterwards. Runs keep their status."""
        ...
