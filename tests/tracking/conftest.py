"""An empty MLflow database made once and copied for each test (making one takes a second), and how to read one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tracking import DeliveryProcess, MlflowRecorder, Point, Recorder, Status, journal, mlflow_backend, sqlite_uri
from tracking.mlflow_pages import VIEW_TAG, uncharted
from tracking.recorder import ModelFiles, ModelOutput

MLFLOW_ONLY = ("mlflow.", "safe.run_key", "stopped_early")  # tags that carry what other recorders have fields for


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for as long as a busy machine needs: what a test expects to be told must not depend on how fast it is."""
    monkeypatch.setattr(journal, "CONTACT_S", 300.0)
    monkeypatch.setattr(journal, "DRAIN_S", 300.0)
    monkeypatch.setattr(mlflow_backend, "PROBE_TIMEOUT_S", 300.0)


@pytest.fixture(scope="session")
def process() -> Iterator[DeliveryProcess]:
    """A process that delivers, for all tests in turn."""
    with DeliveryProcess() as process:
        yield process


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowRecorder(sqlite_uri(path), "template").close()
    return path


@pytest.fixture
def database(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(template, tmp_path / "mlflow.db"))


@pytest.fixture
def uri(database: Path) -> str:
    return sqlite_uri(database)


class Modelled:
    """A run whose sessions give models: live, kept later, and without files."""

    def __init__(self, folder: Path) -> None:
        self.files = folder
        (folder / "code").mkdir(parents=True)
        (folder / "code" / "model.py").write_bytes(b"code")
        (folder / "state.pt").write_bytes(bytes(range(256)))

    def calls(self, target: Recorder) -> list[Callable[[], None]]:
        """Return the calls of a run of two sessions: a model live, one that is kept later, and one without files."""
        parts = (ModelFiles(self.files / "code"), ModelFiles(self.files / "state.pt", "artifacts/state"))

        def model(session: int, parts: tuple[ModelFiles, ...] = parts) -> ModelOutput:
            tags = {"sweep": "demo", "session": str(session)}
            return ModelOutput(f"trial-00-session-0{session}", session, "val/", "holdout", tags, parts)

        def points(session: int) -> list[Point]:
            values = {"val/accuracy": 0.1 * session, "val/slow/accuracy": 1 / 3, "time/session": 2.5}
            return [*(Point(*item, session) for item in values.items()), Point("train/ce", 0.5, 7 * session)]

        later = [Point("val/average_accuracy", 0.25, 2)]
        key = "demo/trial-00"
        return [
            lambda: target.start("demo", {}, {}),
            lambda: target.start(key, {"lr": 0.1}, {}, parent="demo"),
            lambda: target.log_input(key, "digits", "abc", "holdout"),
            lambda: target.log_params(key, {"temperature": 1.0, "lr": 0.5}),
            lambda: target.log_models(key, [model(1)], points(1)),
            lambda: target.log_points(key, points(2)),
            lambda: target.log_metrics("demo", {"best/val/accuracy": 0.2}, 2),
            lambda: target.finish(key, Status.FINISHED),
            lambda: target.log_params("demo", {"lr": 0.1}),
            lambda: target.log_input("demo", "digits", "abc", "holdout"),
            lambda: target.set_view("demo", {"columns": ["lr"]}),
            lambda: target.log_models(key, [model(2), model(3, ())], [*points(2), *later, *points(3)]),
            lambda: target.link_model("demo", key, "trial-00-session-02", 2),
        ]

    def check(self, seen: dict[str, Any]) -> None:
        """Make sure that what a recorder has are these calls, each once."""
        assert seen["demo/trial-00"]["models"] == self.expected()
        assert seen["demo/trial-00"]["params"] == {"lr": "0.1", "temperature": "1.0"}
        parent = seen["demo"]
        assert (parent["params"], parent["view"]) == ({"lr": "0.1"}, {"columns": ["lr"]})
        assert parent["metrics"] == {"best/val/accuracy": {2: 0.2}}
        assert parent["linked"] == {("demo/trial-00", "trial-00-session-02"): 2}
        assert [(entry["name"], entry["context"]) for entry in parent["inputs"]] == [("digits", "holdout")]

    def expected(self) -> dict[str, Any]:
        """Return the models of these calls."""
        files = {"model.py": b"code", "artifacts/state/state.pt": bytes(range(256))}
        metrics = {session: {"val/accuracy": 0.1 * session, "val/slow/accuracy": 1 / 3} for session in (1, 2, 3)}
        metrics[2]["val/average_accuracy"] = 0.25
        return {
            f"trial-00-session-0{session}": {
                "step": session,
                "params": {"lr": "0.1", "temperature": "1.0"},
                "tags": {"sweep": "demo", "session": str(session)},
                "metrics": metrics[session],
                "judge": ("digits-holdout", "abc"),
                "files": files if session < 3 else {},
                "status": "READY",
            }
            for session in (1, 2, 3)
        }


@pytest.fixture
def modelled(tmp_path: Path) -> Modelled:
    return Modelled(tmp_path / "model files")


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
            metrics[uncharted(key)] = {metric.step: metric.value for metric in history}
            assert len(metrics[uncharted(key)]) == len(history), f"a point of {key} was duplicated"
        assert len(metrics) == len(run.data.metrics), "a metric stands under two names"
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
            "view": json.loads(experiment.tags.get(f"{VIEW_TAG}{keys[run.info.run_id]}", "{}")),
            "status": Status.STOPPED if tags.get("stopped_early") == "true" else run.info.status,
            "artefacts": _artefacts(client, run.info.run_id),
            "models": _models(client, experiment.experiment_id, run),
            "linked": _linked(client, run),
        }
    return seen


def _models(client: Any, experiment_id: str, run: Any) -> dict[str, Any]:
    """Return the models of a run by name, and make sure that neither they nor their links and metrics are doubled."""
    key = run.data.tags["safe.run_key"]
    of_key = client.search_logged_models([experiment_id], f"tags.`safe.run_key` = '{key}'")
    models = [model for model in of_key if model.source_run_id == run.info.run_id]
    assert len({model.name for model in models}) == len(models), "a model was duplicated"
    links = [(id, step) for id, step in _links(run) if client.get_logged_model(id).source_run_id == run.info.run_id]
    steps = dict(links)
    assert sorted(steps) == sorted(model.model_id for model in models), "every model is linked"
    assert len(steps) == len(links), "a link was duplicated"
    seen = {}
    for model in sorted(models, key=lambda model: steps[model.model_id]):
        folder = Path(model.artifact_location.removeprefix("file://"))
        values = model.metrics or []
        points = {metric.key: (metric.value, metric.step) for metric in values}
        assert len(points) == len(values), "a metric of a model was duplicated"
        assert {metric.step for metric in values} <= {steps[model.model_id]}
        assert {metric.run_id for metric in values} <= {run.info.run_id}
        (judge,) = {(metric.dataset_name, metric.dataset_digest) for metric in values} or {(None, None)}
        seen[model.name] = {
            "step": steps[model.model_id],
            "params": model.params,
            "tags": {name: text for name, text in model.tags.items() if not name.startswith(MLFLOW_ONLY)},
            "metrics": {name: value for name, (value, _) in points.items()},
            "judge": judge,
            "files": {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.*")},
            "status": str(model.status),
        }
    return seen


def _links(run: Any) -> list[tuple[str, int]]:
    return [(output.model_id, output.step) for output in run.outputs.model_outputs] if run.outputs else []


def _linked(client: Any, run: Any) -> dict[tuple[str, str], int]:
    """Return the steps of the models of others that a run shows, by run key and name; none may be doubled."""
    models = [(client.get_logged_model(id), step) for id, step in _links(run)]
    others = [(m.tags["safe.run_key"], m.name, step) for m, step in models if m.source_run_id != run.info.run_id]
    assert len({(key, name) for key, name, _ in others}) == len(others), "a link was duplicated"
    return {(key, name): step for key, name, step in others}


def _input(entry: Any) -> dict[str, Any]:
    (tag,) = entry.tags
    return {
        "name": entry.dataset.name.removesuffix(f"-{tag.value}"),
        "digest": entry.dataset.digest,
        "context": tag.value,
    }


def _artefacts(client: Any, run_id: str) -> dict[str, bytes]:
    if not client.list_artifacts(run_id):
        return {}
    with TemporaryDirectory() as place:
        folder = Path(client.download_artifacts(run_id, "", place))
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
