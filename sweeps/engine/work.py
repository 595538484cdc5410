"""What the work of a study may use: its log, what it writes down, jobs to yield, and what its user asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweeps.engine.bookkeeper import Bookkeeper
from sweeps.engine.budget import Budget
from sweeps.ledger.folders import Folders
from sweeps.ledger.jobs import Job, Kind, job_id
from sweeps.ledger.ledger import SweepLog
from sweeps.ledger.requests import Requests
from sweeps.spec.specs import SweepSpec, data_origins, located


class Study(ABC):
    """What the work of a study may use: the log so far, what it writes down, and jobs to yield."""

    log: SweepLog
    requests: Requests | None = None  # where its user leaves requests
    _take_up: Callable[[], list[Job]] | None = None

    def listen(self, take_up: Callable[[], list[Job]] | None) -> None:
        """Have what is asked for meanwhile taken up by `take_up`, which returns new jobs of the present round."""
        self._take_up = take_up

    def incoming(self) -> list[Job]:
        """Take up what was asked for; return new jobs of the present round."""
        return self._take_up() if self._take_up is not None else []

    @property
    def budget_left(self) -> bool:
        """Whether no job of the search was held back or stopped for the budget so far."""
        return True

    @abstractmethod
    def append(self, type: str, **fields: Any) -> None:
        """Write a record to the ledger."""

    @abstractmethod
    def tag(self, tags: Mapping[str, str]) -> None:
        """Tag the parent run."""

    @abstractmethod
    def end(self, job_id: str, reason: str) -> None:
        """End a job that does not run: it is STOPPED, and no call goes on with it."""

    @abstractmethod
    def note(self, words: str) -> None:
        """Tell the user something beside the progress."""

    @abstractmethod
    def keep_best(self) -> None:
        """Keep the states of the best trials as models, once the choice is final."""

    def job(
        self,
        kind: Kind,
        title: str,
        config: Mapping[str, Any],
        predictions: Sequence[Mapping[str, Any]] = (),
        *,
        trial: int | None = None,
        repeat: int | None = None,
        variant: str | None = None,
        until: int | None = None,
    ) -> Job:
        """Return a job; when it begins, it continues from its newest checkpoint if an earlier call left one.

        Args:
            kind: what it is for.
            trial, repeat, variant: which one of its kind it is, see `sweeps.ledger.jobs.Job`; they make its id.
            until: session after which it is complete; None is the last of the stream.
        """
        which: dict[str, Any] = {"trial": trial, "repeat": repeat, "variant": variant}
        settings = [dict(prediction) for prediction in predictions]
        return Job(job_id(kind, **which), kind, title, config, settings, states="", until=until, **which)


class DrivenStudy(Study):
    """A study whose jobs are trained by workers and written to its books."""

    def __init__(self, books: Bookkeeper, folders: Folders, budget: Budget) -> None:
        self.log = books.ledger.log
        self._books, self._folders, self._budget = books, folders, budget
        self.requests = Requests(folders.sweep)

    @property
    def budget_left(self) -> bool:
        return self._budget.left

    def append(self, type: str, **fields: Any) -> None:
        self._books.ledger.append(type, **fields)

    def tag(self, tags: Mapping[str, str]) -> None:
        self._books.recorder.set_tags(self.log.spec.name, tags)

    def end(self, job_id: str, reason: str) -> None:
        self._books.stopped(job_id, reason)

    def note(self, words: str) -> None:
        self._books.display.note(words)

    def keep_best(self) -> None:
        self._books.keep_best()

    def job(self, kind: Kind, *words: Any, **which: Any) -> Job:
        """Return a job as `Study.job` does, with its data and the places of its files."""
        job, spec = super().job(kind, *words, **which), self.log.spec
        stages, origins = self._folders.stages(spec), data_origins(spec)
        role = "evaluate_on" if kind in (Kind.FINAL, Kind.CONTROL) and "evaluate_on" in origins else "dataset"
        return replace(
            job,
            config=located(job.config, origins[role]),  # a trial of an earlier call may name where the data lay then
            states=str(self._folders.states / job.id),
            stages=str(stages) if stages else None,
            stage_limit=int(spec.stage_limit_gb * 10**9),
            checkpoints=spec.checkpoints,
            system_metrics=spec.system_metrics,
            objective=spec.objective if isinstance(spec, SweepSpec) else "average_accuracy",
            heartbeat=str(self._folders.heartbeats / job.id),
            stop=str(self._folders.stop),
            data=self.log.data[role]["digest"] if self.log.data else None,
            imports=spec.imports,
        )


Work = Callable[[Study], Iterator[list[Job]]]
"""The work of a study: it yields rounds of jobs, and is asked for the next when all jobs of a round have ended, well or
not. A study that is continued does its work from the beginning again, and jobs that are over are skipped."""
