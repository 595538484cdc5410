"""Searches at equal training cost, rehearsed over a table of real results on glyphs (`benchmarks.tabulate`).

A rehearsal decides exactly as a sweep does and looks its results up. The truth is what the seeds of the table give that
were trained in full, on average; the regret of a choice is what its true accuracy lacks to the best of the grid. Every
rehearsal has seeds of its own, one for its search and one for each repeat of its race: the truth and noise, which is
drawn from the differences of two seeds that were trained. Sessions are those that the stage store does not save, of the
search, the baselines and the race together.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Shown

from benchmarks import tabulate
from benchmarks.tabulate import GRID, IMAGES, MAIN, OTHERS, SESSIONS, SLOW_ALONE, TEMPERATURES, Line, combinations
from safe.errors import Notice, UserError
from safe.types import Work
from sweeps.ledger.jobs import SEARCH_KINDS, Job, Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.ledger.record import SessionRecord
from sweeps.results.selection import choose
from sweeps.search import tpe
from sweeps.search.history import Observation
from sweeps.search.random_ import draw
from sweeps.spec.combinations import key
from sweeps.spec.depth import acts_in_session_1
from sweeps.spec.options import build_spec
from sweeps.spec.specs import SweepSpec
from sweeps.studies.simulator import Rehearsal

REPEATS = 200
BUDGETS = (20, 35, 50)  # training sessions in all
RACE_SHARE = 1 / 3  # of a budget, with baselines
BEFORE_RACE = 2  # sessions that race and baselines need beside a search
TIE = 0.001  # of accuracy: choices that differ by less are equally good
TRIALS = 24  # of a search that STOP may end
TOLD = 2_000  # trials, where the time of a proposal is measured
TRAINED = range(SLOW_ALONE)  # settings of prediction of a trial
SLOW = [name for name in GRID if acts_in_session_1(name)]
SPACE = {name: {"grid": list(values)} for name, values in GRID.items()}
SPACE["aggregation.temperature"] = {"grid": list(TEMPERATURES)}
LEARNED = "tpe that learned"
ALONE: Mapping[str, Mapping[str, Any]] = {
    "random": {"search": "random"},
    "asha over random": {"search": "random", "stop": "asha"},
    "tpe": {"search": "tpe"},
    "staged": {"search": "staged"},
    LEARNED: {"search": "tpe"},
}


Rows = list[list[list[float]]]  # correct pictures by session, setting of prediction and session group


class Table:
    """What every combination gives on some letters: the truth, and seeds about it.

    Attributes:
        seeds: how many were trained in full; the truth is their mean.
        pairs: combinations that two seeds have, from whose differences the noise of a seed is drawn.
        spread: standard deviation of that noise in a trial's objective, as a fraction.
        best: true objective of the best trial.
    """

    def __init__(self, lines: Sequence[Line], first: int = MAIN) -> None:
        by_seed: dict[str, dict[str, Rows]] = {}
        for line in (line for line in lines if int(line["classes"]) == first):
            name = "frozen" if line["kind"] == "frozen" else key({name: float(line[name]) for name in GRID})
            rows: Rows = [[[float(n) for n in groups] for groups in session] for session in tabulate.counts(line)]
            by_seed.setdefault(line["seed"], {})[name] = rows
        names = {"frozen", *(key(settings) for settings in combinations())}
        whole = [seed for seed in by_seed.values() if set(seed) == names]
        if not whole:
            raise UserError("the table has no seed with all combinations; make one: python -m benchmarks.tabulate")
        self.seeds = len(whole)
        self.rows = {name: _mean([seed[name] for seed in whole]) for name in names}
        self._noise = _differences(list(by_seed.values()))
        self.pairs = len(self._noise)
        self.spread = statistics.fmean(objective(one, place) ** 2 for one in self._noise for place in TRAINED) ** 0.5
        truth = {name: [objective(rows, place) for place in range(SLOW_ALONE + 1)] for name, rows in self.rows.items()}
        self.truth = truth
        self.best = max(truth[name][place] for name in names if name != "frozen" for place in TRAINED)

    def seed(self, name: str, which: str) -> Rows:
        """Return what a seed gives: the truth and noise, in session 1 and of the slow learner that of its settings."""
        slow = "" if name == "frozen" else key({setting: json.loads(name)[setting] for setting in SLOW})
        early, late = (random.Random(f"{which} {text}") for text in (f"slow {slow}", name))
        ours, theirs = ((random.choice((-1, 1)), random.choice(self._noise)) for random in (early, late))
        rows: Rows = []
        for session, groups in enumerate(self.rows[name]):
            rows.append([])
            for place, right in enumerate(groups):
                sign, noise = ours if session == 0 or place == SLOW_ALONE else theirs
                added = zip(right, noise[session][place], strict=True)
                rows[-1].append([min(max(n + sign * more, 0.0), IMAGES) for n, more in added])
        return rows

    def regret(self, config: Mapping[str, Any], prediction: Mapping[str, Any]) -> float:
        """Return what a choice lacks to the best of the grid."""
        return self.best - self.truth[row_of(config)][place_of(config, prediction)]


def objective(rows: Rows, place: int) -> float:
    """Return the average accuracy of a run at one of its settings of prediction."""
    return statistics.fmean(sum(groups[place]) / (IMAGES * number) for number, groups in enumerate(rows, start=1))


def _mean(tables: Sequence[Rows]) -> Rows:
    return _each(lambda *values: statistics.fmean(values), *tables)


def _differences(seeds: Sequence[Mapping[str, Rows]]) -> list[Rows]:
    """Return the noise of single runs: of two seeds the differences less their mean, over the root of 2."""
    noise: list[Rows] = []
    for one, other in itertools.combinations(seeds, 2):
        names = sorted((one.keys() & other.keys()) - {"frozen"})
        apart = [_each(lambda a, b: (a - b) / math.sqrt(2), one[name], other[name]) for name in names]
        if len(apart) > 1:
            common, scale = _mean(apart), math.sqrt(len(apart) / (len(apart) - 1))
            noise += [_each(lambda a, b, by=scale: by * (a - b), rows, common) for rows in apart]
    if not noise:
        raise UserError("the table has no two seeds of one combination; go on with: python -m benchmarks.tabulate")
    return noise


def _each(combine: Callable[..., float], *tables: Rows) -> Rows:
    return [
        [[combine(*values) for values in zip(*groups, strict=True)] for groups in zip(*sessions, strict=True)]
        for sessions in zip(*tables, strict=True)
    ]


def row_of(config: Mapping[str, Any]) -> str:
    """Return which runs of the table a configuration is; of the slow learner alone any of its fast settings."""
    if config["pet.kind"] == "none":
        return "frozen"
    alone = config["fast.epochs"] == 0
    return key({name: float(GRID[name][0] if alone and name not in SLOW else config[name]) for name in GRID})


def place_of(config: Mapping[str, Any], prediction: Mapping[str, Any]) -> int:
    """Return the place of a setting of prediction in a line."""
    if config["fast.epochs"] == 0 or prediction["aggregation.kind"] == "slow":
        return SLOW_ALONE
    return TEMPERATURES.index(prediction["aggregation.temperature"])


class Lookup:
    """Gives the sessions of a job from the table, and says which of them have to be trained.

    Args:
        which: of many seeds; jobs of the search and the repeats of the race have one each.
    """

    def __init__(self, table: Table, which: str) -> None:
        self._table, self._which = table, which
        self._stages: set[tuple[Any, ...]] = set()

    def __call__(self, job: Job) -> list[SessionRecord]:
        """Return the session records of a job; nothing for what comes after the choice."""
        if job.kind not in (Kind.TRIAL, Kind.SLOW, Kind.BASELINE, Kind.RACE):
            return []
        seed, name = job.config["seed"], row_of(job.config)
        rows = self._table.seed(name, f"{self._which} {seed}")
        places = [place_of(job.config, prediction) for prediction in job.predictions]
        records = []
        for session in range(1, SESSIONS + 1):
            new = False
            if name != "frozen" and (session == 1 or job.config["fast.epochs"]):
                slow = key({setting: float(job.config[setting]) for setting in SLOW})
                stage = (seed, slow) if session == 1 else (seed, name, session)
                new = stage not in self._stages
                self._stages.add(stage)
            records.append(_record(rows[:session], places, new))
        return records


def _record(rows: Rows, places: Sequence[int], new: bool) -> SessionRecord:
    shares = [[n / IMAGES for n in groups] for groups in rows[-1]]
    alone = {"average_accuracy": objective(rows, SLOW_ALONE), "accuracy": statistics.fmean(shares[SLOW_ALONE])}
    return SessionRecord(
        len(rows),
        SESSIONS,
        "val",
        {f"val/slow/{name}": value for name, value in alone.items()},
        grid=tuple(tuple(shares[place]) for place in places),
        grid_metrics=tuple({} for _ in places),
        counts=(IMAGES,) * len(rows),
        work=Work("trained" if new else "reused", 0.0),
    )


@cache
def specification() -> SweepSpec:
    """Return the sweep that all rehearsals are variations of."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write("\n".join(f"{name}: {entry}" for name, entry in SPACE.items()))
        file.flush()
        return build_spec(
            name="bench-search",
            dataset="quickstart",
            overrides=dict(tabulate.BASE),
            seeds=1,
            trials=len(list(combinations())),
            space=Path(file.name),
            audit=False,
            control=False,
        )


@dataclass(frozen=True)
class Outcome:
    """What a rehearsal came to: sessions trained in all, and the regret of its choice."""

    sessions: int
    regret: float


def rehearse(table: Table, repeat: int, *, learned: Sequence[Mapping[str, Any]] = (), **asked: Any) -> Outcome:
    """Return the outcome of a whole sweep; `asked` changes its specification."""
    log = _log(table, repeat, learned, {"search_seed": repeat, **asked})
    assert log.selected is not None
    chosen = log.jobs[log.selected["trial"]]
    trained = sum(record.trained for job in log.jobs.values() for record in job.sessions)
    return Outcome(trained, table.regret(chosen.config, log.selected["prediction"]))


def alone(
    table: Table, repeat: int, budgets: Sequence[int], *, learned: Sequence[Mapping[str, Any]] = (), **asked: Any
) -> list[Outcome]:
    """Return the outcomes of a search without a race that ends at each of some budgets, the largest last.

    What it does up to a budget does not depend on how it goes on, so that one rehearsal has all of them. The trial that
    is under way when a budget is spent comes to its end, as in a sweep.
    """
    more = {"search_seed": repeat, "finalists": 0, "max_sessions": budgets[-1], **asked}
    log, outcomes = _log(table, repeat, learned, more), []
    jobs = [job for job in log.jobs.values() if job.kind in SEARCH_KINDS]
    for budget in budgets:
        spent, done = 0, []
        for job in jobs:
            if spent >= budget:
                break
            done.append(job)
            spent += sum(record.trained for record in job.sessions)
        best = choose((job for job in done if job.kind == Kind.TRIAL), log.sweep_spec.objective, "val")
        if best is not None:
            outcomes.append(Outcome(spent, table.regret(log.jobs[best.trial].config, best.prediction)))
    return outcomes


def _log(table: Table, repeat: int, learned: Sequence[Mapping[str, Any]], asked: Mapping[str, Any]) -> SweepLog:
    spec = SweepSpec.model_validate({**specification().model_dump(), "round_size": 4, **asked})
    rehearsal = Rehearsal(spec)
    if learned:
        rehearsal.append("learned", trials=list(learned))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # what a sweep tells its user
        return rehearsal.run(Lookup(table, f"{repeat}"))


def lessons_of(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return what trials on the other letters teach, as far as they are in the table."""
    told = []
    for line in (line for line in lines if int(line["classes"]) == OTHERS and line["kind"] == "trial"):
        rows: Rows = [[[float(n) for n in groups] for groups in session] for session in tabulate.counts(line)]
        best = max(objective(rows, place) for place in TRAINED)
        told.append({"sweep": "others", "settings": {name: float(line[name]) for name in GRID}, "goodness": [best]})
    return sorted(told, key=lambda one: one["goodness"], reverse=True)


def run(console: Console) -> list[dict[str, Any]]:
    """Return the rows: every search at every budget, what STOP=auto saves, and the time of a proposal."""
    lines = tabulate.read(Path(os.environ.get("SEARCH_TABLE") or tabulate.TABLE))
    table, learned = Table(lines), lessons_of(lines)
    rows: list[dict[str, Any]] = []
    for name, asked in ALONE.items():
        if name == LEARNED and not learned:
            continue  # the table has no other letters
        told = learned if name == LEARNED else ()
        curves = [alone(table, n, BUDGETS, learned=told, **asked) for n in range(REPEATS)]
        rows += [
            row(name, budget, outcomes) for budget, outcomes in zip(BUDGETS, zip(*curves, strict=True), strict=True)
        ]
    more: dict[str, Any]
    for search, budget in itertools.product(("staged", "tpe"), BUDGETS):
        race = round(RACE_SHARE * budget)
        more = {"search": search, "max_sessions": budget - race, "race_sessions": max(1, race - BEFORE_RACE)}
        rows.append(row(f"{search} + race", budget, [rehearse(table, n, **more) for n in range(REPEATS)]))
    _print(rows, table, console)
    _draw(rows, Path(os.environ.get("RESULTS") or "results") / "bench" / "search.svg")
    stopped = _stopped(table)
    console.print(stopped)
    proposal = {"name": f"a proposal of TPE, {TOLD} trials told, rounds of 4", "milliseconds": proposal_ms(TOLD)}
    console.print(proposal)
    facts = {"name": "the table", "combinations": len(table.truth) - 1, "seeds": table.seeds, "pairs": table.pairs}
    facts |= {"noise_points": 100 * table.spread, "best_accuracy": table.best, "learned": len(learned)}
    return [*rows, facts, stopped, proposal]


def row(name: str, budget: int, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return sessions, regret in points (mean, its standard error, 90th percentile) and the share of best choices."""
    regrets = [100 * outcome.regret for outcome in outcomes]
    return {
        "name": name,
        "budget": budget,
        "sessions": statistics.fmean(outcome.sessions for outcome in outcomes),
        "repeats": len(outcomes),
        "best_or_tied": statistics.fmean(regret <= 100 * TIE for regret in regrets),
        "regret_points": statistics.fmean(regrets),
        "standard_error": statistics.stdev(regrets) / len(regrets) ** 0.5 if len(regrets) > 1 else 0.0,
        "regret_p90": sorted(regrets)[round(0.9 * (len(regrets) - 1))],
    }


def _stopped(table: Table) -> dict[str, Any]:
    """Return what STOP=auto saves of a staged search of TRIALS trials with its race, and what it costs."""
    asked: dict[str, Any] = {"search": "staged", "trials": TRIALS}
    pairs = [tuple(rehearse(table, n, stop=stop, **asked) for stop in ("auto", "none")) for n in range(REPEATS)]
    return {
        "name": "staged + race, STOP=auto",
        "repeats": REPEATS,
        "sessions_stopped": statistics.fmean(auto.sessions for auto, _ in pairs),
        "sessions_whole": statistics.fmean(whole.sessions for _, whole in pairs),
        "saved": 1 - sum(auto.sessions for auto, _ in pairs) / sum(whole.sessions for _, whole in pairs),
        "regret_stopped_points": 100 * statistics.fmean(auto.regret for auto, _ in pairs),
        "regret_whole_points": 100 * statistics.fmean(whole.regret for _, whole in pairs),
    }


def proposal_ms(told: int) -> float:
    """Return the milliseconds of CPU time that TPE takes for one proposal of a round, the median of five rounds."""
    spec = build_spec(name="bench-tpe", dataset="glyphs", overrides={}, search="tpe", trials=told + 4, seeds=1)
    space = spec.parsed_space()
    seen = [Observation(draw(space, 0, number), (random.Random(number).random(),)) for number in range(told)]
    tried = {key(space.settings(one.settings)) for one in seen}
    seconds = []
    for number in range(5):
        began = time.process_time()
        tpe.suggest(space, f"{number}", seen, tried, 4, lambda settings: bool(spec.trial_config(settings)))
        seconds.append(time.process_time() - began)
    return 1000 * statistics.median(seconds) / 4


def _print(rows: list[dict[str, Any]], table: Table, console: Console) -> None:
    title = f"true regret in points (± standard error), and how often the choice is best or within {100 * TIE:g} points"
    shown = Shown(
        title=f"{title}; {REPEATS} repeats, noise of a seed {100 * table.spread:.2f}", title_justify="left", box=None
    )
    for column in ("search", "budget", "sessions", "regret", "p90", "best or tied"):
        shown.add_column(column, justify="left" if column == "search" else "right")
    for line in rows:
        regret = f"{line['regret_points']:.2f} ± {line['standard_error']:.2f}"
        best = f"{100 * line['best_or_tied']:.0f} %"
        p90 = f"{line['regret_p90']:.2f}"
        shown.add_row(line["name"], str(line["budget"]), f"{line['sessions']:.0f}", regret, p90, best)
    console.print(shown)


def _draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the true regret by budget, with its standard error, one line a search."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.8))
    for name in dict.fromkeys(line["name"] for line in rows):
        mine = [line for line in rows if line["name"] == name]
        columns = ([line[column] for line in mine] for column in ("sessions", "regret_points", "standard_error"))
        style = "-" if name.endswith("race") else "--"
        axes.errorbar(*columns, fmt=style, marker="o", markersize=3, capsize=2, label=name)
    axes.set_xlabel("training sessions, race and baselines included")
    axes.set_ylabel("true regret, points")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
