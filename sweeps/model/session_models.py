"""Which sessions become models in MLflow, and what such a model consists of.

The policy `best` keeps all sessions of the final runs and of the trials that are best when the search is over; states
of trials that fall behind are deleted meanwhile. `all` keeps every session of every run and `last` its last one. `none`
keeps models of all sessions that hold metrics alone, without files.
"""

from __future__ import annotations

import shutil
from heapq import nlargest
from pathlib import Path

from safe.types import with_split
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.ledger.record import SessionRecord
from sweeps.model.saving import STATE_FOLDER, model_code
from sweeps.results.selection import score_trial
from sweeps.spec.specs import Spec
from sweeps.worker.artifacts import CHECKPOINTS, OF_THE_BEST
from tracking.recorder import ModelFiles, ModelOutput, Status

BEST_TRIALS = 3


class SessionModels:
    """The models of one study.

    Args:
        log: of the study.
        folder: of the study; the code that its models share is kept there.
        states: folder that holds one folder of files per job.
    """

    def __init__(self, log: SweepLog, folder: Path, states: Path) -> None:
        self.log = log
        self.folder = folder
        self.states = states
        self._ranks: dict[
            str, tuple[tuple[float, ...], tuple[int, ...]]
        ] = {}  # of finished trials; of equals the first is higher
        self._droppable: set[str] = set()  # trials of this call, whose states nobody else knows of

    def at_once(self, job: JobLog, record: SessionRecord) -> ModelOutput | None:
        """Return the model that a session gives as soon as its metrics are settled; None for none.

        For a trial they are when it is over, as are its settings of prediction.
        """
        policy = self.log.spec.checkpoints
        if job.kind == Kind.AUDIT or (policy == "best" and (job.kind == Kind.TRIAL or job.kind not in OF_THE_BEST)):
            return None
        return self.of(job, record)

    def of(self, job: JobLog, record: SessionRecord) -> ModelOutput | None:
        """Return the model of a session; None where the policy keeps none, or its state is not there."""
        from safe.states.inference import session_file, state_files  # brings torch, which `show` does without

        policy, files = self.log.spec.checkpoints, tuple[ModelFiles, ...]()
        if policy == "last" and record.session != record.sessions:
            return None
        if policy != "none":
            state = session_file(self.states / job.id / CHECKPOINTS, record.session)
            if not state.is_file():
                return None
            code = ModelFiles(model_code(*code_of(self.folder, self.log.spec)))
            files = (code, *(ModelFiles(file, STATE_FOLDER) for file in state_files(state)))
        return ModelOutput(
            session_model_name(job.id, record.session),
            record.session,
            judged=with_split(record.split, ""),
            context=judged_on(record),
            tags={"sweep": self.log.spec.name, "kind": str(job.kind), "session": str(record.session)},
            files=files,
        )

    def best(self) -> list[JobLog]:
        """Return the trials whose sessions are kept by the policy `best`, best first."""
        if self.log.spec.checkpoints != "best":
            return []
        spec = self.log.sweep_spec
        for job in self.log.jobs.values():  # of ten thousand, at the end of each: nothing is sorted
            if job.kind == Kind.TRIAL and job.status == Status.FINISHED and job.id not in self._ranks:
                goodness = score_trial(job, spec.objective, spec.split).goodness
                self._ranks[job.id] = goodness, tuple(-place for place in job.order)
        return [self.log.jobs[id] for id in nlargest(BEST_TRIALS, self._ranks, key=self._ranks.__getitem__)]

    def drop_states_of_others(self, ended: JobLog) -> None:
        """Delete the states of trials that are not among the best, now that one has ended."""
        if ended.kind != Kind.TRIAL or not ended.over or self.log.spec.checkpoints != "best":
            return
        self._droppable.add(ended.id)
        behind = self._droppable - {job.id for job in self.best()}
        for job_id in behind:
            shutil.rmtree(self.states / job_id / CHECKPOINTS, ignore_errors=True)
        self._droppable -= behind


def code_of(folder: Path, spec: Spec) -> tuple[Path, tuple[str, ...]]:
    """Return where the code of a study's models lies, in the study's folder, and the modules that it imports."""
    return folder / "model", tuple(spec.imports)


def session_model_name(job_id: str, session: int) -> str:
    """Return what the model of a session is called."""
    return f"{job_id}-session-{session:02d}"


def judged_on(record: SessionRecord) -> str:
    """Return which images of the data set judged a session: "holdout" or "test"."""
    return "test" if record.split == "test" else "holdout"
