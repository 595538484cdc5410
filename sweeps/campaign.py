"""One named set of runs carried out: folder, lock, ledger, MLflow parent run and Ray around the work itself.

A sweep and an ablation are campaigns; what they run and in which order is theirs, everything else is here.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safe.config import validate
from safe.errors import UserError
from sweeps.bookkeeper import ENDED_WELL, TRIAL, Bookkeeper
from sweeps.display import LiveDisplay
from sweeps.ledger import Ledger, SweepLog, has_ledger
from sweeps.spec import MAY_GROW, Spec, continued, gpu_count
from sweeps.tuner import Job, local_ray, run_jobs
from tracking import sqlite_uri
from tracking.recorder import Recorder


class Folders:
    """Where a sweep keeps its files; everything lies under one results folder."""

    def __init__(self, results: Path, name: str) -> None:
        self.results = results.absolute()
        self.sweep = self.results / "sweeps" / name
        self.states = self.sweep / "checkpoints"
        self.ray = self.sweep / "ray"

    def tracking_uri(self) -> str:
        """Return MLflow's address: MLFLOW_TRACKING_URI, else an SQLite file in the results folder."""
        return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(self.results / "mlflow.db")

    def make(self) -> None:
        """Create the folders; `UserError` when that is not possible or nothing can be written."""
        try:
            self.sweep.mkdir(parents=True, exist_ok=True)
            probe = self.sweep / ".probe"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"cannot write to the results folder {self.results}: {error.strerror}; choose another one with "
                "--results or RESULTS"
            ) from None


class Campaign:
    """What the work of a campaign may use: the log so far, the books, and `run` for jobs."""

    def __init__(self, books: Bookkeeper, folders: Folders) -> None:
        self.books = books
        self.folders = folders
        self.log = books.ledger.log

    def job(
        self,
        id: str,
        kind: str,
        title: str,
        config: Mapping[str, Any],
        predictions: Sequence[Mapping[str, Any]] = (),
    ) -> Job:
        """Return a job, which continues from its newest checkpoint when an earlier call left one."""
        known = self.log.jobs.get(id)
        resume = known.resume_from() if known else None
        return Job(id, kind, title, config, [dict(p) for p in predictions], str(self.folders.states / id), resume)

    def run(self, jobs: Sequence[Job]) -> None:
        """Run those of the jobs that have not ended well yet; see `sweeps.tuner.run_jobs` for what is raised."""
        spec = self.log.spec
        gpus = gpu_count() if spec.base["runtime.device"] != "cpu" else 0
        run_jobs(
            [job for job in jobs if job.id not in self.log.jobs or self.log.jobs[job.id].status not in ENDED_WELL],
            self.books,
            storage=self.folders.ray,
            concurrency=spec.concurrency,
            threads=spec.threads,
            gpus_per_job=min(1.0, gpus / spec.concurrency),
        )


def carry_out(
    spec: Spec,
    results: Path,
    work: Callable[[Campaign], None],
    *,
    parent_params: Mapping[str, object],
    summarise: Callable[[Recorder, SweepLog, Folders], None],
) -> SweepLog:
    """Do what is missing of a campaign and return its log; one that is finished is returned at once.

    Args:
        spec: what the name stands for.
        results: results folder.
        work: runs the jobs; called with Ray running.
        parent_params: params of the MLflow parent run besides the base configuration.
        summarise: writes the outcome to the parent run.

    Raises:
        UserError: the name belongs to other settings or is in use, or the data or results folder is not usable.
        TrackingError: the tracking store cannot be used.
        AllFailedError: no run came to its end.
        KeyboardInterrupt: interrupted; everything is closed and the same call continues.
    """
    from safe.build import preflight  # brings torch, which `show` and `--help` do without

    preflight(validate(spec.base))
    folders = Folders(results, spec.name)
    folders.make()
    with _locked(folders.sweep, spec.name), _polite_kill():
        new = not has_ledger(folders.sweep)
        ledger = Ledger.create(folders.sweep, spec) if new else Ledger.open(folders.sweep)
        try:
            if not new:
                _go_on(ledger, spec)
            if not ledger.log.finished:
                _run(ledger, folders, work, parent_params, summarise)
            return ledger.log
        finally:
            ledger.close()


@contextmanager
def _polite_kill() -> Iterator[None]:
    """Take SIGTERM and SIGHUP for an interrupt: everything is closed, and the campaign can go on later."""
    signals = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in signals}
    for number in signals:
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _go_on(ledger: Ledger, asked: Spec) -> None:
    old = ledger.log.spec
    if old.kind != asked.kind:
        raise UserError(
            f"the name {old.name!r} belongs to another kind of run ({old.kind}); choose another with NAME or --name"
        )
    spec = continued(old, asked)
    if any(getattr(spec, name, None) != getattr(old, name, None) for name in MAY_GROW):
        ledger.append("spec", spec=spec.model_dump(mode="json"))
    else:
        ledger.log.spec = spec


def _run(
    ledger: Ledger,
    folders: Folders,
    work: Callable[[Campaign], None],
    parent_params: Mapping[str, object],
    summarise: Callable[[Recorder, SweepLog, Folders], None],
) -> None:
    from tracking.environment import environment_tags, telemetry_off
    from tracking.mlflow_backend import shown
    from tracking.mlflow_recorder import MlflowRecorder

    telemetry_off()
    spec = ledger.log.spec
    recorder = MlflowRecorder(folders.tracking_uri(), Path(spec.dataset).name)
    tags = environment_tags()
    try:
        counts = {f"{spec.kind}.{name}": str(getattr(spec, name)) for name in MAY_GROW if hasattr(spec, name)}
        marks = {"kind": spec.kind, "sweep": spec.name, "selection": spec.selection}
        params = {**parent_params, f"{spec.kind}.digest": spec.digest(), **spec.base}
        recorder.start(spec.name, params, {**tags, **counts, **marks}, name=spec.name)
        found = {
            "tracking_uri": shown(recorder.tracking_uri),
            "experiment": recorder.experiment_name,
            "parent_run_id": recorder.run_id(spec.name),
        }
        moved = ledger.log.tracking != found
        if moved:
            ledger.append("tracking", **found)
        status = "FAILED"
        try:
            with LiveDisplay(spec.name, spec.runs) as display:
                books = Bookkeeper(ledger, recorder, display, folders.states, tags)
                books.replay(everything=moved)
                with local_ray(spec.concurrency * spec.threads):
                    work(Campaign(books, folders))
            summarise(recorder, ledger.log, folders)
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            recorder.finish(spec.name, status)
        failed = [job for job in ledger.log.jobs.values() if job.status == "FAILED"]
        if all(job.kind == TRIAL for job in failed):  # a search does without one; a mean over seeds would be another
            ledger.append("finished")
        if not failed:
            shutil.rmtree(folders.ray, ignore_errors=True)  # else it holds the traces of what failed
    finally:
        recorder.close()


def absolute(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration whose paths mean the same to every worker."""
    root = str(Path(config["data.root"]).absolute())
    weights = config["backbone.weights"]
    local = weights is not None and Path(weights).exists()
    return {**config, "data.root": root, "backbone.weights": str(Path(weights).absolute()) if local else weights}


@contextmanager
def _locked(folder: Path, name: str) -> Iterator[None]:
    """Hold the sweep for this process; the lock ends with the process, whatever happens to it."""
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise UserError(f"the sweep {name!r} is being run by another process (pid {holder})") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
