"""Names, addresses and tables as MLflow's pages take them; `make test-browser` looks at them there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracking import MlflowRecorder, Point, sqlite_uri
from tracking.mlflow_pages import METRIC, PARAM, TAG, charted, run_page, table_page, table_view, uncharted
from tracking.tables import load_sweep

METRICS = ("best/val/average_accuracy", "test/accuracy", "val/slow/accuracy", "system/cpu_utilization", "work.seconds")
OTHERS = ("train/slow/ce", "time/train_seconds", "memory/peak_mib", "ridge/fast", "control/test/accuracy")


def test_groups_that_judge_a_run_come_first_by_the_alphabet() -> None:
    assert [charted(name) for name in METRICS] == list(METRICS)
    assert [charted(name) for name in OTHERS] == [f"zz/{name}" for name in OTHERS]
    assert [uncharted(charted(name)) for name in (*METRICS, *OTHERS)] == [*METRICS, *OTHERS]
    groups = sorted(charted(name).rpartition("/")[0] for name in (*METRICS, *OTHERS))
    assert groups[1:5] == ["best/val", "system", "test", "val/slow"], "what has no group is no group"


def test_a_run_of_before_goes_on_under_the_names_that_it_has(database: Path) -> None:
    uri, point = sqlite_uri(database), Point("time/train_seconds", 1.5, 1)
    recorder = MlflowRecorder(uri, "sweeps")
    recorder.start("demo", {}, {})
    recorder.client.log_metric(recorder.run_id("demo"), point.key, point.value, step=1)
    recorder = MlflowRecorder(uri, "sweeps")
    recorder.log_points("demo", [point, Point("time/train_seconds", 2.5, 2), Point("train/slow/ce", 0.5, 10)])
    metrics = recorder.client.get_run(recorder.run_id("demo")).data.metrics
    assert metrics == {"time/train_seconds": 2.5, "zz/train/slow/ce": 0.5}
    table = load_sweep("demo", tracking_uri=uri).metrics
    assert sorted(table.itertuples(index=False, name=None)) == [
        ("", "time/train_seconds", 1, 1.5), ("", "time/train_seconds", 2, 2.5), ("", "train/slow/ce", 10, 0.5)
    ]  # fmt: skip


def test_pages_have_addresses_once_mlflow_has_given_ids() -> None:
    known = {"experiment_id": "7", "parent_run_id": "abc"}
    assert table_page(known) == "/#/experiments/7/runs?workflowType=machine_learning"
    assert table_page({**known, "view": "demo"}).endswith("/runs?workflowType=machine_learning&viewStateShareKey=demo")
    assert run_page(known) == "/#/experiments/7/runs/abc?workflowType=machine_learning"
    assert run_page(known, "/artifacts/a.html") == (
        "/#/experiments/7/runs/abc/artifacts/a.html?workflowType=machine_learning"
    )
    assert [run_page({"experiment_id": "7", "parent_run_id": None}), run_page({}), table_page({})] == ["", "", ""]


@pytest.mark.parametrize(("sort", "name"), [("val/accuracy", "val/accuracy"), ("time/seconds", "zz/time/seconds")])
def test_a_table_has_its_columns_in_order_and_is_sorted_by_a_metric(sort: str, name: str) -> None:
    view = table_view("tags.sweep = 'demo'", [(METRIC, sort), (PARAM, "slow.lr"), (TAG, "kind")], sort, ascending=True)
    columns = [f"metrics.`{name}`", "params.`slow.lr`", "tags.`kind`"]
    assert view["searchFilter"] == "tags.sweep = 'demo'"
    assert view["selectedColumns"] == columns
    assert view["columnOrder"] == ["attributes.`Run Name`", *columns, "runDateAndNestInfo", "duration"]
    assert (view["orderByKey"], view["orderByAsc"]) == (columns[0], True)
    assert [group["name"] for group in view["compareRunSections"]] == list(  # type: ignore[attr-defined]
        dict.fromkeys(("settings", name.rpartition("/")[0], "val", "test"))
    )
    (chart,) = view["compareRunCharts"]  # type: ignore[misc, attr-defined]
    assert (chart["selectedParams"], chart["selectedMetrics"]) == (["slow.lr"], [name])
