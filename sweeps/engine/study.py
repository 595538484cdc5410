"""One named set of runs carried out: folder, lock, ledger, MLflow parent run and Ray around the work itself.

A sweep and an ablation are studies; what they run and in which order is theirs, everything else is here.
"""

from __future__ import annotations

import shutil
from contextlib import closing, nullcontext
from pathlib import Path

from safe.config import validate
from safe.errors import UserError
from sweeps.engine.bookkeeper import Bookkeeper
from sweeps.engine.budget import Budget
from sweeps.engine.display import Detail, LiveDisplay
from sweeps.engine.helpers import Helpers
from sweeps.engine.job_queue import JobQueue
from sweeps.engine.order import JobKeys
from sweeps.engine.parent_run import Summarise, catch_up, note_tracking, start_parent, study_recorder
from sweeps.engine.polite import polite_kill
from sweeps.engine.tuner import check_local, run_work
from sweeps.engine.work import DrivenStudy, Work
from sweeps.ledger.data import settle_data
from sweeps.ledger.folders import Folders
from sweeps.ledger.jobs import BUDGET, SEARCH_KINDS, Kind
from sweeps.ledger.ledger import Ledger, SweepLog, has_ledger
from sweeps.ledger.lock import locked
from sweeps.ledger.requests import Requests
from sweeps.model.saving import model_code
from sweeps.model.session_models import code_of
from sweeps.search.early import early_stopping
from sweeps.spec.continuing import continued
from sweeps.spec.machine import ray_address
from sweeps.spec.marks import Mark, marked
from sweeps.spec.specs import Spec, SweepSpec
from tracking.recorder import Status

FIRST_FLUSH_S = 10.0


def carry_out(
    spec: Spec,
    results: Path,
    work: Work,
    helpers: Helpers | None = None,
    *,
    summarise: Summarise,
    retry_failed: bool = False,
    detail: Detail = "usual",
) -> SweepLog:
    """Run what a study still lacks and return its log; MLflow also gets what it could not take in an earlier call.

    Args:
        spec: what the name stands for.
        results: results folder.
        work: see `Work`.
        helpers: of this study, begun already; None begins some, which takes their seconds to get ready.
        summarise: writes the outcome to the parent run.
        retry_failed: go on with a finished study too when some of its runs failed.
        detail: how much is shown while it runs.

    Raises:
        UserError: the name belongs to other settings or is in use, or the data or results folder is not usable.
        TrackingError: the tracking store cannot be used.
        AllFailedError: no run came to its end.
        KeyboardInterrupt: interrupted, or Ray is gone (with the words for it); everything is closed and the same call
            continues.
    """
    with nullcontext(helpers) if helpers else Helpers() as helpers:
        from safe.training.build import preflight  # brings torch, which `show` and `--help` do without

        # The head of a cluster trains nothing, so its own devices say nothing.
        elsewhere = {"runtime.device": "cpu"} if ray_address() else {}
        print(preflight(validate({**spec.base, **elsewhere})), flush=True)
        if not ray_address():
            check_local()
        folders = Folders(results, spec.name)
        folders.make()
        with locked(folders.sweep, spec.name), polite_kill():
            new = not has_ledger(folders.sweep)
            ledger = Ledger.create(folders.sweep, spec) if new else Ledger.open(folders.sweep)
            try:
                if new:
                    settle_data(ledger, spec)
                else:
                    _go_on(ledger, spec, retry_failed)
                if ledger.log.finished:
                    catch_up(ledger, folders, summarise, helpers.delivery)
                else:
                    _run(ledger, folders, work, summarise, detail, helpers)
                return ledger.log
            finally:
                ledger.close()


def _go_on(ledger: Ledger, asked: Spec, retry_failed: bool) -> None:
    old = ledger.log.spec
    if old.kind != asked.kind:
        raise UserError(
            f"the name {old.name!r} belongs to another kind of run ({old.kind}); choose another with NAME or --name"
        )
    spec = continued(old, asked)
    settle_data(ledger, spec)
    failed = any(job.status == Status.FAILED for job in ledger.log.jobs.values())
    before, now = (one.model_dump(exclude=set(marked(type(one), Mark.MANNER, Mark.WHERE))) for one in (old, spec))
    does_more = before != now or (retry_failed and failed) or bool(Requests(ledger.path.parent).waiting())
    if does_more or spec.places() != old.places():
        finished = ledger.log.finished and not does_more
        ledger.append("spec", spec=spec.model_dump(mode="json"))
        if finished:  # that data lie elsewhere is nothing to do
            ledger.append("finished")
    else:
        ledger.log.spec = spec


def _run(ledger: Ledger, folders: Folders, work: Work, summarise: Summarise, detail: Detail, helpers: Helpers) -> None:
    from tracking import environment_tags
    from tracking.reconcile import reconcile

    spec = ledger.log.spec
    tags = environment_tags()
    if tags != ledger.log.environment:
        ledger.append("environment", tags=tags)
    # The display is there before and after the work too, since a store may take its time.
    with (
        LiveDisplay(ledger.log, detail=detail) as display,
        closing(study_recorder(folders, ledger.log, helpers.delivery)) as recorder,
    ):
        start_parent(recorder, ledger.log, tags)
        try:
            # Refuses a name that the store has with other settings before anything is trained.
            recorder.flush(FIRST_FLUSH_S)
            note_tracking(ledger, recorder)
        except KeyboardInterrupt:
            recorder.finish(spec.name, Status.KILLED)
            raise
        if spec.checkpoints != "none":
            helpers.delivery.begin(model_code, *code_of(folders.sweep, spec))  # which would hold up the work later
        status = Status.FAILED
        try:
            books = Bookkeeper(ledger, recorder, display, folders.states, tags)
            books.record_again(everything=recorder.new)
            reconcile(recorder, own=spec.name)
            _work(books, folders, work, helpers)
            display.ending()
            summarise(recorder, ledger, folders)
            status = Status.FINISHED
        except KeyboardInterrupt:
            status = Status.KILLED
            raise
        finally:
            recorder.finish(spec.name, status)
            note_tracking(ledger, recorder)
        _finish(ledger, folders)


def _finish(ledger: Ledger, folders: Folders) -> None:
    """Mark the study as finished if it is, and remove what it needed to get there."""
    jobs = ledger.log.jobs.values()
    failed = [job for job in jobs if job.status == Status.FAILED]
    # These do without one; a mean over seeds would not.
    if all(job.kind in (*SEARCH_KINDS, Kind.BASELINE, Kind.RACE, Kind.AUDIT) for job in failed):
        ledger.append("finished")
    # It holds the traces of what failed, and the checkpoints of what a larger budget may continue.
    if not failed and not any(job.reason == BUDGET for job in jobs):
        shutil.rmtree(folders.ray, ignore_errors=True)
    shutil.rmtree(folders.heartbeats, ignore_errors=True)


def _work(books: Bookkeeper, folders: Folders, work: Work, helpers: Helpers) -> None:
    """Run what is missing; Ray ends before what is written then, which takes a while."""
    log = books.ledger.log
    spec = log.spec
    search = spec if isinstance(spec, SweepSpec) else None
    budget = Budget(log, search.max_sessions if search else None, search.max_hours if search else None)
    keys = JobKeys() if spec.stages else None
    study = DrivenStudy(books, folders, budget)
    rounds = JobQueue(work(study), log, budget, spec.concurrency, spec.retries, keys, study.incoming)
    folders.heartbeats.mkdir(exist_ok=True)
    if not rounds.prepare():
        return
    with helpers.ray(spec):
        run_work(
            rounds,
            books,
            storage=folders.ray,
            stop=folders.stop,
            threads=spec.threads,
            gpus_per_trial=spec.gpus_per_trial,
            use_gpus=spec.base["runtime.device"] != "cpu",
            trial_timeout=spec.trial_timeout,
            early=early_stopping(log),
        )
    books.take_out()
