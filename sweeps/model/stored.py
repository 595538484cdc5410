"""What of a study lies among MLflow's artefacts on this disk, and removing the files of its session models.

A model whose files are removed keeps its metrics, params and tags, so that it is still ranked; it becomes one whose
files are elsewhere, as MLflow has them.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tracking.mlflow_moved import local_path
from tracking.mlflow_reader import EXTERNAL_TAG, find_runs, find_sweep_models, registered_sources
from tracking.mlflow_run import READY

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

PRUNED_TAG = "pruned"


def stored_bytes(client: MlflowClient, sweep: str, artifacts: Path) -> dict[str, int]:
    """Return how many bytes of a sweep lie in `artifacts`, by what they are; what takes none is left out."""
    sizes: defaultdict[str, int] = defaultdict(int)
    for run in find_runs(client, sweep):
        folder = _within(artifacts, run.info.artifact_uri)
        sizes["files of runs: tables, plots, report"] += folder_size(folder) if folder else 0
    for model in find_sweep_models(client, sweep):
        sizes[f"models of sessions: {model.tags.get('kind', 'others')}"] += model_size(model, artifacts)
    return {what: size for what, size in sizes.items() if size}


def surplus_models(client: MlflowClient, sweep: str, keep: int, artifacts: Path) -> list[LoggedModel]:
    """Return the session models of a sweep with files in `artifacts`, but the newest `keep` of every run, and
    registered ones."""
    sources = registered_sources(client)
    by_run: defaultdict[str | None, list[LoggedModel]] = defaultdict(list)
    for model in find_sweep_models(client, sweep):
        if str(model.status) == READY and "session" in model.tags and model_size(model, artifacts):
            by_run[model.source_run_id].append(model)
    surplus: list[LoggedModel] = []
    for models in by_run.values():
        models.sort(key=lambda model: int(model.tags["session"]))
        surplus += models[: max(0, len(models) - keep)]
    names = ((m, m.artifact_location, f"models:/{m.model_id}") for m in surplus)
    return [m for m, place, address in names if not sources & {place, place.removeprefix("file://"), address}]


def remove_files(client: MlflowClient, models: Iterable[LoggedModel], artifacts: Path) -> None:
    """Remove the files that models have in `artifacts`; the models stay with their metrics."""
    for model in models:
        if (folder := _folder_of(model, artifacts)) is None:
            continue
        client.set_logged_model_tags(model.model_id, {EXTERNAL_TAG: "true", PRUNED_TAG: "true"})  # first: never half
        shutil.rmtree(folder, ignore_errors=True)


def model_size(model: LoggedModel, artifacts: Path) -> int:
    """Return the bytes that a model has in `artifacts`."""
    folder = _folder_of(model, artifacts)
    return folder_size(folder) if folder else 0


def folder_size(folder: Path) -> int:
    """Return the bytes of the files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _folder_of(model: LoggedModel, artifacts: Path) -> Path | None:
    """Return the folder of a model's files, None unless it is in `artifacts` and nobody else's, as its name tells."""
    folder = _within(artifacts, model.artifact_location)
    return folder if folder and folder.parent.name == model.model_id else None


def _within(artifacts: Path, address: str) -> Path | None:
    """Return the folder of an address, None when it is not below `artifacts`: a database may name any folder."""
    folder = local_path(address)
    return folder if folder and artifacts.resolve() in folder.resolve().parents else None
