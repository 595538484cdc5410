"""The ledger: an append-only JSON-lines file that holds what a sweep did, and all that is needed to continue it.

The first record carries the format version. What would be missed is on disk before the next step is taken: a killed
sweep loses at most the session it was in. A last line cut short by the kill is ignored on reading, removed on writing.
Every line ends in its number and its checksum (`sweeps.ledger.lines`).

    {"type": "sweep", "version": 3, "spec": {...}}
    {"type": "data", "sets": {"dataset": {"digest": ..., "classes": [["ant", 60, 25], ...]}}}
    {"type": "environment", "tags": {"version.python": ..., "git.commit": ...}}
    {"type": "tracking", "tracking_uri": ..., "experiment": ..., "parent_run_id": ...}
    {"type": "job", "job": "trial-00", "kind": "trial", "trial": 0, "title": ..., "config": {...}, "predictions": [...]}
    {"type": "status", "job": "trial-00", "status": "RUNNING", "reason": null}
    {"type": "session", "job": "trial-00", "session": 1, "metrics": {...}, "grid": [...], ...}
    {"type": "checkpoint", "job": "trial-00", "session": 1, "path": ...}
    {"type": "clock", "seconds": ...}
    {"type": "recorded", "job": "trial-00"}
    {"type": "learned", "trials": [{"sweep": "first", "settings": {...}, "goodness": [...]}]}
    {"type": "added", "request": ..., "settings": {...}, "after": 8, "told": true}
    {"type": "dropped", "request": ..., "job": "trial-03"}
    {"type": "enough", "trials": 12, "bound": ..., "noise": ..., "enough": true}
    {"type": "race", "finalists": [{"job": "trial-00", "role": "searched", ...}], "repeats": 3, "end": ...}
    {"type": "selected", "trial": "trial-00", "prediction": {...}, "score": ...}
    {"type": "importance", "trials": 12, "shares": [{"setting": "slow.lr", "share": ..., "low": ..., "high": ...}]}
    {"type": "finished"}

A `spec` record extends a sweep: the newest counts, it is no longer finished. `clock` is the time of the search so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safe.config.loading import completed
from safe.errors import UserError
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import ADDED, PLACE, SEARCH_KINDS, Kind, place_of
from sweeps.ledger.lines import FORMAT_VERSION, advice, all_kept, read_line, require_version
from sweeps.ledger.record import SessionRecord
from sweeps.spec.specs import Spec, SweepSpec, read_spec
from tracking import lines
from tracking.recorder import Status

FILE_NAME = "ledger.jsonl"


@dataclass
class SweepLog:
    """The state of a sweep as its ledger tells it.

    Attributes:
        began_as: the first specification, of MLflow's params and names, which stay when data lie elsewhere.
        data: what the data sets held when the sweep began; see `sweeps.ledger.data`.
        folder: holds the ledger; the paths in it begin there, so that it can be moved.
        learned: finished trials of earlier sweeps that the search is told, best first within a sweep.
        added: trials of a user's own, by number: their settings, `after` how many trials of the search they were taken
            up, and whether the search is `told` of them, which is where they lie in its space.
        dropped: ids of trials that a user ended.
        requests: ids of what was taken up.
        enough: whether more trials could pay, by how many there were; see `sweeps.studies.enough`.
        race: its finalists and how it ended; see `sweeps.results.finalists`.
        model: what came of logging the final model; see `sweeps.model.registry.log_final_model`.
        importance: of the settings, as `sweeps.results.importance` reckoned it from so many finished `trials`.
        environment: tags of the newest call: versions, commit, machine.
        search_seconds: wall time of the search, over all calls.
        sessions_trained, sessions_reused: sessions of the search that it trained itself, and took from the stage store.
        sessions_searched: sessions of the search in all.
    """

    spec: Spec
    folder: Path = Path()
    jobs: dict[str, JobLog] = field(default_factory=dict)
    data: dict[str, Any] | None = None
    tracking: dict[str, Any] | None = None
    learned: list[dict[str, Any]] | None = None
    added: list[dict[str, Any]] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)
    requests: set[str] = field(default_factory=set)
    enough: dict[int, dict[str, Any]] = field(default_factory=dict)
    race: dict[str, Any] | None = None
    selected: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    importance: dict[str, Any] | None = None
    finished: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    search_seconds: float = 0.0
    sessions_trained: int = 0
    sessions_reused: int = 0
    sessions_searched: int = 0
    began_as: Spec = field(init=False)
    _predictions: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.began_as = self.spec

    @property
    def sweep_spec(self) -> SweepSpec:
        """Return the specification of a log that is a sweep's."""
        assert isinstance(self.spec, SweepSpec)
        return self.spec

    def of_kind(self, kind: Kind) -> list[JobLog]:
        """Return the jobs of a kind, in the order of their numbers."""
        return sorted((job for job in self.jobs.values() if job.kind == kind), key=lambda job: job.order)

    def trials(self) -> dict[int, JobLog]:
        """Return the trials that the search proposed, by number, in its order."""
        return {job.trial: job for job in self.of_kind(Kind.TRIAL) if job.trial is not None and job.variant is None}

    def within(self) -> list[JobLog]:
        """Return the trials that lie in the space: those of the search, then what was added there."""
        trials = self.of_kind(Kind.TRIAL)
        return [job for job in trials if job.variant != ADDED or self.added[job.trial or 0]["told"]]

    def candidates(self) -> list[JobLog]:
        """Return what can be chosen: trials, then baselines, by name."""
        return [*self.of_kind(Kind.TRIAL), *sorted(self.of_kind(Kind.BASELINE), key=lambda job: str(job.variant))]

    @property
    def chosen(self) -> JobLog | None:
        """Return the trial that the sweep chose, or None before it did."""
        return self.jobs[self.selected["trial"]] if self.selected else None

    def final_jobs(self) -> list[JobLog]:
        """Return the final runs of the chosen trial, in seed order, without those of an earlier choice."""
        return self.finals_of(self.chosen) if self.chosen else []

    def finals_of(self, candidate: JobLog) -> list[JobLog]:
        """Return the final runs of a trial or baseline, in seed order."""
        finals = self.of_kind(Kind.FINAL)
        return [job for job in finals if (job.trial, job.variant) == (candidate.trial, candidate.variant)]

    def apply(self, record: Mapping[str, Any]) -> None:
        """Take in a record; types of a later, compatible writer are skipped. Raises ValueError for a gap before it."""
        match record["type"]:  # those of every session and run first
            case "session":
                self._take_session(self.jobs[record["job"]], SessionRecord.from_json(record))
            case "checkpoint":
                path = record["path"]  # joined by hand, since there are tens of thousands
                self.jobs[record["job"]].checkpoints[record["session"]] = (
                    path if path.startswith("/") else f"{self.folder}/{path}"
                )
            case "status":
                job = self.jobs[record["job"]]
                job.status, job.reason, job.recorded = Status(record["status"]), record.get("reason"), False
                if job.over:
                    job.checkpoints.clear()
                if job.status == Status.FINISHED and not job.complete:
                    raise ValueError("its last sessions are missing")
            case "recorded":
                self.jobs[record["job"]].recorded = True
            case "job":
                id, kind = record["job"], Kind(record["kind"])
                fields = {key: record[key] for key in ("title", "config", "predictions")}
                if not self.spec.base.keys() <= fields["config"].keys():  # written before there was every setting
                    fields["config"] = completed(fields["config"])
                if fields["predictions"] == self._predictions:  # thousands of jobs are scored at the same
                    fields["predictions"] = self._predictions
                self._predictions = fields["predictions"]
                place = {key: record[key] for key in PLACE if key in record} or place_of(id, kind)
                self.jobs[id] = JobLog(id, kind, **fields, **place)
            case "spec":
                self.spec, self.finished = read_spec(record["spec"]), False
            case "data":
                self.data = record["sets"]
            case "tracking" | "race" | "selected" | "model" | "importance" as name:
                setattr(self, name, {key: value for key, value in record.items() if key != "type"})
            case "learned":
                self.learned = record["trials"]
            case "added":
                self.added.append({key: record[key] for key in ("settings", "after", "told")})
                self.requests.add(record["request"])
            case "dropped":
                self.dropped.add(record["job"])
                self.requests.add(record["request"])
            case "enough":
                self.enough[record["trials"]] = {key: value for key, value in record.items() if key != "type"}
            case "finished":
                self.finished = True
            case "environment":
                self.environment = dict(record["tags"])
            case "clock":
                self.search_seconds = record["seconds"]

    def _take_session(self, job: JobLog, session: SessionRecord) -> None:
        """Take in a session; done again after a kill it replaces the earlier record and what followed that."""
        if session.session > len(job.sessions) + 1:
            raise ValueError("the session before it is missing")
        before, replaced = job.sessions[: session.session - 1], job.sessions[session.session - 1 :]
        job.sessions = [*before, session]
        if job.kind in SEARCH_KINDS:
            self._count(session, 1)
            for old in replaced:
                self._count(old, -1)
            if job.complete and job.completed is None:
                job.completed = self.sessions_searched

    def _count(self, session: SessionRecord, times: int) -> None:
        self.sessions_trained += times * session.trained
        self.sessions_reused += times * session.reused
        self.sessions_searched += times


class Ledger:
    """The ledger file of one sweep, open for appending; `log` is always what the file says."""

    def __init__(self, path: Path, log: SweepLog) -> None:
        self.path = path
        self.log = log
        with _in_words(path):
            self._file = lines.LineFile(path)

    @classmethod
    def create(cls, folder: Path, spec: Spec) -> Ledger:
        """Begin the ledger of a new sweep in `folder`."""
        ledger = cls(folder / FILE_NAME, SweepLog(spec, folder))
        ledger._write({"type": "sweep", "version": FORMAT_VERSION, "spec": spec.model_dump(mode="json")})
        return ledger

    @classmethod
    def open(cls, folder: Path) -> Ledger:
        """Open an existing ledger to continue it."""
        return cls(folder / FILE_NAME, read_ledger(folder))

    def append(self, type: str, **fields: Any) -> None:
        """Write one record, on disk with those before it if anything is lost with it.

        Raises:
            UserError: it cannot be written, on a full disk for one.
        """
        line = self._write({"type": type, **fields})
        self.log.apply(read_line(line, self._file.count))  # as it will be read

    def close(self) -> None:
        """Close the file."""
        with _in_words(self.path):
            self._file.close()

    def _write(self, record: Mapping[str, Any]) -> bytes:
        with _in_words(self.path):
            line = self._file.append(record)
            if not _can_wait(record):
                self._file.sync()
        return line


def _can_wait(record: Mapping[str, Any]) -> bool:
    """Whether a record may reach the disk with the next one: a time is soon another, a run without a session begins
    anew, and what MLflow was told it can be told again."""
    return record["type"] in ("clock", "job", "recorded") or record.get("status") == Status.RUNNING


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write the ledger {path}: {error.strerror}; what it holds is kept: make room, then the "
            "same command continues the sweep"
        ) from None


def has_ledger(folder: Path) -> bool:
    """Return whether `folder` holds a sweep; a ledger killed before its first whole line holds nothing yet."""
    path = folder / FILE_NAME
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.readline().endswith(b"\n")


def read_ledger(folder: Path) -> SweepLog:
    """Return what the ledger in `folder` says.

    Raises:
        UserError: there is none, it is damaged before its last line, or of another version (`OtherFormatError`).
    """
    path, number = folder / FILE_NAME, 1
    try:
        with path.open("rb") as file, all_kept():
            first = file.readline()
            require_version(path, first)
            log = SweepLog(read_spec(read_line(first, 1)["spec"]), folder)
            for number, line in enumerate(file, 2):
                if not line.endswith(b"\n"):  # cut short by a kill, or being written right now
                    break
                log.apply(read_line(line, number))
    except OSError as error:
        raise UserError(f"cannot read the ledger {path}: {error.strerror}") from None
    except (ValueError, LookupError, TypeError) as error:  # pydantic's refusal is a ValueError
        what = f" ({error})" if isinstance(error, lines.MisplacedError) else ""
        raise UserError(f"the ledger {path} is damaged in line {number}{what}: {advice(path, number)}") from None
    return log
