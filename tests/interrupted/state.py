"""What a sweep has left when all is over, in a form that two sweeps can be compared by."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from sweeps.engine.private import scratch_parent
from sweeps.ledger.ledger import read_ledger
from tracking.mlflow_pages import uncharted

from .sweeping import Sweep, wait_for

# What an equal sweep need not have equal: durations, the machine's state, how much of the work was done twice, and how
# good the best was after so many sessions.
VOLATILE_METRICS = ("time/", "memory/", "system/", "work.", "best/")
# The name, the commit of a tree that may be worked on, and what is kept for people or compared elsewhere.
VOLATILE_TAGS = ("mlflow.", "git.", "safe.run_key", "sweep", "model", "reason")
# Files with durations in them.
VOLATILE_FILES = ("sessions.csv", "sessions.jsonl", "run.log", "environment.json", "curves.png", "ledger.jsonl")
FOREIGN = "torchinductor_"  # a cache that torch makes in the folder for temporary files
COMPARED_BYTES = (".csv", ".yaml", ".pt")

Points = dict[str, dict[int, float]]  # the values of metrics by step


def final_state(sweep: Sweep) -> dict[str, Any]:
    """Return all results of a finished sweep; fails where something of it is left over, missing or double."""
    wait_for(lambda: not sweep.processes(), f"the end of {sweep.processes()}")
    log = read_ledger(sweep.place)
    assert log.finished
    assert [file.name for file in sweep.temporary.iterdir() if not _foreign(file)] == []
    left = [str(folder) for pid in sweep.pids for folder in scratch_parent().glob(f"*/session_*_{pid}")]
    assert left == [], "Ray's files are left"
    assert not list(sweep.results.rglob("resume.pt")), "a resume checkpoint is left"
    runs = mlflow_runs(sweep)
    logged = logged_models(sweep, runs)
    names = {run_id: f"run/{key}" for key, (run_id, _) in runs.items()}
    names |= {model_id: f"model/{key}" for key, (model_id, _) in logged.items()}
    return {
        "jobs": {job.id: job_state(job) for job in log.jobs.values()},
        "selected": log.selected,
        "runs": {key: run for key, (_, run) in runs.items()},
        "logged models": {key: metrics for key, (_, metrics) in logged.items()},
        "registered": registered(sweep),
        "files": files(sweep, names),
    }


def _foreign(file: Path) -> bool:
    """Whether a temporary file is none of ours: Python tries a folder for such files by writing a word there."""
    tried = re.fullmatch(r"[a-z0-9_]{8}", file.name) and file.is_file() and file.read_bytes() in (b"", b"blat")
    return bool(tried) or file.name.startswith(FOREIGN)


def job_state(job: Any) -> dict[str, Any]:
    """Return what Ray's results of a job were, as the ledger has them."""
    sessions = [
        {
            **{name: said[name] for name in ("session", "sessions", "split", "losses", "row", "grid", "counts")},
            "metrics": stable(said["metrics"]),
            "provenance": said["provenance"],
        }
        for said in (record.to_json() for record in job.sessions)
    ]
    return {"config": job.config, "status": job.status, "reason": job.reason, "sessions": sessions}


def mlflow_runs(sweep: Sweep) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return MLflow's runs of a sweep, read with its own client: run id and content by run key without the name."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{sweep.results / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    if experiment is None:  # nothing has been recorded yet
        return {}
    runs: dict[str, tuple[str, dict[str, Any]]] = {}
    for run in client.search_runs([experiment.experiment_id], f"tags.sweep = '{sweep.name}'"):
        key = run.data.tags["safe.run_key"].removeprefix(sweep.name)
        assert key not in runs, f"{key} is there twice"
        assert run.info.status != "RUNNING", key
        metrics: Points = {}
        for name in stable(run.data.metrics):
            points = client.get_metric_history(run.info.run_id, name)
            metrics[name] = {point.step: point.value for point in points}
            assert len(metrics[name]) == len(points), f"a point of {name} of {key} is there twice"
        content = {
            "status": run.info.status,
            "params": run.data.params,
            "metrics": metrics,
            "tags": {name: value for name, value in run.data.tags.items() if not name.startswith(VOLATILE_TAGS)},
            "inputs": sorted((entry.dataset.name, entry.dataset.digest) for entry in run.inputs.dataset_inputs),
        }
        runs[key] = (run.info.run_id, content)
    return runs


def others(sweep: Sweep) -> set[str]:
    """Return the ids of the runs and models of other sweeps in the same store."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{sweep.results / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    theirs = f"tags.sweep != '{sweep.name}'"
    runs = {run.info.run_id for run in client.search_runs(experiments, theirs)}
    return runs | {model.model_id for model in client.search_logged_models(experiments, theirs)}


def logged_models(sweep: Sweep, runs: dict[str, tuple[str, Any]]) -> dict[str, tuple[str, Points]]:
    """Return MLflow's models of a sweep: model id and metrics by run key and session, each of them once and ready."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{sweep.results / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    if experiment is None:  # nothing has been recorded yet
        return {}
    keys = {run_id: key for key, (run_id, _) in runs.items()}
    models: dict[str, tuple[str, Points]] = {}
    for model in client.search_logged_models([experiment.experiment_id], f"tags.sweep = '{sweep.name}'"):
        key = f"{keys[model.source_run_id]} session {model.tags['session']}"
        assert key not in models, f"the model of {key} is there twice"
        assert model.status == "READY", key
        metrics: Points = {}
        for point in model.metrics:
            if stable({point.key: point.value}):
                points = metrics.setdefault(point.key, {})
                assert point.step not in points, f"a point of {point.key} of the model of {key} is there twice"
                points[point.step] = point.value
        models[key] = (model.model_id, metrics)
    return models


def registered(sweep: Sweep) -> list[str]:
    """Return the runs of a sweep, without its name, of which a model is registered: once for each model."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{sweep.results / 'mlflow.db'}")
    keys = [version.tags["safe.run_key"] for version in client.search_model_versions("name = 'safe-digits'")]
    return [key.removeprefix(sweep.name) for key in keys if key.startswith(f"{sweep.name}/")]


def failures(sweep: Sweep) -> list[tuple[str, str]]:
    """Return every failure on the way, as job and reason, in order."""
    records = [json.loads(line) for line in (sweep.place / "ledger.jsonl").read_text().splitlines()]
    return [(record["job"], record["reason"]) for record in records if record.get("status") == "FAILED"]


def stable(metrics: dict[str, float]) -> dict[str, float]:
    """Return the metrics that equal sweeps have equal."""
    return {name: value for name, value in metrics.items() if not uncharted(name).startswith(VOLATILE_METRICS)}


def files(sweep: Sweep, names: dict[str, str]) -> dict[str, str]:
    """Return every file of the results by its path, runs and models by their names, with a digest of some.

    So a file too much, a draft, a lock that nobody holds or what is left of a model begun twice, is a difference.
    """
    digests, theirs = {}, others(sweep)
    for file in sweep.results.rglob("*"):
        if file.is_dir():
            continue
        parts = file.relative_to(sweep.results).parts
        if parts[0] == "sweeps":
            if parts[1] != sweep.name:
                continue
            parts = ("sweep", *parts[2:])
        if parts[:2] == ("mlartifacts", "models"):
            parts = parts[1:]
        if parts[0] in ("mlartifacts", "models"):
            if parts[1] in theirs:
                continue
            parts = (names.get(parts[1], "/".join(parts[:2])), *parts[2:])
        path = "/".join(parts)
        assert path not in digests, f"two files are called {path}"
        compared = file.suffix in COMPARED_BYTES and file.name not in VOLATILE_FILES
        digests[path] = hashlib.sha256(file.read_bytes()).hexdigest() if compared else ""
    return digests


def differences(actual: Any, expected: Any, where: str = "") -> list[str]:
    """Return where two states differ, by path; short enough to read."""
    if isinstance(actual, dict) and isinstance(expected, dict):
        return [
            line
            for key in sorted({*actual, *expected}, key=str)
            for line in differences(actual.get(key, "absent"), expected.get(key, "absent"), f"{where} > {key}")
        ]
    return [] if actual == expected else [f"{where}: {str(actual)[:200]} instead of {str(expected)[:200]}"]
