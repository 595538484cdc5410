"""A sweep as frames, from its journal and from MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tracking import JsonlRecorder, MlflowRecorder, Point, Status, TrackingError, load_sweep, sqlite_uri


def record(recorder: Any) -> None:
    recorder.start("demo", {"sweep.trials": 2}, {"kind": "sweep"}, name="Demo")
    recorder.start(
        "demo/trial-00", {"lr": 1e-05, "fast.on": True, "limit": None, "n": 3}, {"kind": "trial"}, parent="demo"
    )
    recorder.log_points(
        "demo/trial-00",
        [
            Point("val/accuracy", 0.75, 1),
            Point("val/accuracy", 0.5, 2),
            Point("val/forgetting", 0.25, 2),
            Point("train/slow/ce", 2.0, 7),
        ],
    )
    recorder.finish("demo/trial-00", Status.FINISHED)
    recorder.start(
        "demo/trial-01", {"lr": 0.1, "fast.on": True, "limit": "a|b", "n": 3}, {"kind": "trial"}, parent="demo"
    )
    recorder.set_tags("demo/trial-01", {"reason": "out of memory"})
    recorder.finish("demo/trial-01", Status.FAILED)
    recorder.log_metrics("demo", {"test/accuracy": 0.625}, step=3)
    recorder.start("demo2", {}, {})
    recorder.close()


@pytest.fixture(params=["journal", "mlflow"])
def source(request: pytest.FixtureRequest, tmp_path: Path, database: Path) -> dict[str, Any]:
    """Where `load_sweep` finds the sweep."""
    if request.param == "journal":
        record(JsonlRecorder(tmp_path / "sweeps" / "demo" / "journal.jsonl"))
        return {"results": tmp_path}
    record(MlflowRecorder(sqlite_uri(database), "digits"))
    return {"tracking_uri": sqlite_uri(database)}


def test_frames(source: dict[str, Any]) -> None:
    sweep = load_sweep("demo", **source)
    runs = sweep.runs.set_index("run").sort_index()
    assert list(runs.index) == ["", "trial-00", "trial-01"]
    assert runs["kind"].tolist() == ["sweep", "trial", "trial"]
    assert runs["status"].tolist() == ["RUNNING", "FINISHED", "FAILED"]
    assert runs["name"].tolist() == ["Demo", "demo/trial-00", "demo/trial-01"]
    assert runs["reason"].dropna().to_dict() == {"trial-01": "out of memory"}
    assert runs.loc["trial-00", ["lr", "fast.on", "n"]].tolist() == [1e-05, True, 3]
    assert pd.isna(runs.loc["trial-00", "limit"])
    assert runs.loc[""]["sweep.trials"] == 2

    assert sweep.metrics.values.tolist() == [
        ["", "test/accuracy", 3, 0.625],
        ["trial-00", "train/slow/ce", 7, 2.0],
        ["trial-00", "val/accuracy", 1, 0.75],
        ["trial-00", "val/accuracy", 2, 0.5],
        ["trial-00", "val/forgetting", 2, 0.25],
    ]
    assert list(sweep.sessions.columns) == ["run", "session", "val/accuracy", "val/forgetting"]
    assert sweep.sessions.iloc[:, :3].values.tolist() == [["trial-00", 1, 0.75], ["trial-00", 2, 0.5]]
    assert sweep.sessions["val/forgetting"].isna().tolist() == [True, False]


def test_a_sweep_without_results_yet(tmp_path: Path) -> None:
    recorder = JsonlRecorder(tmp_path / "sweeps" / "demo" / "journal.jsonl")
    recorder.start("demo", {}, {})
    sweep = load_sweep("demo", tmp_path)  # while it is being written
    assert (len(sweep.runs), len(sweep.metrics), len(sweep.sessions)) == (1, 0, 0)
    recorder.close()


def test_an_unknown_sweep(tmp_path: Path, database: Path) -> None:
    JsonlRecorder(tmp_path / "sweeps" / "demo" / "journal.jsonl").close()
    with pytest.raises(TrackingError, match=r"no sweep called 'dem' has a journal in .*; known: demo\."):
        load_sweep("dem", tmp_path)
    with pytest.raises(TrackingError, match="has no sweep called 'dem'"):
        load_sweep("dem", tracking_uri=sqlite_uri(database))
