"""A plan for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console

from safe.config import Config, validate
from safe.io.progress import duration
from safe.io.tables import Table
from safe.training.cost import RunBytes, run_bytes, session_costs
from sweeps.studies.forecast import WORTH, Rounds
from sweeps.studies.plan import Plan, race_budget

START_SECONDS = 10.0  # until Ray and its first workers are up, on two idle cores; roughly, as everything here


@dataclass(frozen=True)
class Cost:
    """What one run takes alone; see `safe.training.cost`."""

    steps: int
    read: int
    flops: float
    bytes: RunBytes


def cost_of(config: Config, device: torch.device) -> Cost:
    """Return the cost of one run on a device."""
    each = session_costs(config)
    read = sum(cost.read for cost in each)
    return Cost(sum(cost.steps for cost in each), read, sum(cost.flops for cost in each), run_bytes(config, device))


def outcome(plan: Plan, cost: Cost, rounds: Rounds | None, workers: int) -> dict[str, Any]:
    """Return the plan as one object for programs; times are left out where there are no rounds."""
    spec = plan.spec
    times: dict[str, Any] = {}
    if rounds is not None:
        ahead = rounds.on(workers)
        times = {
            "workers": workers,
            "start_seconds": START_SECONDS,
            "search_seconds": ahead.search.makespan,
            "final_seconds": ahead.final.makespan,
            "work_seconds": ahead.search.work + ahead.final.work,
            "critical_seconds": ahead.search.critical + ahead.final.critical,
            "idle": ahead.idle,
            "workers_worth": rounds.worth(),
        }
    return {
        "dataset": spec.dataset,
        "search": spec.search,
        "exact": plan.exact,
        "trials": spec.trials,
        "slow_candidates": plan.slow,
        "predictions": plan.predictions,
        "sessions": plan.sessions,
        "work": {
            "sessions_naive": plan.search.naive,
            "sessions_unshared_trials": plan.search.unshared,
            "sessions_trained": plan.search.trained,
            "final": {"sessions_trained": plan.final.trained},
            **({"race": {"sessions_trained": race_budget(spec, plan.search.trained)}} if spec.raced else {}),
        },
        "stages": plan.search.stages,
        "run": {"steps": cost.steps, "read": cost.read, "flops": cost.flops, **cost.bytes._asdict()},
        **times,
    }


def show_counts(plan: Plan, cost: Cost, device: torch.device, console: Console) -> None:
    """Print what a sweep comes to on a device, before any time is measured."""
    spec = plan.spec
    console.print(_network(validate(spec.base), device), highlight=False, soft_wrap=True)
    console.print(f"plan · {spec.dataset} · {spec.search} search · selection {spec.selection}", soft_wrap=True)
    heads = f" with {plan.slow // plan.slow_trained} heads each" if plan.slow > plan.slow_trained else ""
    slow = f"{plan.slow_trained} slow settings judged alone{heads}, then " if plan.slow else ""
    trials = f"{spec.trials} trials of {plan.sessions} sessions, scored at {plan.predictions} predictions"
    console.print(f"{slow}{trials}", soft_wrap=True)
    counts = Table(
        [f"training sessions of the search{'' if plan.exact else ', at most'}", ""],
        [
            ["every combination a run of its own", str(plan.search.naive)],
            ["settings of prediction sharing a run", str(plan.search.unshared)],
            ["with the stage tree", str(plan.search.trained)],
        ],
    )
    console.print(counts.on_terminal(console.width))
    console.print("different stages: " + ", ".join(f"{number} {kind}" for kind, number in plan.search.stages.items()))
    control = " and control" if spec.control else ""
    console.print(f"final runs{control}, counted apart: at most {plan.final.trained} training sessions")
    if spec.raced:
        sessions = race_budget(spec, plan.search.trained)
        console.print(f"race of the finalists: no further seed after {sessions} training sessions")
    if spec.audit:
        console.print("audit on the test images: trains nothing that is still in the stage store")
    budgets = {"training sessions": spec.max_sessions, "hours": spec.max_hours}
    limits = [f"{limit:g} {what}" for what, limit in budgets.items() if limit is not None]
    if limits:
        console.print(f"the search ends in order after {' or '.join(limits)}")
    pixels = f"; decoded images, shared, {_size(cost.bytes.pixels)}" if cost.bytes.pixels else ""
    console.print(
        f"one final run: {cost.steps:,} gradient steps, {cost.read:,} images read for heads, "
        f"{cost.flops / 1e15:.3g} PFLOP; memory {_size(cost.bytes.memory)}; disk: to go on from "
        f"{_size(cost.bytes.resume)}, states of all sessions "
        f"{_size(cost.bytes.states)}{pixels}; shared stages at most {spec.stage_limit_gb:g} GB"
    )


def show_time(plan: Plan, rounds: Rounds, workers: int, how: str, console: Console) -> None:
    """Print how long a sweep takes on some workers, how busy they are, and how many are worth having.

    Args:
        how: what the times rest on, in words.
    """
    ahead, most = rounds.on(workers), "" if plan.exact else "at most "
    search, final = (duration(max(1, part.makespan)) for part in (ahead.search, ahead.final))
    runs = f"{workers} run{'s' if workers > 1 else ''} at a time"
    whole = duration(START_SECONDS + ahead.search.makespan + ahead.final.makespan)
    console.print(
        f"estimated time ({runs}): search {most}{search}, final runs {final}, {most}{whole} in all with "
        f"{duration(START_SECONDS)} until Ray and its workers are up; {how}"
    )
    longest = duration(max(1, ahead.search.critical + ahead.final.critical))
    worth = rounds.worth()
    console.print(
        f"workers idle {ahead.idle:.0%} of it; the longest chain of runs that wait for one another: {longest}; up to "
        f"{worth} worker{'s are' if worth > 1 else ' is'} worth having: twice as many save less than {WORTH:.0%}"
    )


def _network(config: Config, device: torch.device) -> str:
    """Return the backbone and what it is given, in words."""
    from safe.backbones.loading import skeleton
    from safe.training.build import network_in_words

    return network_in_words(config, skeleton(config.backbone.name, config.backbone.image_size), device)


def _size(count: float) -> str:
    return f"{count / 1e9:.2g} GB" if count >= 1e8 else f"{count / 1e6:.2g} MB"
