"""Two sweeps side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safe.io.tables import Table
from sweeps.cli import main
from sweeps.ledger.ledger import Ledger, SweepLog
from sweeps.report.compare import comparison_page, paired
from sweeps.report.page import Figure, Page, Section, Text, render

from .made_up import make_log


def two(**changes: Any) -> tuple[SweepLog, SweepLog]:
    return make_log(name="one", trials=6), make_log(**{"name": "two", "trials": 8, **changes})


def part(page: Page, id: str) -> Section:
    return next(section for section in page.shown if section.id == id)


def table(section: Section, index: int = 0) -> Table:
    return [block for block in section.blocks if isinstance(block, Table)][index]


def set_accuracy(log: SweepLog, values: list[float]) -> None:
    for job, value in zip(log.of_kind("final"), values, strict=True):
        job.sessions[-1].metrics["test/accuracy"] = value


def test_differences_are_paired_by_seed_whatever_their_order() -> None:
    first, second = two()
    set_accuracy(first, [0.80, 0.82, 0.84])
    set_accuracy(second, [0.81, 0.85, 0.86])
    finals = second.of_kind("final")
    for job, seed in zip(finals, (2, 0, 1), strict=True):
        job.config.update(seed=seed, class_order_seed=1993 + seed)
    # Seed 0: 0.85 - 0.80, seed 1: 0.86 - 0.82, seed 2: 0.81 - 0.84.
    differences = np.array([0.05, 0.04, -0.03])
    half = 4.302652729911275 * differences.std(ddof=1) / 3**0.5  # t quantile 0.975 of 2 degrees of freedom
    rows = {row[0]: row for row in table(part(comparison_page(first, second), "answers")).rows}
    assert rows["final accuracy (%)"][3:] == [f"+{100 * differences.mean():.1f} ± {100 * half:.1f}", "within noise"]


def test_a_clear_difference_is_called_so_and_less_forgetting_is_better() -> None:
    first, second = two()
    for shift, jobs in ((0.0, first.of_kind("final")), (0.05, second.of_kind("final"))):
        for repeat, job in enumerate(jobs):
            job.sessions[-1].metrics["test/accuracy"] = 0.8 + 0.01 * repeat + shift + 0.001 * repeat * shift
            job.sessions[-1].metrics["test/forgetting"] = 0.1 + 0.01 * repeat - shift * (1 + 0.01 * repeat)
    rows = {row[0]: row for row in table(part(comparison_page(first, second), "answers")).rows}
    assert rows["final accuracy (%)"][-1] == "better, beyond noise"
    assert rows["forgetting (%)"][-1] == "better, beyond noise"


def test_without_two_common_seeds_no_interval_is_given() -> None:
    first, second = two()
    for job in second.of_kind("final"):
        job.config["seed"] += 2  # only seed 2 is left, with another class order
    section = part(comparison_page(first, second), "answers")
    assert all(row[3:] == ["–", "–"] for row in table(section).rows)
    assert "0 seeds in common" in " ".join(block.text for block in section.blocks if isinstance(block, Text))
    assert paired(first.of_kind("final")[:1], second.of_kind("final")[:1], "accuracy") is None


def test_only_settings_that_differ_are_listed() -> None:
    section = part(comparison_page(*two(search="tpe")), "settings")
    assert [list(row) for row in table(section).rows] == [["trials", "6", "8"], ["search", "random", "tpe"]]
    first, second = two(trials=6)
    page = comparison_page(first, second)
    assert "Settings that differ" in {entry.title for entry in page.missing}


def test_chosen_configurations_are_set_beside_each_other() -> None:
    first, second = two()
    second.apply({"type": "selected", "trial": "trial-02", "prediction": second.jobs["trial-02"].predictions[0]})
    rows = {row[0]: row[1:] for row in table(part(comparison_page(first, second), "settings"), 1).rows}
    assert rows == {
        "slow.diag_weight": ["0.01", "0.1"],
        "fast.cross_weight": ["1", "10"],
        "pet.kind": ["ssf", "adapter"],
        "aggregation.temperature": ["1", "0.1"],
    }


def test_what_cannot_be_compared_is_said() -> None:
    first, second = two()
    assert comparison_page(first, second).banners == []
    sessions = second.of_kind("final")[0].sessions
    sessions[0] = replace(sessions[0], provenance={**sessions[0].provenance, "data_digest": "another"})
    assert "not on the same data" in comparison_page(first, second).banners[0]
    assert "different data sets: digits and glyphs" in comparison_page(first, make_log(dataset="glyphs")).banners[0]
    assert "selected on test" in comparison_page(first, make_log(selection="test")).banners[0]
    assert "4 and 5 sessions" in comparison_page(first, make_log(sessions=5)).banners[0]


def test_searches_and_their_cost_stand_side_by_side() -> None:
    page = comparison_page(*two())
    assert [list(row[:3]) for row in table(part(page, "progress")).rows] == [["one", "6", "21"], ["two", "8", "28"]]
    rows = {row[0]: list(row[1:]) for row in table(part(page, "work")).rows}
    assert rows["sessions trained by the search"] == ["21", "28"]
    assert rows["sessions reused"] == ["3", "4"]
    assert rows["sessions if every combination were a run"] == ["72", "96"]
    figures = [block for section in page.shown for block in section.blocks if isinstance(block, Figure)]
    assert [figure.id for figure in figures] == ["sessions", "progress-curve"]
    names = [trace.name for trace in figures[0].figure.data if not trace.name.endswith("± std")]
    assert names == ["one", "one, control", "two", "two, control"]


def test_searches_of_different_metrics_share_no_figure() -> None:
    page = comparison_page(*two(objective="accuracy"))
    assert "they improve different metrics." in {entry.why for entry in page.missing}


def test_the_command_writes_one_page(
    finished_sweep: Callable[[], Ledger], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_sweep()
    assert main(["compare", "demo", "demo", "--results", str(tmp_path)]) == 0
    file = tmp_path / "comparisons" / "demo-vs-demo.html"
    assert capsys.readouterr().out == f"comparison: {file}\n"
    assert file.read_text("utf-8").count("<h1>demo and demo</h1>") == 1
    assert main(["compare", "demo", "nobody", "--results", str(tmp_path)]) == 2


def test_an_unfinished_sweep_can_be_compared() -> None:
    first, second = two()
    empty = SweepLog(second.spec)
    page = comparison_page(first, empty)
    assert render(page)
    assert part(page, "answers").blocks[0].facts[1] == ("–", "two", "no final run is finished")  # type: ignore[union-attr]
