"""Reading back from MLflow: which runs there are, by tag, what they hold, and artefacts by their address."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking.compat import model_and_version
from tracking.errors import TrackingError
from tracking.mlflow_pages import uncharted
from tracking.recorder import DatasetInput, Point, Status
from tracking.state import RunState

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

RUN_KEY_TAG = "safe.run_key"
STOPPED_TAG = "stopped_early"
PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"
CONTEXT_TAG = "mlflow.data.context"
EXTERNAL_TAG = "mlflow.model.isExternal"  # of a model whose files are not in MLflow


def find_run(client: MlflowClient, experiment_id: str, run_key: str) -> Run | None:
    """Return the run of a key, None when there is none that is not deleted."""
    runs = client.search_runs([experiment_id], f"tags.`{RUN_KEY_TAG}` = '{run_key}'")
    # Some databases compare text without case.
    return next((run for run in runs if run.data.tags[RUN_KEY_TAG] == run_key), None)


def find_runs(client: MlflowClient, sweep: str) -> list[Run]:
    """Return the runs of a sweep in every experiment, in order of creation: its own and those below its key."""
    experiments = [experiment.experiment_id for experiment in _all(client.search_experiments)]
    order = ["attributes.start_time ASC"]
    runs = [
        run
        for pattern in (f"= '{sweep}'", f"LIKE '{sweep}/%'")
        for run in _all(client.search_runs, experiments, f"tags.`{RUN_KEY_TAG}` {pattern}", order_by=order)
    ]
    # "_" in a name stands for any letter in LIKE.
    return [run for run in runs if f"{run.data.tags[RUN_KEY_TAG]}/".startswith(f"{sweep}/")]


def read_state(run: Run) -> RunState:
    """Return what MLflow says of a run, without its metrics and its parent."""
    tags = run.data.tags
    own = (RUN_KEY_TAG, STOPPED_TAG)
    return RunState(
        tags[RUN_KEY_TAG],
        run.info.run_name or tags[RUN_KEY_TAG],
        params=dict(run.data.params),
        tags={key: value for key, value in tags.items() if key not in own and not key.startswith("mlflow.")},
        inputs=[_input(entry) for entry in run.inputs.dataset_inputs] if run.inputs else [],
        description=tags.get(NOTE_TAG, ""),
        status=Status.STOPPED if STOPPED_TAG in tags else run.info.status,
    )


def read_metrics(client: MlflowClient, run_id: str, names: Iterable[str]) -> list[tuple[Point, int]]:
    """Return every point of the metrics of a run that MLflow calls so, with its time in milliseconds since 1970."""
    return [
        (Point(uncharted(name), metric.value, metric.step), metric.timestamp)
        for name in names
        for metric in client.get_metric_history(run_id, name)
    ]


def find_sweep_models(client: MlflowClient, sweep: str) -> list[LoggedModel]:
    """Return the models of a sweep in every experiment."""
    experiments = [experiment.experiment_id for experiment in _all(client.search_experiments)]
    return [
        model
        for model in _all(client.search_logged_models, experiments, f"tags.`{RUN_KEY_TAG}` LIKE '{sweep}/%'")
        if model.tags[RUN_KEY_TAG].startswith(f"{sweep}/")  # "_" in a name stands for any letter in LIKE
    ]


def registered_sources(client: MlflowClient) -> set[str]:
    """Return where the files of all registered versions lie: addresses, paths, or `models:/<id>`."""
    versions = list(_all(client.search_model_versions, ""))
    # The source of a copy is another version, which may be deleted by now.
    files = {client.get_model_version_download_uri(version.name, version.version) for version in versions}
    return {str(version.source) for version in versions} | files


def find_models(client: MlflowClient, experiment_id: str, run_id: str, run_key: str) -> dict[str, LoggedModel]:
    """Return the models that a run gave, by name; not those of a deleted run of the same key."""
    models = _all(client.search_logged_models, [experiment_id], f"tags.`{RUN_KEY_TAG}` = '{run_key}'")
    return {model.name: model for model in models if model.source_run_id == run_id}


def read_runs(client: MlflowClient, runs: Sequence[Run]) -> Mapping[str, RunState]:
    """Return all that MLflow holds of the runs but their artefacts, by run key."""
    keys = {run.info.run_id: run.data.tags[RUN_KEY_TAG] for run in runs}
    states: dict[str, RunState] = {}
    for run in runs:
        state = read_state(run)
        state.parent = keys.get(run.data.tags.get(PARENT_TAG, ""))
        state.add_points(point for point, _ in read_metrics(client, run.info.run_id, run.data.metrics))
        states[state.key] = state
    return states


def download(client: MlflowClient, address: str, folder: Path) -> Path:
    """Copy what `models:/...` or `runs:/...` names into `folder` and return the copy.

    The store of the client alone is asked. MLflow's own download looks models up in the default store, whichever it is
    given, and makes an empty one in the working folder.
    """
    from mlflow.artifacts import download_artifacts

    place, uri = _location(client, address), client.tracking_uri
    return Path(download_artifacts(place, dst_path=str(folder), tracking_uri=uri, registry_uri=uri))


def _all(search: Callable[..., Any], *words: Any, **options: Any) -> Iterator[Any]:
    """Yield what one of the client's searches finds, page by page."""
    token = None
    while True:
        page = search(*words, **options, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _location(client: MlflowClient, address: str) -> str:
    """Return where the artefacts of an address lie."""
    if address.startswith("runs:/"):
        run_id, _, path = address.removeprefix("runs:/").partition("/")
        run = client.get_run(run_id)
        name, _, inside = path.partition("/")
        models = client.search_logged_models([run.info.experiment_id], f"name = '{name}'") if name else []
        model = next((model for model in models if model.source_run_id == run_id), None)
        return f"{model.artifact_location}/{inside}" if model else f"{run.info.artifact_uri}/{path}"
    named = model_and_version(client, address)
    if len(named) == 1:
        model = client.get_logged_model(*named)
        if EXTERNAL_TAG in model.tags:
            raise TrackingError("only its metrics are kept, no files: it was pruned, or recorded so")
        return model.artifact_location
    return client.get_model_version_download_uri(*named)


def dataset_name(name: str, context: str) -> str:
    """Return the name of a data set in MLflow, where of one name and digest a run can have a single input."""
    return f"{name}-{context}"


def _input(entry: object) -> DatasetInput:
    dataset, tags = entry.dataset, {tag.key: tag.value for tag in entry.tags}  # type: ignore[attr-defined]
    context = tags.get(CONTEXT_TAG, "")
    return DatasetInput(dataset.name.removesuffix(f"-{context}"), dataset.digest, context)
