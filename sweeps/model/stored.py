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


def stored_bytes(client: MlflowClient, sweep: str) -> dict[str, int]:
    """Return how many bytes of a sweep lie in local artefacts, by what they are; what takes none is left out."""
    sizes: defaultdict[str, int] = defaultdict(int)
    for run in find_runs(client, sweep):
        sizes["files of runs: tables, plots, report"] += size_of(run.info.artifact_uri)
    for model in find_sweep_models(client, sweep):
        sizes[f"models of sessions: {model.tags.get('kind', 'others')}"] += size_of(model.artifact_location)
    return {what: size for what, size in sizes.items() if size}


def surplus_models(client: MlflowClient, sweep: str, keep: int) -> list[LoggedModel]:
    """Return the session models of a sweep with files here, but the newest `keep` of every run, and registered ones."""
    sources = registered_sources(client)
    by_run: defaultdict[str | None, list[LoggedModel]] = defaultdict(list)
    for model in find_sweep_models(client, sweep):
        if str(model.status) == READY and "session" in model.tags and size_of(model.artifact_location):
            by_run[model.source_run_id].append(model)
    surplus: list[LoggedModel] = []
    for models in by_run.values():
        models.sort(key=lambda model: int(model.tags["session"]))
        surplus += models[: max(0, len(models) - keep)]
    names = ((m, m.artifact_location, f"models:/{m.model_id}") for m in surplus)
    return [m for m, place, address in names if not sources & {place, place.removeprefix("file://"), address}]


def remove_files(client: MlflowClient, models: Iterable[LoggedModel]) -> None:
    """Remove the files of models, which stay with their metrics."""
    for model in models:
        client.set_logged_model_tags(model.model_id, {EXTERNAL_TAG: "true", PRUNED_TAG: "true"})  # first: never half
        if (folder := local_path(model.artifact_location)) is not None:
            shutil.rmtree(folder, ignore_errors=True)


def size_of(address: str) -> int:
    """Return the bytes below the address of a local folder; 0 where there is none, or it is elsewhere."""
    folder = local_path(address)
    return 0 if folder is None else folder_size(folder)


def folder_size(folder: Path) -> int:
    """Return the bytes of the files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
