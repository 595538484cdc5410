from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
from rich.console import Console

from sweeps.ledger import Ledger, SweepLog
from sweeps.results import describe, outcome, print_mlflow, show


def test_the_outcome_has_every_part(finished_sweep: Callable[[], Ledger]) -> None:
    found = outcome(finished_sweep().log)
    assert list(found) == ["name", "dataset", "selection", "objective", "trials", "selected", "final", "mlflow"]
    assert (found["name"], found["dataset"], found["selection"]) == ("demo", "digits", "holdout")
    trial = found["trials"][1]
    assert (trial["id"], trial["status"]) == ("trial-01", "FINISHED")
    assert trial["config"]["aggregation.temperature"] == 1.0
    assert trial["config"]["data.holdout_share"] == 0.2
    first, second = trial["sessions"]
    assert first["val/accuracy"] == 0.9
    assert "val/forgetting" not in first
    assert second["val/accuracy"] == pytest.approx((0.9 * 100 + 0.7 * 300) / 400)
    assert second["val/average_accuracy"] == pytest.approx((0.9 + 0.75) / 2)
    assert second["val/slow/accuracy"] == pytest.approx(0.3)
    assert all(name.startswith("val/") for name in second)
    assert found["selected"]["trial"] == "trial-01"
    assert found["selected"]["val/accuracy"] == second["val/accuracy"]
    assert found["selected"]["config"] == trial["config"]
    assert found["final"]["seeds"] == 2
    assert found["final"]["test/accuracy"] == {
        "mean": 0.625,
        "std": pytest.approx(stdev([0.5, 0.75])),
        "values": [0.5, 0.75],
    }
    assert set(found["final"]) == {"seeds", "test/accuracy", "test/slow/accuracy", "test/fast/accuracy"}
    assert found["mlflow"] == {"tracking_uri": "sqlite:///x", "experiment": "digits", "parent_run_id": "p"}


def test_absent_parts_of_an_unfinished_sweep_are_none(make_spec: Callable[..., Any]) -> None:
    found = outcome(SweepLog(make_spec()))
    assert found["trials"] == []
    assert found["selected"] is None
    assert found["final"] is None
    assert found["mlflow"] is None


def test_people_read_percent(finished_sweep: Callable[[], Ledger], tmp_path: Path) -> None:
    text = io.StringIO()
    show(finished_sweep().log, tmp_path, Console(file=text, width=100))
    shown = text.getvalue()
    assert "demo · digits · random search · finished" in shown
    assert "validation accuracy in percent" in shown
    assert "62.5 ± 17.7" in shown
    assert "mean ± std over 2 seeds" in shown
    assert "make ui" in shown
    assert shown.index("trial-01") < shown.index("trial-00"), "best first"
    assert max(map(len, shown.splitlines())) < 100 + len(str(tmp_path))


def test_selection_on_test_is_said_everywhere(make_spec: Callable[..., Any], tmp_path: Path) -> None:
    log = SweepLog(make_spec(selection="test"))
    text = io.StringIO()
    show(log, tmp_path, Console(file=text, width=100))
    assert "selected on test" in text.getvalue()
    assert "selected on test" in describe(log)


def test_the_description_tells_space_choice_and_result(finished_sweep: Callable[[], Ledger]) -> None:
    text = describe(finished_sweep().log)
    assert "`fast.cross_weight`: `{'choice': [0.0, 1.0]}`" in text
    assert "Chosen: trial-01." in text
    assert "| SAFE | 62.5 ± 17.7 |" in text


def test_the_command_that_opens_mlflow_names_a_results_folder_that_is_not_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def command(folder: Path) -> str:
        console = Console(record=True, width=100)
        print_mlflow({"tracking_uri": "sqlite:///x.db"}, folder, console)
        return console.export_text().splitlines()[-1]

    assert command(Path("results/sweeps/demo")) == "open it with: make ui"
    assert command(Path("my results/sweeps/demo")) == f"open it with: make ui RESULTS='{tmp_path}/my results'"
