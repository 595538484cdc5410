"""What a sweep will cost, before anything runs: training sessions with and without sharing, and a rough time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from safe.config import Config, validate
from safe.config.described import acting
from safe.config.marks import Acts
from safe.data.sessions import session_count
from safe.sharing.stages import sharing_key
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.search import layout, proposals
from sweeps.spec.configs import control_config, final_config, refit_config
from sweeps.spec.specs import SweepSpec
from sweeps.spec.titles import duration
from sweeps.studies.probe import Speed

SETTLED = ("random", "grid")  # searches whose trials depend on no result


@dataclass
class Count:
    """Training sessions and stages of some runs.

    Attributes:
        naive: if every combination of trained and prediction-time settings were a run of its own.
        unshared: if only settings of prediction shared a run.
        trained: with shared work.
        stages: how many different ones there are of each kind.
    """

    naive: int = 0
    unshared: int = 0
    trained: int = 0
    stages: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a sweep comes to; of a search that learns from results, at most.

    Attributes:
        sessions: of the stream, or those that trials run.
        slow: slow settings judged alone.
        predictions: settings that each trained state is scored at.
        exact: whether the search's counts are known, not just bounded.
        final: final runs and control.
    """

    spec: SweepSpec
    sessions: int
    slow: int
    predictions: int
    exact: bool
    search: Count
    final: Count
    configs: Sequence[Config]


def plan_of(spec: SweepSpec) -> Plan:
    """Return the plan of a sweep; reads no image.

    Raises:
        UserError: the data set is not there, or a trial is not a valid configuration.
    """
    space = spec.parsed_space()
    sessions = _sessions(spec, validate(spec.base))
    first = [validate(proposal.config) for proposal in next(proposals(spec, SweepLog(spec)))]
    slow = sum(len(round.indices) for round in layout(spec) if round.kind == Kind.SLOW)
    exact = spec.search in SETTLED
    if exact:
        configs = [(config, range(1, _sessions(spec, config) + 1)) for config in first]
        search = count(configs, len(space.predictions))
    else:
        search = _bound(spec, sessions, slow, len(space.predictions))
    chosen, control = refit_config(spec, first[0].flat(), {}), control_config(spec)
    refits = [validate(final_config(chosen, repeat)) for repeat in range(spec.seeds)]
    controls = [validate(final_config(control, repeat)) for repeat in range(spec.seeds if spec.control else 0)]
    each = [(config, range(1, session_count(config) + 1)) for config in [*refits, *controls]]
    # The chosen settings are not known yet, so nothing but the seed tells how the two kinds of runs share.
    refitted = sum(len(sessions) for _, sessions in each)
    refitted += spec.seeds * session_count(refits[0]) if spec.raced else 0  # those of the rival
    final = Count(refitted, refitted, refitted)
    return Plan(spec, sessions, slow, len(space.predictions), exact, search, final, first)


def count(runs: Iterable[tuple[Config, range]], predictions: int) -> Count:
    """Return what runs (configuration, sessions) come to when they share what they have in common."""
    unshared, trained = 0, set[str]()
    states: dict[str, set[tuple[str, int, str]]] = {"slow": set(), "fast": set()}
    for config, sessions in runs:
        flat = config.flat()
        heads = repr([flat[name] for name in acting(Acts.HEADS)])
        for session in sessions:
            states["slow"].add((sharing_key(config, 1), session, heads))
            if session > 1 and config.fast.epochs > 0:
                states["fast"].add((sharing_key(config, session), session, heads))
            if (config.slow if session == 1 else config.fast).epochs > 0:
                unshared += 1
                trained.add(sharing_key(config, session))
    fast = {key for key, _, _ in states["fast"]}
    slow = {(key, session) for key, session, _ in states["slow"]}
    read = sum(map(len, states.values()))
    # A frozen slow learner reads the training and the judging images of every session once; the fast one, after each
    # of its sessions, those of that session and all that judge it.
    stages = {"slow": len(trained - fast), "fast": len(fast & trained), "features": 2 * len(slow) + 2 * len(fast)}
    return Count(unshared * predictions, unshared, len(trained), {**stages, "readout": read, "logits": read})


def _bound(spec: SweepSpec, sessions: int, slow: int, predictions: int) -> Count:
    """Return the most that a search comes to whose trials are not known yet."""
    trains_slow = "slow.epochs" in spec.space or spec.base["slow.epochs"] > 0
    trains_fast = "fast.epochs" in spec.space or spec.base["fast.epochs"] > 0
    first, later = int(trains_slow), (sessions - 1) * int(trains_fast)
    alone, trials = slow * first, spec.trials * (first + later)
    # Trials that carry a slow setting on find its session 1 trained.
    trained = alone + spec.trials * later + (0 if slow else spec.trials * first)
    slow_states, fast_states = slow or spec.trials, spec.trials * later
    read = slow_states * sessions + fast_states
    stages = {
        "slow": slow_states * first,
        "fast": fast_states,
        "features": 2 * slow_states * sessions + 2 * fast_states,
        "readout": read,
        "logits": read,
    }
    return Count(alone + trials * predictions, alone + trials, trained, stages)


def race_budget(spec: SweepSpec, searched: int) -> int:
    """Return the training sessions after which a race begins no further seed: asked for, or half of the search's."""
    return spec.race_sessions or math.ceil(searched / 2)


def seconds(plan: Plan, speed: Speed) -> tuple[float, float]:
    """Return the estimated wall time of the search and of the final runs, at the plan's concurrency."""
    config = plan.configs[0]
    each = speed.session_seconds(config, plan.sessions)
    training = sum(train for train, _ in each) / max(1, len(each))
    closing = sum(close for _, close in each)
    jobs = plan.slow + plan.spec.trials
    limit = plan.search.trained if plan.spec.stages else plan.search.unshared
    limit = min(limit, plan.spec.max_sessions or limit)
    first = each[0][0] * min(limit, plan.search.stages["slow"])
    later = sum(train for train, _ in each[1:]) / max(1, len(each) - 1) * max(0, limit - plan.search.stages["slow"])
    audit = closing * plan.spec.trials if plan.spec.audit else 0.0
    search = (first + later + closing * jobs + audit) / plan.spec.concurrency
    refits = plan.final.trained / plan.sessions
    return search, (training * plan.final.trained + closing * refits) / plan.spec.concurrency


def outcome(plan: Plan, speed: Speed | None = None) -> dict[str, Any]:
    """Return the plan as one object for programs."""
    spec = plan.spec
    times = dict(zip(("search_seconds", "final_seconds"), seconds(plan, speed), strict=True)) if speed else {}
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
        **times,
    }


def show_counts(plan: Plan, console: Console) -> None:
    """Print what is known before anything is timed, for people."""
    spec = plan.spec
    console.print(_network(validate(spec.base)), highlight=False, soft_wrap=True)
    console.print(f"plan · {spec.dataset} · {spec.search} search · selection {spec.selection}")
    slow = f"{plan.slow} slow settings judged alone, then " if plan.slow else ""
    console.print(f"{slow}{spec.trials} trials of {plan.sessions} sessions, scored at {plan.predictions} predictions")
    table = Table(title=f"training sessions of the search{'' if plan.exact else ', at most'}", title_justify="left")
    table.box, table.pad_edge, table.title_style, table.show_header = None, False, "", False
    for words, number in (
        ("every combination a run of its own", plan.search.naive),
        ("settings of prediction sharing a run", plan.search.unshared),
        ("with the stage tree", plan.search.trained),
    ):
        table.add_row(words, str(number))
    console.print(table)
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


def show_time(plan: Plan, speed: Speed, console: Console) -> None:
    """Print how long it will take, for people."""
    spec, most = plan.spec, "" if plan.exact else "at most "
    search, final = seconds(plan, speed)
    runs = f"{spec.concurrency} run{'s' if spec.concurrency > 1 else ''} at a time, {spec.threads} threads each"
    console.print(
        f"estimated time ({runs}): search {most}{duration(max(1, search))}, final runs {duration(max(1, final))}; "
        "from a probe of a few batches, so rough"
    )


def _network(config: Config) -> str:
    """Return the backbone and what it is given, in one line."""
    from safe.backbones.loading import skeleton
    from safe.backbones.network_input import described, network_input

    chosen = config.backbone
    vit = skeleton(chosen.name, chosen.image_size)
    return described(chosen.name, vit, network_input(vit, chosen.image_size, chosen.input_norm, chosen.crop_pct))


def _sessions(spec: SweepSpec, config: Config) -> int:
    count = session_count(config)
    return min(count, spec.first_k or count)
