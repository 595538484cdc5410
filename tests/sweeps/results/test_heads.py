"""Heads that a staged search judged on the same features, and what is told of them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.simulator import Rehearsal
from safe.config import load_config
from safe.io.tables import Table
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.report.page import Section
from sweeps.report.sections import report_page
from sweeps.report.terminal import show
from sweeps.results.heads import head_scores, head_words
from sweeps.results.slow import with_best_head
from sweeps.results.summary import sweep_summary
from sweeps.spec.options import build_spec
from tracking.recorder import Status

DIAG = [0.0, 0.01, 1.0]  # 0.01 is the preset's
SPACE = {
    "slow.diag_weight": {"grid": DIAG},
    "fast.cross_weight": {"grid": [0.0, 1.0]},
    "head.kind": {"choice": ["ridge", "gaussian", "class_means"]},
}
WORTH = {"ridge": 0.0, "gaussian": 0.05, "class_means": -0.1}


def level(config: Mapping[str, Any]) -> float:
    """Return an accuracy that a head changes by as much on all features, but on those of the largest weight."""
    kind, diag = config["head.kind"], config["slow.diag_weight"]
    worth = 0.02 if (kind, diag) == ("class_means", 1.0) else WORTH[kind]
    return 0.7 + worth + 0.02 * DIAG.index(diag) - 0.1 * (config["pet.kind"] == "none")


@pytest.fixture
def log(fake: Any) -> SweepLog:
    spec = build_spec(
        name="a",
        dataset="digits",
        space=SPACE,
        trials=4,
        seeds=2,
        slow_candidates=3,
        audit=False,
        race_sessions=1000,
        overrides=["runtime.device=cpu", "runtime.threads=1"],
    )
    return Rehearsal(spec).run(fake(level))


def test_heads_are_compared_on_the_features_that_all_of_them_judged(log: SweepLog) -> None:
    metric, scores = head_scores(log)
    assert metric == "slow/average_accuracy"
    assert [(one.head, one.slow) for one in scores] == [("gaussian", 3), ("ridge", 3), ("class_means", 3)]
    means = {one.head: one.score for one in scores}
    assert means["gaussian"] - means["ridge"] == pytest.approx(0.05)
    assert means["class_means"] - means["ridge"] == pytest.approx((-0.1 - 0.1 + 0.02) / 3)
    next(job for job in log.of_kind(Kind.SLOW) if job.config["head.kind"] == "class_means").status = Status.FAILED
    assert {one.slow for one in head_scores(log)[1]} == {2}


def test_every_slow_setting_is_shown_once_with_its_best_head(log: SweepLog) -> None:
    best = [(job.config["slow.diag_weight"], job.config["head.kind"]) for job in with_best_head(log)]
    assert best == [(1.0, "gaussian"), (0.01, "gaussian"), (0.0, "gaussian")]
    text = io.StringIO()
    show(log, Path("results/sweeps/a"), Console(file=text, width=80))
    told = " ".join(text.getvalue().split())
    assert max(map(len, text.getvalue().splitlines())) <= 80
    assert "heads on the same features of 3 slow settings, average accuracy of the slow learner: gaussian" in told
    assert "setting diag average seeds slow" in told, "they have the same head, which needs no column"
    assert "trial diag cross head temp." in told
    table = next(
        block
        for section in report_page(log, {}).sections
        if isinstance(section, Section) and section.id == "slow-settings"
        for block in section.blocks
        if isinstance(block, Table)
    )
    assert len(table.rows) == 3


def test_what_of_a_lead_is_the_heads_is_said(log: SweepLog) -> None:
    against = sweep_summary(log)["race"]["against"]
    assert against["heads"] == ["gaussian", "ridge"]
    text = io.StringIO()
    show(log, Path("results/sweeps/a"), Console(file=text, width=300))
    words = f"{against['safe']} has the head gaussian, {against['baseline']} ridge: on the same features of the slow"
    assert f"{words} learner that makes 5.0 points" in text.getvalue()


def test_a_head_is_told_by_what_has_an_effect() -> None:
    names = ["head.kind", "head.activation", "head.features"]
    config = load_config("digits").flat()
    assert head_words(config, names) == "ridge relu own"
    assert head_words({**config, "head.kind": "class_means"}, names) == "class_means own"
    assert head_words(config, []) == ""


def test_without_a_choice_of_heads_there_is_nothing_to_compare() -> None:
    spec = build_spec(name="a", dataset="digits", overrides=["runtime.device=cpu", "head.kind=ridge"])
    assert head_scores(SweepLog(spec)) == ("slow/average_accuracy", [])


def test_a_list_that_every_trial_has_is_told_shortly(fake: Any) -> None:
    spec = build_spec(
        name="a",
        dataset="digits",
        space={"slow.diag_weight": {"grid": DIAG}, "head.ridge_grid": [10, 1e3, 1e8]},
        search="random",
        trials=2,
        seeds=1,
        finalists=0,
        audit=False,
        overrides=["runtime.device=cpu", "runtime.threads=1"],
    )
    text = io.StringIO()
    show(Rehearsal(spec).run(fake(level)), Path("results/sweeps/a"), Console(file=text, width=300))
    assert "head.ridge_grid=[10, 1000, 1e8]" in text.getvalue()
