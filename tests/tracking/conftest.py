"""An empty MLflow database made once and copied for each test (making one takes a second), and how to read one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracking import MlflowRecorder, Status, journal, mlflow_backend, sqlite_uri

MLFLOW_ONLY = ("mlflow.", "safe.run_key", "stopped_early")  # tags that carry what other recorders have fields for


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for as long as a busy machine needs: what a test expects to be told must not depend on how fast it is."""
    monkeypatch.setattr(journal, "CONTACT_S", 300.0)
    monkeypatch.setattr(journal, "DRAIN_S", 300.0)
    monkeypatch.setattr(mlflow_backend, "PROBE_TIMEOUT_S", 300.0)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowRecorder(sqlite_uri(path), "template").close()
    return path


@pytest.fixture
def database(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(template, tmp_path / "mlflow.db"))


@pytest.fixture
def observe() -> Callable[[str, str], dict[str, Any]]:
    """Give a function that reads an experiment with MLflow's own client, by run key in order of creation."""
    return _observe


def _observe(tracking_uri: str, experiment_name: str) -> dict[str, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name(experiment_name)
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    keys = {run.info.run_id: run.data.tags["safe.run_key"] for run in runs}
    assert len(set(keys.values())) == len(runs), "a run was duplicated"
    seen = {}
    for run in runs:
        tags = dict(run.data.tags)
        metrics: dict[str, dict[int, float]] = {}
        for key in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, key)
            metrics[key] = {metric.step: metric.value for metric in history}
            assert len(metrics[key]) == len(history), f"a point of {key} was duplicated"
        parent = tags.get("mlflow.parentRunId")
        seen[keys[run.info.run_id]] = {
            "key": keys[run.info.run_id],
            "name": run.info.run_name,
            "parent": keys[parent] if parent else None,
            "params": dict(run.data.params),
            "tags": {key: value for key, value in tags.items() if not key.startswith(MLFLOW_ONLY)},
            "metrics": metrics,
            "inputs": [_input(entry) for entry in run.inputs.dataset_inputs],
            "description": tags.get("mlflow.note.content", ""),
            "status": Status.STOPPED if tags.get("stopped_early") == "true" else run.info.status,
            "artefacts": _artefacts(client, run.info.run_id),
        }
    return seen


def _input(entry: Any) -> dict[str, Any]:
    (tag,) = entry.tags
    return {
        "name": entry.dataset.name.removesuffix(f"-{tag.value}"),
        "digest": entry.dataset.digest,
        "context": tag.value,
        "source": json.loads(entry.dataset.source)["uri"],
        "rows": json.loads(entry.dataset.profile)["num_rows"] if entry.dataset.profile else None,
    }


def _artefacts(client: Any, run_id: str) -> dict[str, bytes]:
    if not client.list_artifacts(run_id):
        return {}
    folder = Path(client.download_artifacts(run_id, ""))
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
