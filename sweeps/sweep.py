"""A whole sweep: search, selection, final runs; begun, continued or extended from its ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeps.bookkeeper import FINAL, TRIAL
from sweeps.campaign import Campaign, Folders, absolute, carry_out
from sweeps.ledger import SweepLog
from sweeps.replicate import final_config
from sweeps.results import describe, final_summary
from sweeps.selection import leaderboard
from sweeps.spec import SweepSpec
from sweeps.tuner import AllFailedError
from tracking.recorder import Recorder


def run_sweep(spec: SweepSpec, results: Path) -> SweepLog:
    """Run what is missing of a sweep and return its log; see `sweeps.campaign.carry_out` for what is raised."""
    final_config(trial_configs(spec)[0], spec.seeds - 1)  # refuses what would only come out after the search
    kept = ("search", "selection", "objective", "search_seed", "holdout_share")
    params: dict[str, object] = {f"sweep.{name}": getattr(spec, name) for name in kept}
    params |= {f"space.{name}": entry for name, entry in spec.space.items()}
    return carry_out(spec, results, _search_and_replicate, parent_params=params, summarise=_summarise)


def trial_configs(spec: SweepSpec) -> list[dict[str, Any]]:
    """Return the configuration of every trial, checked, with paths that mean the same to every worker."""
    space = spec.parsed_space()
    return [absolute(spec.trial_config(index, space)) for index in range(spec.trials)]


def final_id(trial: str, repeat: int) -> str:
    """Return the id of a final run; it names the trial, because an extended sweep may choose another one."""
    return f"final-{trial.removeprefix('trial-')}-{repeat}"


def _search_and_replicate(campaign: Campaign) -> None:
    log, spec = campaign.log, campaign.log.sweep_spec
    predictions = spec.parsed_space().predictions
    campaign.run(
        [
            campaign.job(f"trial-{index:02d}", TRIAL, f"trial {index:02d}", config, predictions)
            for index, config in enumerate(trial_configs(spec))
        ]
    )
    best = leaderboard(log.of_kind(TRIAL), spec.objective, spec.split)
    if not best:
        raise AllFailedError("no trial is finished, so there is nothing to choose from")
    chosen = {"trial": best[0].trial, "prediction": best[0].prediction, "score": best[0].score}
    if log.selected != chosen:
        campaign.books.ledger.append("selected", **chosen)
    config = {**log.jobs[best[0].trial].config, **best[0].prediction}
    campaign.run(
        [
            campaign.job(final_id(best[0].trial, repeat), FINAL, f"final {repeat}", final_config(config, repeat))
            for repeat in range(spec.seeds)
        ]
    )


def _summarise(recorder: Recorder, log: SweepLog, folders: Folders) -> None:
    recorder.set_description(log.spec.name, describe(log))
    recorder.set_tags(log.spec.name, {"selected.trial": log.selected["trial"] if log.selected else ""})
    # Counted by finished final runs, so that a sweep that is extended or repaired writes its summary at a later step.
    summary = final_summary(log)
    if summary is not None:
        means = {name: stats["mean"] for name, stats in summary.items() if name.startswith("test/")}
        deviations = {f"{name}_std": stats["std"] for name, stats in summary.items() if name.startswith("test/")}
        known = {name: value for name, value in (means | deviations).items() if value is not None}
        recorder.log_metrics(log.spec.name, known, step=sum(job.status == "FINISHED" for job in log.of_kind(FINAL)))
