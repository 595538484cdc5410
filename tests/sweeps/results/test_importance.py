"""How much each setting matters, and which ranges should be wider."""

from __future__ import annotations

import random
from typing import Any

import optuna
import pytest

from sweeps.results.importance import (
    Edge,
    Importance,
    edge_words,
    edges,
    importance,
    importance_record,
    importances,
)
from sweeps.spec.space import Space

from ..report.made_up import make_log

SPACE = Space.of(
    {
        "slow.diag_weight": {"zero_or_loguniform": [1e-3, 10]},
        "slow.offdiag_weight": {"uniform": [1, 9]},
        "pet.kind": {"choice": ["adapter", "ssf"]},
        "aggregation.temperature": {"grid": [0.1, 1.0, 10.0]},
    }
)
Settings = list[dict[str, Any]]


def drawn(trials: int, seed: int = 0) -> Settings:
    rng = random.Random(seed)
    return [SPACE.settings({n: d.at(rng.random()) for n, d in SPACE.domains.items()}) for _ in range(trials)]


def test_the_shares_are_those_of_optunas_evaluator_over_positions_in_the_space() -> None:
    settings = drawn(60)
    scores = [row["slow.offdiag_weight"] + 2.0 * (row["pet.kind"] == "ssf") for row in settings]
    study = optuna.create_study(direction="maximize")
    for row, score in zip(settings, scores, strict=True):
        trial = optuna.trial.create_trial(
            params={
                "slow.diag_weight": SPACE.domains["slow.diag_weight"].position(row["slow.diag_weight"]),
                "slow.offdiag_weight": (row["slow.offdiag_weight"] - 1) / 8,
                "pet.kind": row["pet.kind"],
            },
            distributions={
                "slow.diag_weight": optuna.distributions.FloatDistribution(0, 1),
                "slow.offdiag_weight": optuna.distributions.FloatDistribution(0, 1),
                "pet.kind": optuna.distributions.CategoricalDistribution(["adapter", "ssf"]),
            },
            value=score,
        )
        study.add_trial(trial)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.1)
    wanted = optuna.importance.get_param_importances(study, evaluator=evaluator)
    shares = importances(SPACE, settings, scores)
    assert {entry.setting: entry.share for entry in shares} == pytest.approx(wanted)
    assert [entry.setting for entry in shares] == list(wanted)
    assert all(0 <= entry.low <= entry.high <= 1 for entry in shares)


def test_what_decides_the_score_has_nearly_all_of_it_and_more_trials_make_that_surer() -> None:
    def of_offdiag(trials: int) -> Importance:
        settings = drawn(trials)
        return importances(SPACE, settings, [row["slow.offdiag_weight"] for row in settings])[0]

    few, many = of_offdiag(20), of_offdiag(300)
    assert few.setting == many.setting == "slow.offdiag_weight"
    assert many.share > 0.9
    assert many.high - many.low < (few.high - few.low) / 3
    assert of_offdiag(20) == few, "the same every time"


@pytest.mark.parametrize(
    ("settings", "scores", "why"),
    [
        (drawn(5), [float(i) for i in range(5)], "at least 6 finished trials, there are 5"),
        ([], [], "at least 6 finished trials, there are 0"),
        (drawn(1) * 6, [float(i) for i in range(6)], "same settings"),
        (drawn(6), [0.5] * 6, "same score"),
    ],
)
def test_too_little_to_tell_is_said(settings: Settings, scores: list[float], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        importances(SPACE, settings, scores)


def rows(values: list[float], name: str = "slow.offdiag_weight") -> Settings:
    return [{**SPACE.settings({}), "slow.diag_weight": 0.1, "slow.offdiag_weight": 5.0, "pet.kind": "ssf", name: v}
            for v in values]  # fmt: skip


def test_a_winner_at_an_end_asks_for_a_wider_range() -> None:
    scores = [float(i) for i in range(6)]
    at_the_end = edges(SPACE, rows([5, 2, 5, 4, 6, 8.9]), scores)
    assert at_the_end == [Edge("slow.offdiag_weight", 8.9, True, "winner")]
    assert edge_words(at_the_end[0]) == (
        "slow.offdiag_weight: its best value lies at the upper end of its range (8.9); widen it"
    )
    assert edges(SPACE, rows([5, 2, 5, 4, 6, 8.5]), scores) == [], "within the last twentieth or not at all"
    assert edges(SPACE, rows([5, 2, 5, 4, 6, 1.1]), scores)[0].upper is False


@pytest.mark.parametrize("entry", [{"int": [1, 5]}, {"log_int": [1, 5]}, {"quantised": [1, 5.5, 1]}])
def test_the_last_step_of_a_range_is_its_end(entry: Any) -> None:
    space, scores = (
        Space.of({"slow.epochs": {"int": [1, 5]}, "slow.offdiag_weight": entry}),
        [float(i) for i in range(6)],
    )
    assert edges(space, rows([3, 3, 4, 2, 3, 5]), scores) == [Edge("slow.offdiag_weight", 5, True, "winner")]
    assert edges(space, rows([3, 3, 4, 2, 3, 1]), scores) == [Edge("slow.offdiag_weight", 1, False, "winner")]
    assert edges(space, rows([3, 3, 4, 2, 3, 4]), scores) == []
    two = Space.of({"slow.epochs": {"int": [1, 2]}})
    assert edges(two, rows([1, 2, 1, 2, 1, 2], "slow.epochs"), scores) == [], "of two values one is always best"


def test_a_trend_of_the_best_trials_asks_for_it_too() -> None:
    scores = [float(i) for i in range(6)]
    assert edges(SPACE, rows([2, 3, 4, 8.2, 8.0, 7.6]), scores) == [Edge("slow.offdiag_weight", 8.2, True, "trend")]
    assert edges(SPACE, rows([2, 3, 4, 5.0, 8.0, 7.6]), scores) == [], "three of six are the best, all of them"


def test_what_cannot_be_widened_is_left_alone() -> None:
    scores = [float(i) for i in range(6)]
    assert edges(SPACE, rows([1, 2, 1, 2, 1, 0.0], "slow.diag_weight"), scores) == [], "nothing lies below 0"
    assert edges(SPACE, rows([1, 2, 1, 2, 1, 0.001], "slow.diag_weight"), scores) == [], "0 is in the range"
    assert edges(SPACE, rows([5, 2, 5, 4, 6, 8.9]), [0.5] * 6) == [], "all tie"
    bounded = Space.of({"pet.dropout": {"uniform": [0.0, 0.9]}, "slow.offdiag_weight": {"uniform": [1, 9]}})
    dropout = [{**row, "pet.kind": "lora", "pet.dropout": 0.0} for row in rows([5, 5, 5, 5, 5, 5])]
    assert edges(bounded, dropout, scores) == [], "a setting that refuses what lies beyond"


@pytest.mark.parametrize(
    ("goodness", "expected"),
    [
        ([0.5, 0.6, 0.7], [Edge("aggregation.temperature", 10.0, True, "winner")]),
        ([0.7, 0.6, 0.5], [Edge("aggregation.temperature", 0.1, False, "winner")]),
        ([0.5, 0.7, 0.6], []),
        ([0.5, 0.7, 0.7], []),
        ([0.7, 0.7, 0.7], []),
    ],
)
def test_settings_of_prediction_are_judged_on_the_winners_grid(goodness: list[float], expected: list[Edge]) -> None:
    grid = [({"aggregation.temperature": tau}, value) for tau, value in zip([0.1, 1.0, 10.0], goodness, strict=True)]
    assert edges(SPACE, rows([5.0] * 6), [float(i) for i in range(6)], grid) == expected


def test_what_the_ledger_keeps_is_shown_without_reckoning_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    log = make_log(trials=10)
    reckoned = importance(log)
    assert len(reckoned) == 3
    log.apply({"type": "importance", **importance_record(log)})

    def again(*_: Any) -> Any:
        raise AssertionError("reckoned again")

    monkeypatch.setattr("sweeps.results.importance.importances", again)
    assert importance(log) == reckoned
    log.apply({"type": "status", "job": "trial-03", "status": "FAILED", "reason": "x"})
    with pytest.raises(AssertionError, match="reckoned again"):
        importance(log)  # of other trials than those it was reckoned from
