"""Specifications: what a name stands for, and how it may grow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safe.errors import Notice, UserError
from sweeps.spec.continuing import continued
from sweeps.spec.names import NAME_LENGTH, checked_name, default_name
from sweeps.spec.options import build_spec
from sweeps.spec.specs import SweepSpec, read_spec

MakeSpec = Callable[..., SweepSpec]


def test_the_digest_follows_what_defines_results(make_spec: MakeSpec) -> None:
    spec = make_spec()
    for same in ({"name": "other"}, {"trials": 9}, {"seeds": 9}, {"concurrency": 1}):
        assert make_spec(**same).digest() == spec.digest(), same
    changed_base = {**spec.base, "slow.lr": 0.5}
    others: list[dict[str, Any]] = [{"base": changed_base}, {"search_seed": 1}, {"holdout_share": 0.3}, {"threads": 2}]
    for other in [*others, {"space": {}}]:
        assert make_spec(**other).digest() != spec.digest(), other


def test_trials_are_judged_on_the_holdout_and_marked_sweeps_on_test(make_spec: MakeSpec) -> None:
    spec = make_spec()
    config = spec.trial_config({"fast.cross_weight": 0.0})
    assert config["data.evaluate_on"] == "holdout"
    assert config["data.holdout_share"] == 0.2
    assert config["runtime.threads"] == 1
    reproduction = make_spec(selection="test")
    config = reproduction.trial_config({"fast.cross_weight": 0.0})
    assert config["data.evaluate_on"] == "test"
    assert config["data.holdout_share"] == 0.0


def test_another_order_of_classes_is_told_by_where_it_begins_to_differ(make_spec: MakeSpec) -> None:
    names = [f"class {number}" for number in range(100)]
    old = make_spec(base=make_spec().base | {"data.class_order": names})
    new = make_spec(base=old.base | {"data.class_order": [*names[:40], names[41], names[40], *names[42:]]})
    with pytest.raises(
        UserError, match=r"data.class_order: 100 with 'class 40' in place 41 -> 100 with 'class 41' there\n"
    ):
        continued(old, new)


def test_a_name_with_other_settings_is_refused_with_every_difference(make_spec: MakeSpec) -> None:
    old = make_spec()
    new = make_spec(
        base={**old.base, "fast.epochs": 3, "runtime.threads": 1},
        space={"aggregation.temperature": {"grid": [1.0]}},
        selection="test",
        trials=1,
    )
    with pytest.raises(UserError) as caught:
        continued(old, new)
    text = str(caught.value)
    for part in (
        "'demo'",
        "fast.epochs: 5 -> 3",
        "selection: holdout -> test",
        "space fast.cross_weight: {'choice': [0.0, 1.0]} -> (absent)",
        "space aggregation.temperature: {'grid': [0.1, 1.0, 10.0]} -> {'grid': [1.0]}",
        "trials: 2 -> 1 (can only grow)",
        "Choose another name",
    ):
        assert part in text, part


def test_more_trials_and_seeds_extend_and_concurrency_is_free(make_spec: MakeSpec) -> None:
    grown = continued(make_spec(), make_spec(trials=5, seeds=4, concurrency=1, threads=2))
    assert (grown.trials, grown.seeds, grown.concurrency) == (5, 4, 1)
    # Threads not asked for stay as they were, or the new trials would not compare with the old ones.
    assert grown.threads == 1


def test_threads_divide_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.spec.machine.core_count", lambda: 8)
    common = {"name": "a", "dataset": "digits", "overrides": ["runtime.device=cpu"]}
    spec = build_spec(**common)  # type: ignore[arg-type]
    assert (spec.concurrency, spec.threads) == (8, 1)
    spec = build_spec(**common, concurrency=3)  # type: ignore[arg-type]
    assert (spec.concurrency, spec.threads) == (3, 2)
    overrides = [*common["overrides"], "runtime.threads=3"]
    spec = build_spec(name="a", dataset="digits", overrides=overrides)
    assert (spec.concurrency, spec.threads) == (2, 3)


def test_a_setting_on_the_command_line_is_fixed_for_every_trial(tmp_path: Path) -> None:
    spec = build_spec(name="a", dataset="digits", overrides=["fast.cross_weight=0.5", "runtime.device=cpu"])
    assert "fast.cross_weight" not in spec.space
    assert spec.trial_config({"slow.diag_weight": 1.0})["fast.cross_weight"] == 0.5
    (tmp_path / "space.yaml").write_text("fast.cross_weight: {choice: [0.1, 0.2]}")
    with pytest.raises(UserError, match=r"not both: fast\.cross_weight"):
        build_spec(name="a", dataset="digits", overrides=["fast.cross_weight=0"], space=tmp_path / "space.yaml")


def test_bad_input_is_refused_in_words() -> None:
    with pytest.raises(UserError, match="--trials must be at least 1, got 0"):
        build_spec(name="a", dataset="digits", trials=0)
    with pytest.raises(UserError, match="Did you mean 'holdout'"):
        build_spec(name="a", dataset="digits", selection="holdot")
    with pytest.raises(UserError, match="Did you mean 'digits'"):
        build_spec(name="a", dataset="digit")
    with pytest.raises(UserError, match="with --dataset glyphs"):
        build_spec(name="a", dataset="digits", overrides=["dataset=glyphs"])
    with pytest.raises(UserError, match="decided by --selection"):
        build_spec(name="a", dataset="digits", overrides=["data.evaluate_on=test"])
    for name in ("", "../up", "a b", ".hidden", "a" * (NAME_LENGTH + 1), "ä", "a\n"):
        with pytest.raises(UserError, match="cannot name a sweep"):
            checked_name(name)
    assert checked_name("digits-2026.11_a") == "digits-2026.11_a"


def test_a_sweep_without_a_name_is_called_after_data_set_and_time() -> None:
    name = build_spec(name=None, dataset="digits", overrides=["runtime.device=cpu"]).name
    dataset, day, clock = name.split("-")
    assert dataset == "digits"
    assert len(day) == 8
    assert len(clock) == 6


def test_a_default_name_is_valid_whatever_the_data_set_is_called() -> None:
    assert default_name("digits", "ablation") == "digits-ablation"
    for dataset in ("/data/my birds(1)", "/data/Vögel", "/data/" + "x" * 200, "/data/..."):
        assert checked_name(default_name(dataset, "20260101-120000")).endswith("-20260101-120000")


def test_a_search_of_nothing_is_refused() -> None:
    weights = ("slow.diag_weight", "slow.offdiag_weight", "fast.feature_weight", "fast.cross_weight")
    fixed = [*(f"{name}=1" for name in weights), "head.kind=ridge"]
    with pytest.raises(UserError, match=r"nothing is left to search.*TRIALS=1"):
        build_spec(name="a", dataset="digits", overrides=fixed)
    assert build_spec(name="a", dataset="digits", overrides=fixed, trials=1).trials == 1


def test_what_may_change_without_touching_results_is_free_on_a_continuation(make_spec: MakeSpec) -> None:
    old = make_spec(max_sessions=10, round_size=4, created="then")
    changes: dict[str, Any] = {
        "max_sessions": None,
        "max_hours": 2.0,
        "stages": False,
        "trial_timeout": 60.0,
        "retries": 0,
        "gpus_per_trial": 0.5,
        "checkpoints": "none",
        "audit": False,
    }
    new = continued(old, make_spec(**changes, round_size=9, created="now"))
    assert {name: getattr(new, name) for name in changes} == changes
    # A round is part of the search, so it stays as it began.
    assert (new.round_size, new.created) == (4, "then")  # type: ignore[union-attr]
    for change in ({"stop": "asha"}, {"search": "tpe"}, {"objective": "accuracy"}, {"search_seed": 1}, {"carried": 1}):
        with pytest.raises(UserError, match=next(iter(change))):
            continued(old, make_spec(**change))


def test_a_space_may_grow_wider_and_not_narrower(make_spec: MakeSpec) -> None:
    old = make_spec()
    wider = {
        "fast.cross_weight": {"zero_or_loguniform": [0.1, 1.0]},
        "aggregation.temperature": {"grid": [0.1, 1.0, 10.0, 100.0]},
        "slow.lr": {"loguniform": [old.base["slow.lr"], 1.0]},
    }
    assert continued(old, make_spec(space=wider)).space == wider  # type: ignore[union-attr]
    for space, words in (
        ({**wider, "slow.lr": {"loguniform": [0.5, 1.0]}}, r"space slow\.lr: \(absent\) -> .* \(can only grow wider\)"),
        ({**wider, "fast.cross_weight": {"choice": [1.0]}}, r"space fast\.cross_weight"),
        ({"aggregation.temperature": wider["aggregation.temperature"]}, r"fast\.cross_weight.* -> \(absent\)"),
    ):
        with pytest.raises(UserError, match=words):
            continued(old, make_spec(space=space))


CPU = ["runtime.device=cpu"]


def test_a_sweep_goes_on_in_its_own_space_where_none_is_asked_for() -> None:
    """As one does that began before the preset's space had heads."""
    today = build_spec(name="a", dataset="quickstart", overrides=CPU)
    assert "head.kind" in today.space
    before = {name: entry for name, entry in today.space.items() if name != "head.kind"}
    old = read_spec(json.loads(today.model_copy(update={"space": before}).model_dump_json()))
    goes_on = continued(old, today)
    assert isinstance(goes_on, SweepSpec)
    assert goes_on.space == before
    asked = build_spec(name="a", dataset="quickstart", overrides=CPU, space=today.space)
    wider = continued(old, asked)
    assert isinstance(wider, SweepSpec)
    assert wider.space == today.space
    assert "space_asked" not in today.model_dump()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"selection": "first-k"}, "--selection first-k needs --first-k"),
        ({"first_k": 2}, "--first-k 2 belongs to --selection first-k, but the selection is holdout"),
        ({"selection": "first-k", "first_k": 0}, "--first-k must be at least 1, got 0"),
        ({"selection": "transfer"}, "--selection transfer needs --evaluate-on"),
        ({"evaluate_on": "glyphs"}, "--evaluate-on glyphs belongs to --selection transfer"),
        ({"selection": "transfer", "evaluate_on": "digits"}, "is the data set of the search itself"),
        ({"selection": "transfer", "evaluate_on": "glyph"}, "Did you mean 'glyphs'?"),
        ({"max_hours": 0.0}, "--max-hours must be above 0, got 0"),
        ({"max_sessions": 0}, "--max-sessions must be at least 1, got 0"),
        ({"trial_timeout": -1.0}, "--trial-timeout must be above 0, got -1"),
        ({"retries": -1}, "--retries must be at least 0, got -1"),
        ({"slow_candidates": 0}, "--slow-candidates must be at least 1, got 0"),
        (
            {"stop": "hyperband"},
            "unknown stop 'hyperband'; choose one of: none, asha, auto, below:session=2,accuracy=0.4.",
        ),
        ({"gpus_per_trial": "2.5"}, "--gpus-per-trial must be auto, a share in (0, 1] or a whole number, got 2.5"),
        ({"gpus_per_trial": "half"}, "got half"),
        ({"gpus_per_trial": "1"}, "--gpus-per-trial 1: there is no GPU that runs may take; leave it out"),
        ({"checkpoints": "newest"}, "unknown checkpoints 'newest'"),
        ({"objective": "acuracy"}, "Did you mean 'accuracy'?"),
        ({"search": "grid"}, "the space has ranges for"),
        ({"overrides": ["data.evaluate_on=holdout"]}, "decided by --selection, which is one of holdout, first-k"),
    ],
)
def test_every_option_is_checked_in_one_message(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        build_spec(**{"name": "a", "dataset": "digits", "overrides": CPU, **asked})
    assert words in str(caught.value)


@pytest.mark.parametrize("search", ["tpe", "random", "staged"])
def test_more_trials_than_the_space_holds_are_told_and_left_out(tmp_path: Path, search: str) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("fast.cross_weight: {grid: [0, 1]}\nslow.lr: {grid: [0.01, 0.02]}\n")
    with pytest.warns(Notice, match="the space is used up: 4 different trials are all there are of the 10 asked for"):
        spec = build_spec(name="a", dataset="digits", trials=10, search=search, space=file, overrides=CPU)
    assert spec.trials == 4


def test_a_grid_without_trials_is_all_of_it(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text("fast.cross_weight: {grid: [0, 1, 2]}\nslow.lr: {grid: [0.01, 0.02]}\n")
    asked: dict[str, Any] = {"name": "a", "dataset": "digits", "overrides": CPU, "space": file, "search": "grid"}
    assert build_spec(**asked).trials == 6
    assert build_spec(**asked, trials=4).trials == 4
    assert build_spec(**asked, trials=99).trials == 6


def test_entries_of_the_preset_space_that_lose_their_effect_go(tmp_path: Path) -> None:
    spec = build_spec(name="a", dataset="digits", overrides=[*CPU, "fast.epochs=0", "aggregation.kind=slow"])
    assert list(spec.space) == ["slow.diag_weight", "slow.offdiag_weight", "head.kind"]


def test_defaults_follow_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.spec.machine.core_count", lambda: 8)
    asked: dict[str, Any] = {"name": "a", "dataset": "digits", "overrides": CPU}
    spec = build_spec(**asked)
    assert (spec.search, spec.selection, spec.objective) == ("staged", "holdout", "average_accuracy")
    assert (spec.round_size, spec.slow_count, spec.carried_count) == (8, 8, 2)
    assert (spec.stages, spec.control, spec.audit) == (True, True, True)
    assert build_spec(**asked, concurrency=2).round_size == 4
    assert not build_spec(**asked, stages=False).audit
    assert build_spec(**asked, stages=False, audit=True).audit
    assert not build_spec(**asked, selection="test").audit
    # Slow candidates with two heads, trials, the same once more for the audit, and as many controls as final runs.
    assert spec.runs == 2 * 8 + 2 * 8 + 2 * 3 + (3 + 3), "beside: final runs of a rival, audits of three baselines"
