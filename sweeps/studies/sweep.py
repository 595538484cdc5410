"""A whole sweep: search, choice, final runs beside the control, audit; begun, continued or extended from its ledger.

Nothing that was seen on test images comes before the choice is in the ledger (save with selection=test), and nothing
after it changes the choice.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

from safe.config import validate
from safe.data.sessions import require_sessions, session_count
from safe.errors import UserError
from sweeps.engine.display import Detail
from sweeps.engine.helpers import Helpers
from sweeps.engine.job_queue import AllFailedError
from sweeps.engine.study import carry_out
from sweeps.engine.work import Study
from sweeps.ledger.folders import FOLDER, Folders
from sweeps.ledger.jobs import Job, Kind
from sweeps.ledger.ledger import Ledger, SweepLog, has_ledger
from sweeps.model.registry import log_final_model
from sweeps.report import write_report
from sweeps.report.terminal import describe, trial_title
from sweeps.results.finalists import rival
from sweeps.results.importance import importance_record
from sweeps.results.selection import choose
from sweeps.results.summary import summary_metrics
from sweeps.search import Proposal, proposals
from sweeps.search.staged import judged_alone
from sweeps.spec.configs import PRESET, absolute, audit_config, control_config, final_config, refit_config
from sweeps.spec.machine import ray_address
from sweeps.spec.options import OWN_CLASSES
from sweeps.spec.space import Space
from sweeps.spec.specs import SweepSpec
from sweeps.spec.stopping import Hopeless, stopping
from sweeps.studies.enough import enough, noise_rounds
from sweeps.studies.learning import learn, refuse_early
from sweeps.studies.live import Live
from sweeps.studies.memory import check_room, largest_configs
from sweeps.studies.race import baseline_jobs, chosen, predictions, preset_jobs, race_rounds, slow_rounds
from tracking.recorder import Recorder, Status


def run_sweep(
    spec: SweepSpec,
    results: Path,
    helpers: Helpers | None = None,
    *,
    retry_failed: bool = False,
    detail: Detail = "usual",
) -> SweepLog:
    """Run what is missing of a sweep and return its log; see `sweeps.engine.study.carry_out`, also for what is raised.

    Args:
        helpers: of this sweep, begun already; None begins some.
    """
    check_early(spec, begun=has_ledger(Folders(results, spec.name).sweep))
    refuse_early(spec, results)
    return carry_out(spec, results, work, helpers, summarise=_summarise, retry_failed=retry_failed, detail=detail)


def check_early(spec: SweepSpec, *, begun: bool = False) -> None:
    """Refuse now what would otherwise come out during the search or after it.

    Args:
        begun: whether the sweep goes on, whatever it was told to stop at.

    Raises:
        UserError: the first proposals, the final runs or the sessions to judge are not possible, or a run needs more
            memory than there is.
    """
    first = next(proposals(spec, SweepLog(spec)))[0].config
    final_config(refit_config(spec, first, {}), spec.seeds - 1)
    if spec.first_k is not None and spec.first_k > (sessions := session_count(validate(spec.base))):
        raise UserError(f"--first-k must be at most the {sessions} sessions of the stream, got {spec.first_k}")
    if not begun and isinstance(rule := stopping(spec.stop), Hopeless):
        last = spec.first_k or session_count(validate(spec.base))
        if rule.session > last:
            raise UserError(
                f"--stop {spec.stop} would end nothing, since trials run {last} sessions; give one from 1 to {last}"
            )
    if spec.target is not None:
        from safe.training.build import preflight

        # The head of a cluster trains nothing, so its own devices say nothing.
        preflight(validate({**spec.target, **({"runtime.device": "cpu"} if ray_address() else {})}))
    check_room(spec, largest_configs(spec))
    _check_classes(spec)  # last, since a folder that is no data set is told first


def _check_classes(spec: SweepSpec) -> None:
    """Refuse an order or numbers of classes that are not the data set's, the base's or one that the space lists."""
    space = spec.parsed_space()
    start = {**spec.base, **space.fixed}
    listed = {name: space.domains[name].extremes() for name in OWN_CLASSES if name in space.domains}
    for changes in ({}, *({name: value} for name, values in listed.items() for value in values)):
        require_sessions(validate({**start, **changes}))


def work(study: Study) -> Iterator[list[Job]]:
    """Yield the rounds of a sweep; see `sweeps.engine.work.Work`."""
    log, spec = study.log, study.log.sweep_spec
    space = spec.parsed_space()
    # Tags and no params, because a space may grow.
    study.tag({f"space.{name}": str(entry) for name, entry in spec.space.items()})
    learn(study)
    beside = baseline_jobs(study, space) if spec.raced else []
    live = Live(study, space)
    study.listen(live.take_up)
    for proposed in proposals(spec, log):
        if proposed and proposed[0].kind == Kind.TRIAL:
            live.proposed = proposed[-1].index + 1
        slow = bool(proposed) and proposed[0].kind == Kind.SLOW
        searched = [_search_job(study, proposal, space) for proposal in proposed]
        yield [*(_short_last(searched, beside) if slow else searched + beside), *live.take_up()]
        _load_ahead()
        beside = []
        if slow and spec.shrinks:
            yield from slow_rounds(study)
        if not study.budget_left:
            break
        if spec.stop == "auto" and live.proposed:
            yield from noise_rounds(study, space)
            if enough(study, live.proposed):
                break
    while added := live.take_up():
        yield added
    study.listen(None)
    best = choose(log.of_kind(Kind.TRIAL), spec.objective, spec.split)
    if best is None:
        why = "" if study.budget_left else "; the budget ended the search before (--max-sessions, --max-hours)"
        raise AllFailedError(f"no trial is finished, so there is nothing to choose from{why}")
    taken = {"trial": best.trial, "prediction": best.prediction, "score": best.score}
    if spec.raced:
        if lacking := preset_jobs(study, space):
            yield lacking
        yield from race_rounds(study)
        taken = chosen(log)
    if log.selected != taken:
        study.append("selected", **taken)
    study.keep_best()
    # One round, the long runs first: audits train nothing, and fill what these leave of the workers' time.
    yield [*_final_jobs(study), *_control_jobs(study), *(_audit_jobs(study, space) if spec.audit else [])]
    if study.requests and study.requests.waiting():  # asked for since the search ended: as a later call would do it
        yield from work(study)


def _short_last(slow: Sequence[Job], beside: Sequence[Job]) -> list[Job]:
    """Return all of them, last the slow settings that train nothing: no worker waits long for the end of the round."""
    from safe.sharing.stages import sharing_key

    train: dict[str, Job] = {}
    share: list[Job] = []
    for job in slow:
        if train.setdefault(sharing_key(validate(job.config), 1), job) is not job:
            share.append(job)
    return [*train.values(), *beside, *share]


@cache
def _load_ahead() -> None:
    """Load in a thread, once, what proposals, race and report are made with: beside runs, which would wait for it."""

    def load() -> None:
        with suppress(Exception):  # such as that the program ends just now; who needs them tells what fails
            for name in ("scipy.special", "optuna.importance", "sweeps.report.page", "sweeps.report.sections"):
                import_module(name)

    threading.Thread(target=load, name="loads").start()


def _search_job(study: Study, proposal: Proposal, space: Space) -> Job:
    kind, number, config = proposal.kind, proposal.index, proposal.config
    varied = [name for name, domain in space.domains.items() if kind != Kind.SLOW or judged_alone(name, domain)]
    title = trial_title(f"{kind} {number:02d}", config, varied)
    spec = study.log.sweep_spec
    grid = predictions(space, spec.base) if spec.raced else space.predictions
    return study.job(kind, title, config, () if kind == Kind.SLOW else grid, trial=number, until=spec.first_k)


def _final_jobs(study: Study) -> list[Job]:
    """Return the runs of what was chosen, and of its rival from the race.

    They have the number of their trial: an extended sweep may choose another one.
    """
    log, spec = study.log, study.log.sweep_spec
    assert log.selected is not None
    refit = {log.selected["trial"]: ("final", log.selected["prediction"])}
    other = rival(log) if spec.raced else None
    if other is not None and not (other.role == PRESET and spec.control):  # the control is the preset over these seeds
        refit.setdefault(other.job, (f"final of {other.name}", other.prediction))
    jobs = []
    for id, (title, prediction) in refit.items():
        of = log.jobs[id]
        config = absolute(refit_config(spec, of.config, prediction, of.variant))
        jobs += [
            study.job(
                Kind.FINAL,
                f"{title} {repeat}",
                final_config(config, repeat),
                trial=of.trial,
                variant=of.variant,
                repeat=repeat,
            )
            for repeat in range(spec.seeds)
        ]
    return jobs


def _control_jobs(study: Study) -> list[Job]:
    spec = study.log.sweep_spec
    config = absolute(control_config(spec))
    repeats = range(spec.seeds if spec.control else 0)
    return [
        study.job(Kind.CONTROL, f"control {repeat}", final_config(config, repeat), repeat=repeat) for repeat in repeats
    ]


def _audit_jobs(study: Study, space: Space) -> list[Job]:
    """Judge every finished trial's own trained state on the test images: with shared work, that trains nothing."""
    spec = study.log.sweep_spec
    return [
        study.job(
            Kind.AUDIT,
            _audit_title(trial.title),
            audit_config(trial.config),
            trial.predictions,
            trial=trial.trial,
            variant=trial.variant,
            until=spec.first_k,
        )
        for trial in study.log.candidates()
        if trial.status == Status.FINISHED
    ]


def _audit_title(title: str) -> str:
    """Return `audit 01` for `trial 01`; a baseline and a trial of the user's keep their names."""
    return title.replace(Kind.TRIAL, Kind.AUDIT, 1) if title.startswith(Kind.TRIAL) else f"audit of {title}"


def _summarise(recorder: Recorder, ledger: Ledger, folders: Folders) -> None:
    log = ledger.log
    name = log.spec.name

    def written() -> Path:
        if (record := importance_record(log)) != log.importance:
            ledger.append("importance", **record)
        return write_report(log, folders.sweep)

    with ThreadPoolExecutor(1) as beside:  # here the model is waited for, which another process registers
        report = beside.submit(written)
        model = log_final_model(log, folders, recorder)
    if model is not None and model != log.model:
        ledger.append("model", **model)
    recorder.set_description(name, describe(log))
    recorder.set_tags(name, {"selected.trial": log.selected["trial"] if log.selected else ""})
    # Counted by sessions, so that a sweep that is extended or repaired writes its summary at a later step.
    recorder.log_metrics(name, summary_metrics(log), step=sum(len(job.sessions) for job in log.jobs.values()))
    recorder.log_directory(name, report.result().parent, FOLDER)
