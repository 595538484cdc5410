"""Slow settings over seeds: who is judged again, in which order they stand, and the luck of what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from benchmarks.simulator import KilledError, Rehearsal
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.results.slow import judged_again, lucks, over_seeds, slow_ranking
from sweeps.search.history import read_history
from sweeps.search.layout import Round
from sweeps.spec.options import build_spec
from sweeps.spec.specs import SweepSpec

GRID = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
SPACE = {"slow.diag_weight": {"grid": GRID}, "fast.cross_weight": {"grid": [0.0, 1.0, 2.0]}}
SEED = {0: 0.0, 1: 0.1, 2: -0.1}  # what it does to all settings
LUCKY, GOOD = 2.0, 5.0  # the first is best with the search's seed alone
LUCK = 0.03


def slow(config: Mapping[str, Any]) -> float:
    """Return the accuracy of a slow learner: by its weight, but for one that is lucky once and another that is good."""
    weight, seed = config["slow.diag_weight"], config["seed"]
    level = 0.62 if weight == GOOD else 0.5 + 0.01 * weight
    return level + SEED.get(seed, 0.0) + (0.12 + LUCK if weight == LUCKY and seed == 0 else 0.0)


def level(config: Mapping[str, Any]) -> float:
    if config["pet.kind"] == "none" or config["fast.epochs"] == 0:
        return 0.4 if config["pet.kind"] == "none" else slow(config)
    return slow(config) + 0.01 * config["fast.cross_weight"]


def asked(**changes: Any) -> SweepSpec:
    more = {
        "search": "staged",
        "space": SPACE,
        "trials": 6,
        "slow_candidates": 7,
        "seeds": 1,
        "audit": False,
        **changes,
    }
    return build_spec(name="a", dataset="digits", overrides=["runtime.device=cpu", "runtime.threads=1"], **more)


@pytest.fixture
def log(fake: Callable[..., Any]) -> SweepLog:
    return Rehearsal(asked()).run(fake(level, slow))


def weights(log: SweepLog, ids: list[str]) -> list[float]:
    return [log.jobs[id].config["slow.diag_weight"] for id in ids]


def test_the_better_half_is_judged_by_another_seed_until_two_are_left(log: SweepLog) -> None:
    assert weights(log, judged_again(log, 1)) == [LUCKY, GOOD, 6.0, 4.0], "by the search's seed"
    assert weights(log, judged_again(log, 2)) == [GOOD, LUCKY], "by the mean of two"
    assert judged_again(log, 3) == []
    again = [job for job in log.of_kind(Kind.RACE) if job.variant == "slow"]
    assert len(again) == 4 + 2
    assert {(job.config["seed"], job.config["class_order_seed"] - 1993) for job in again} == {(1, 1), (2, 2)}
    assert {job.config["fast.epochs"] for job in again} == {0}, "alone"


def test_those_that_more_seeds_judged_stand_first_by_their_mean(log: SweepLog) -> None:
    ranked = [job.id for job in slow_ranking(log)]
    assert weights(log, ranked) == [GOOD, LUCKY, 6.0, 4.0, 3.0, 1.0, 0.0]
    seeds = over_seeds(log)
    assert seeds[ranked[1]] == pytest.approx([0.67, 0.62, 0.42])
    assert [len(seeds[id]) for id in ranked] == [3, 3, 2, 2, 1, 1, 1]
    made_of = {trial.config["slow.diag_weight"] for number, trial in log.trials().items() if number}
    assert made_of == {GOOD, LUCKY}, "a sixth of the trials, at least two"


def test_luck_is_what_the_first_seed_gave_beyond_all_of_them(log: SweepLog) -> None:
    trials = {job.config["slow.diag_weight"]: job for job in log.trials().values()}
    luck = lucks(log, trials.values())
    # To the mean of the two that three seeds judged: 0.025 once and -0.05 twice, whatever a seed does to all.
    assert luck[trials[LUCKY].id] == pytest.approx(0.025 - (0.025 - 0.05 - 0.05) / 3)
    assert luck[trials[GOOD].id] == pytest.approx(-0.05)
    assert {weight for weight in trials if luck[trials[weight].id] == 0} <= {0.0, 1.0, 3.0}, "judged once"


def test_the_search_is_told_scores_without_that_luck(log: SweepLog) -> None:
    spec = log.sweep_spec
    seen = read_history(spec, spec.parsed_space(), log, Round(Kind.TRIAL, range(6, 7)))
    told = {
        (one.settings["slow.diag_weight"], one.settings["fast.cross_weight"]): one.goodness[0] for one in seen.trials
    }
    for (weight, cross), goodness in told.items():
        if weight in (GOOD, LUCKY):
            assert goodness == pytest.approx((0.67 if weight == GOOD else 0.62) + 0.01 * cross - 0.01)
    assert log.selected is not None
    assert weights(log, [log.selected["trial"]]) == [GOOD]


def test_one_seed_says_nothing_of_luck(fake: Any) -> None:
    alone = Rehearsal(asked(finalists=0)).run(fake(level, slow))
    assert set(lucks(alone, alone.of_kind(Kind.TRIAL)).values()) == {0.0}
    assert weights(alone, [job.id for job in slow_ranking(alone)])[:2] == [LUCKY, GOOD]


def test_sweeps_that_began_under_older_rules_judge_slow_settings_once(fake: Any) -> None:
    old = SweepSpec.model_validate({**asked().model_dump(), "rules": 2})
    log = Rehearsal(old).run(fake(level, slow))
    assert not [job for job in log.of_kind(Kind.RACE) if job.variant == "slow"]
    assert old.carried_count == 2
    assert SweepSpec.model_validate({**old.model_dump(), "trials": 18}).carried_count == 6
    assert asked(trials=18).carried_count == 3


def test_a_killed_sweep_goes_on_with_the_same_repeats(fake: Any, decisions: Any) -> None:
    whole = Rehearsal(asked())
    wanted = decisions(whole.run(fake(level, slow)))
    for kill_after in (3, 9, 12, 16):
        part = Rehearsal(asked())
        with pytest.raises(KilledError):
            part.run(fake(level, slow), kill_after=kill_after, backwards=True)
        assert decisions(part.again().run(fake(level, slow))) == wanted
