"""The race of a sweep: who is in it, who leaves, who is chosen, and that a resumed one ends as one never stopped."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from rich.console import Console

from benchmarks.simulator import KilledError, Rehearsal
from safe.errors import UserError
from sweeps.ledger.jobs import Job, Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.ledger.record import SessionRecord
from sweeps.report.page import render
from sweeps.report.sections import report_page
from sweeps.report.terminal import describe, show
from sweeps.results.summary import summary_metrics, sweep_summary
from sweeps.spec.options import build_spec
from sweeps.spec.specs import SweepSpec

Runner = Callable[[Job], list[SessionRecord]]
SPACE = {
    "fast.cross_weight": {"grid": [0.0, 1.0, 2.0]},
    "aggregation.temperature": {"grid": [0.1, 1.0]},
    "aggregation.kind": {"grid": ["entropy", "slow"]},
}
BY_CROSS = {0.0: 0.80, 1.0: 0.84, 2.0: 0.86}  # 1.0 is the preset's own


def asked(**changes: Any) -> SweepSpec:
    more = {"search": "grid", "space": SPACE, "trials": 3, "seeds": 2, "audit": False, **changes}
    return build_spec(name="a", dataset="digits", overrides=["runtime.device=cpu", "runtime.threads=1"], **more)


def level(config: Mapping[str, Any]) -> float:
    """Return an accuracy that follows from the settings: the more cross weight the better, RanPAC and no PET worse."""
    if config["pet.kind"] == "none":
        return 0.60
    return 0.70 if config["fast.epochs"] == 0 else BY_CROSS[config["fast.cross_weight"]]


def noisy(config: Mapping[str, Any], spread: float = 0.002) -> float:
    own = Random(repr([config["seed"], config["fast.cross_weight"], config["pet.kind"], config["fast.epochs"]]))
    return level(config) + Random(config["seed"]).gauss(0, 0.01) + own.gauss(0, spread)


def raced(runner: Runner, **changes: Any) -> SweepLog:
    return Rehearsal(asked(**changes)).run(runner)


def test_baselines_come_after_the_slow_settings_that_train_and_before_those_that_do_not(fake: Any) -> None:
    space = {"slow.diag_weight": {"grid": [0.0, 1.0]}, "head.kind": {"grid": ["ridge", "gaussian"]}}
    rehearsal = Rehearsal(asked(search="staged", space=space | SPACE, trials=4))
    rehearsal.run(fake(level))
    rounds = [[(job.kind, job.config["slow.diag_weight"], job.variant) for job in jobs] for jobs in rehearsal.rounds]
    first, second = rounds[0], next(jobs for jobs in rounds if jobs[0][0] == Kind.TRIAL)
    baselines = [(Kind.BASELINE, variant) for variant in ("ranpac", "frozen")]
    assert [(kind, variant) for kind, _, variant in first] == [
        *[(Kind.SLOW, None)] * 2,
        *baselines,
        *[(Kind.SLOW, None)] * 2,
    ]
    weights = [weight for kind, weight, _ in first if kind == Kind.SLOW]
    assert set(weights[:2]) == set(weights[2:]) == {0.0, 1.0}
    assert Kind.BASELINE not in {kind for kind, *_ in second}


def test_baselines_are_judged_as_trials_are_and_are_finalists(fake: Any) -> None:
    log = raced(fake(noisy), race_sessions=100)
    baselines = {str(job.variant): job.config for job in log.of_kind(Kind.BASELINE)}
    assert list(baselines) == ["ranpac", "frozen"], "the preset is a trial of this space"
    ranpac, frozen = baselines["ranpac"], baselines["frozen"]
    assert (ranpac["slow.diag_weight"], ranpac["slow.offdiag_weight"], ranpac["fast.epochs"]) == (0.0, 0.0, 0)
    assert (frozen["pet.kind"], frozen["slow.epochs"], frozen["fast.epochs"]) == ("none", 0, 0)
    for config in baselines.values():
        assert (config["data.evaluate_on"], config["data.holdout_share"]) == ("holdout", 0.2)
    assert log.race is not None
    roles = [(one["job"], one["role"]) for one in log.race["finalists"]]
    assert roles == [
        ("trial-02", "searched"),
        ("trial-00", "searched"),
        ("trial-01", "preset"),
        ("baseline-ranpac", "ranpac"),
        ("baseline-frozen", "frozen"),
    ]
    kinds = {one["role"]: one["prediction"]["aggregation.kind"] for one in log.race["finalists"]}
    assert (kinds["ranpac"], kinds["frozen"]) == ("slow", "slow")
    assert log.race["finalists"][2]["prediction"]["aggregation.temperature"] == log.spec.base["aggregation.temperature"]


def test_every_repeat_has_other_seeds_orders_and_held_out_images_and_none_sees_test_images(fake: Any) -> None:
    log = raced(fake(noisy), race_sessions=100)
    runs = log.of_kind(Kind.RACE)
    assert {run.id for run in runs} >= {"race-02-1", "race-01-1", "race-ranpac-1", "race-frozen-1"}
    for run in runs:
        assert run.repeat is not None
        first = log.jobs["trial-02"].config
        for name in ("seed", "class_order_seed", "data.holdout_seed"):
            assert run.config[name] == first[name] + run.repeat
        assert (run.config["data.evaluate_on"], run.sessions[-1].split) == ("holdout", "val")


def test_the_truly_best_wins_and_the_others_leave(fake: Any) -> None:
    summary = sweep_summary(raced(fake(noisy), race_sessions=1000))["race"]
    assert (summary["winner"], summary["end"], summary["ties"]) == ("trial-02", "one is left", ["trial-02"])
    left = {one["name"]: one["left"] for one in summary["finalists"]}
    assert left["trial-02"] is None
    for name in ("the preset", "RanPAC", "the frozen head"):
        assert left[name]["behind"] == "trial-02"
        assert left[name]["p"] <= 0.05


def test_a_winner_by_luck_is_found_out_and_its_optimism_told(fake: Any) -> None:
    def lucky(config: Mapping[str, Any]) -> float:
        return noisy(config) + (0.10 if config["fast.cross_weight"] == 0.0 and config["seed"] == 0 else 0.0)

    log = raced(fake(lucky), race_sessions=1000, finalists=3)
    summary = sweep_summary(log)["race"]
    assert summary["finalists"][0]["name"] == "trial-00", "the search would have taken it"
    assert summary["winner"] == "trial-02"
    once = raced(fake(lucky), race_sessions=1000, finalists=1)
    assert [one["name"] for one in sweep_summary(once)["race"]["finalists"]][:2] == ["trial-00", "the preset"]
    one = sweep_summary(once)["race"]["finalists"][0]
    assert one["search"] - one["mean"] == pytest.approx(0.10, abs=0.02)


def test_equal_finalists_tie_and_the_preset_stays(fake: Any) -> None:
    log = raced(fake(lambda config: 0.8), race_sessions=1000)
    summary = sweep_summary(log)["race"]
    assert (summary["winner"], summary["end"], summary["repeats"]) == ("the preset", "they tie", 3)
    assert set(summary["ties"]) >= {"the preset", "trial-02", "trial-00"}
    assert summary["optimism"] == pytest.approx(0.0)
    text = io.StringIO()
    show(log, Path("results/sweeps/a"), Console(file=text, width=200))
    assert f"{len(summary['ties'])} settings tie; the preset stays" in text.getvalue()
    assert "chosen minus preset" not in text.getvalue(), "it is the preset"
    assert "On the test images" not in text.getvalue().partition("finalists were raced")[2]


def test_the_better_bet_is_taken_though_it_is_within_noise_and_before_rules_5_the_preset(fake: Any) -> None:
    """Ahead of the preset by 3, -1 and 1 points: 1.0 in the mean, at a standard error of 1.2."""

    def close(config: Mapping[str, Any]) -> float:
        ahead = (0.03, -0.01, 0.01)[config["seed"] % 3] if config["fast.cross_weight"] == 2.0 else 0.0
        return level({**config, "fast.cross_weight": 1.0}) + ahead - 0.1 * (config["fast.cross_weight"] == 0.0)

    few: dict[str, Any] = {"finalists": 1, "race_sessions": 8}
    summary = sweep_summary(raced(fake(close), **few))["race"]
    assert summary["repeats"] == 2
    assert (summary["winner"], summary["ties"], summary["near"]) == ("trial-02", ["trial-02"], ["the preset"])
    before = SweepSpec.model_validate({**asked(**few).model_dump(), "rules": 4})
    for spec, words in (
        (asked(**few), "; trial-02 is chosen; 1 more is within noise of it"),
        (before, "; 2 settings tie; the preset stays"),
    ):
        text = io.StringIO()
        show(Rehearsal(spec).run(fake(close)), Path("results/sweeps/a"), Console(file=text, width=200))
        assert words in text.getvalue()


def test_a_baseline_that_is_better_is_chosen_and_the_first_sentence_says_so(fake: Any) -> None:
    def ranpac_wins(config: Mapping[str, Any]) -> float:
        return noisy(config, 0.0002) + 0.2 * (config["fast.epochs"] == 0 and config["pet.kind"] != "none")

    log = raced(fake(ranpac_wins), race_sessions=1000)
    assert log.selected is not None
    assert log.selected["trial"] == "baseline-ranpac"
    assert log.chosen is not None
    finals = log.finals_of(log.chosen)
    assert [job.id for job in finals] == ["final-ranpac-0", "final-ranpac-1"]
    assert {job.config["fast.epochs"] for job in finals} == {0}
    assert {job.config["aggregation.kind"] for job in finals} == {"slow"}
    against = sweep_summary(log)["race"]["against"]
    assert (against["baseline"], against["safe"]) == ("RanPAC", "trial-02")
    assert against["holdout"]["mean"] == pytest.approx(-0.03, abs=0.01)
    assert against["test"]["mean"] == pytest.approx(-0.03, abs=0.01)
    first, second = describe(log).splitlines()[1:3]
    assert first.startswith("- SAFE (trial-02) is 3.")
    assert "points behind RanPAC on the holdout" in first
    assert first.endswith("RanPAC is chosen")
    assert "points behind RanPAC on test (2 seeds" in second
    assert sweep_summary(log)["race"]["against"]["test"]["pairs"] == 2
    metrics = summary_metrics(log)
    assert len(metrics) <= 39
    assert list(metrics)[:2] == ["test/accuracy", "test/accuracy_std"]
    assert metrics["test/accuracy"] == sweep_summary(log)["final"]["test/accuracy"]["mean"]
    assert not any(name.startswith("val/") for name in metrics)
    assert metrics["race/safe_minus_baseline_test"] == against["test"]["mean"]
    page = render(report_page(log, {}))
    assert "Race of the finalists" in page
    assert first.removeprefix("- ") in page
    assert "RanPAC − control" in page
    assert "what was chosen, RanPAC, has one learner" in page
    text = io.StringIO()
    show(log, Path("folder"), Console(file=text, width=120))
    table = text.getvalue().partition("test accuracy in percent")[2].splitlines()[2:5]
    assert [line[:16].strip() for line in table if line.strip()][:2] == ["RanPAC", "preset (control)"], (
        "no row is SAFE's"
    )


def test_the_budget_ends_it_and_counts_what_has_to_be_trained(fake: Any) -> None:
    # The search: one session 1 of three trials and one later session each, 4; half of it is 2. Of a repeat the two
    # trials share session 1 and train one later session each, RanPAC one session: 4, so the first repeat is the last.
    log = raced(fake(noisy))
    assert log.race is not None
    assert (log.race["budget"], log.race["repeats"]) == (2, 1)
    assert log.race["end"] == "its 2 training sessions are spent"
    longer = raced(fake(lambda config: noisy(config, 0.05)), race_sessions=9)
    assert longer.race is not None
    assert longer.race["repeats"] == 3, "4 and 8 sessions are below 9, 12 are not"


@pytest.mark.parametrize("search", ["grid", "random", "tpe"])
def test_a_resumed_race_ends_as_one_that_was_never_stopped(fake: Any, decisions: Any, search: str) -> None:
    runner = fake(lambda config: noisy(config, 0.01))
    whole = Rehearsal(asked(search=search, race_sessions=12))
    log = whole.run(runner)
    for kill in range(1, len(whole.done), 2):
        rehearsal = Rehearsal(asked(search=search, race_sessions=12))
        with pytest.raises(KilledError):
            rehearsal.run(runner, kill_after=kill, backwards=bool(kill % 3))
        again = rehearsal.again()
        resumed = again.run(runner)
        assert decisions(resumed) == decisions(log)
        assert resumed.race == log.race
        assert len(rehearsal.done) + len(again.done) == len(whole.done), "nothing is done twice"


def test_a_longer_search_races_again_and_keeps_what_was_run(fake: Any) -> None:
    first = Rehearsal(asked(trials=2, race_sessions=1000))
    log = first.run(fake(noisy))
    assert log.selected is not None
    assert log.selected["trial"] == "trial-01"
    longer = first.again(asked(trials=3, race_sessions=1000))
    assert longer.run(fake(noisy)).selected is not None
    assert longer.log.selected is not None
    assert longer.log.selected["trial"] == "trial-02"
    assert "race-01-1" in first.done
    assert "race-01-1" not in longer.done


def test_sweeps_that_began_before_there_were_races_go_on_without_and_none_can_be_asked_for(fake: Any) -> None:
    old = SweepSpec.model_validate({**asked().model_dump(), "rules": 1})
    for spec in (old, asked(finalists=0)):
        log = Rehearsal(spec).run(fake(noisy))
        assert log.race is None
        assert {job.kind for job in log.jobs.values()} == {Kind.TRIAL, Kind.FINAL, Kind.CONTROL}
        assert sweep_summary(log)["race"] is None
    assert not asked(selection="test").raced
    with pytest.raises(UserError, match="--finalists: with --selection test"):
        asked(selection="test", finalists=3)


def test_a_preset_outside_the_space_is_run_beside_it(fake: Any) -> None:
    space = {**SPACE, "fast.cross_weight": {"grid": [0.0, 2.0]}}
    log = raced(fake(noisy), space=space, trials=2, race_sessions=100)
    preset = log.jobs["baseline-preset"]
    assert preset.config["fast.cross_weight"] == log.spec.base["fast.cross_weight"]
    assert {job.variant for job in log.of_kind(Kind.RACE)} >= {"preset", "ranpac", "frozen"}


def test_the_preset_as_rival_is_not_run_beside_the_control(fake: Any) -> None:
    """A frozen head that is better than all of SAFE, whose best is the preset: the control is the preset already."""

    def frozen(config: Mapping[str, Any]) -> float:
        level = 0.9 if config["fast.epochs"] and config["fast.cross_weight"] == 1.0 else 0.5
        own = repr([config["seed"], config["pet.kind"]])
        return (0.98 if config["pet.kind"] == "none" else level) + Random(own).gauss(0, 0.001)

    log = raced(fake(frozen), race_sessions=1000)
    assert log.selected is not None
    assert log.selected["trial"] == "baseline-frozen"
    assert {job.variant for job in log.of_kind(Kind.FINAL)} == {"frozen"}
    against = sweep_summary(log)["race"]["against"]
    assert (against["safe"], against["test"]["pairs"]) == ("the preset", 2)
    assert against["test"]["mean"] == pytest.approx(-0.08, abs=0.005)
    alone = raced(fake(frozen), race_sessions=1000, control=False)
    assert {job.variant for job in alone.of_kind(Kind.FINAL)} == {"frozen", None}, "without a control it is run"
