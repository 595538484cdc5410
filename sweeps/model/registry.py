"""The final model of a sweep in MLflow: logged from code, registered as `safe-<data set>`, champion when it is best.

The first final run's last state is logged: PET and readouts, W_rand as its seed, the backbone by name and digest. What
makes it champion is the score that chose its configuration, on held-out training images, never a test accuracy.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safe.config.described import acting
from safe.config.marks import Acts
from sweeps.ledger.ledger import JobLog, SweepLog
from sweeps.model.saving import save_model
from sweeps.spec.marks import Mark, marked
from sweeps.spec.objective import objectives
from sweeps.spec.runs import PLACES
from sweeps.spec.space import SET_BY_THE_SWEEP
from sweeps.spec.specs import SweepSpec
from sweeps.spec.titles import data_name
from sweeps.worker.artifacts import CHECKPOINTS
from tracking.errors import TrackingError
from tracking.recorder import Status

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

    from sweeps.ledger.folders import Folders
    from tracking.recorder import Recorder

CHAMPION = "champion"
RUN_KEY = "safe.run_key"


def log_final_model(log: SweepLog, folders: Folders, recorder: Recorder) -> dict[str, Any] | None:
    """Log and register the model of a sweep's first final run, once; return what came of it.

    Returns:
        `name`, `version`, `uri`, `champion` (whether it holds that alias now) and `words`, one sentence for people,
        which the parent run gets as the tags `model` and `model.note`. Where no model could be logged, `words` and,
        unless the policy keeps no states, `later`: MLflow may take it another time. None before the first final run
        is finished.
    """
    job = next((job for job in log.final_jobs() if job.repeat == 0 and job.status == Status.FINISHED), None)
    if job is None:
        return None
    state = folders.states / job.id / CHECKPOINTS / f"session-{len(job.sessions):02d}.pt"
    if not state.is_file():
        outcome: dict[str, Any] = {"words": f"no model is logged: the policy for checkpoints kept no state of {job.id}"}
    else:
        try:
            outcome = _log(log, job, state, folders, recorder)
        except TrackingError as error:
            outcome = {"words": f"no model is logged: {error}", "later": True}
    tags = {"model.note": outcome["words"]} | ({"model": outcome["uri"]} if "uri" in outcome else {})
    recorder.set_tags(log.spec.name, tags)
    return outcome


def model_name(dataset: str) -> str:
    """Return the name under which models of a data set, which may be a path, are registered."""
    return f"safe-{data_name(dataset)}"


def protocol(log: SweepLog) -> dict[str, Any]:
    """Return what must be equal for the scores of two sweeps on the same data to be comparable."""
    spec, told_elsewhere = log.sweep_spec, (*PLACES, *SET_BY_THE_SWEEP)  # by the data's digest; by the specification
    of_data = [name for name in acting(Acts.FACTS) if name.startswith("data.") and name not in told_elsewhere]
    of_spec = {name: getattr(spec, name) for name in marked(SweepSpec, Mark.PROTOCOL)}
    return of_spec | {name: spec.base[name] for name in of_data}


def _log(log: SweepLog, job: JobLog, state: Path, folders: Folders, recorder: Recorder) -> dict[str, Any]:
    from tracking import JournalRecorder
    from tracking.mlflow_backend import connect
    from tracking.mlflow_errors import in_words
    from tracking.mlflow_reader import find_run

    if isinstance(recorder, JournalRecorder):
        recorder.drain()  # it may still be delivering the run that the model belongs to
    uri, key = folders.tracking_uri(), f"{log.spec.name}/{job.id}"
    client = connect(uri)
    with in_words(uri):
        experiment = client.get_experiment_by_name(Path(log.began_as.dataset).name)
        run = find_run(client, experiment.experiment_id, key) if experiment else None
        if run is None:
            raise TrackingError(f"MLflow does not have the run of {job.id} yet; it may once everything is delivered")
        run_id = run.info.run_id
        name = model_name(log.began_as.dataset)
        tags = _version_tags(log, job, key)
        entry = _registered(client, name, key) or _register(client, name, run_id, job, state, tags)
        champion, why = _crown(client, name, entry, log)
    words = f"{name} version {entry.version} is {'the champion' if champion else 'registered without alias'}: {why}"
    return {
        "name": name,
        "version": str(entry.version),
        "uri": f"models:/{name}/{entry.version}",
        "champion": champion,
        "words": words,
    }


def _version_tags(log: SweepLog, job: JobLog, key: str) -> dict[str, str]:
    provenance, score = job.sessions[0].provenance, (log.selected or {}).get("score")
    return {
        RUN_KEY: key,
        "sweep": log.spec.name,
        "data_digest": provenance["data_digest"],
        "weights_digest": provenance["weights_digest"],
        "protocol": json.dumps(protocol(log), sort_keys=True),
        "holdout_score": "" if score is None or log.spec.selection == "test" else repr(float(score)),
    }


def _registered(client: MlflowClient, name: str, key: str) -> ModelVersion | None:
    """Return the version that an earlier call registered for this run."""
    versions = client.search_model_versions(f"name = '{name}'")
    return next((entry for entry in versions if entry.tags.get(RUN_KEY) == key), None)


def _register(
    client: MlflowClient, name: str, run_id: str, job: JobLog, state: Path, tags: dict[str, str]
) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    model = _logged(client, run_id, tags[RUN_KEY]) or _log_model(client, name, run_id, job, state, tags)
    try:
        client.create_registered_model(name, description="SAFE models; `champion` has the best holdout score.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    entry = client.create_model_version(
        name,
        model.artifact_location,
        run_id,
        tags=tags,
        description=_needs(job),
        await_creation_for=0,  # it is there at once
        model_id=model.model_id,
    )
    # What MLflow's own registering writes, so that its pages show the version beside the model.
    client.set_logged_model_tags(
        model.model_id, {"mlflow.modelVersions": json.dumps([{"name": name, "version": entry.version}])}
    )
    return entry


def _logged(client: MlflowClient, run_id: str, key: str) -> LoggedModel | None:
    """Return the whole model that an earlier call logged and did not come to register."""
    experiment = client.get_run(run_id).info.experiment_id
    models = client.search_logged_models([experiment], f"tags.`{RUN_KEY}` = '{key}'")
    return next((model for model in models if str(model.status) == "READY"), None)


def _log_model(
    client: MlflowClient, name: str, run_id: str, job: JobLog, state: Path, tags: dict[str, str]
) -> LoggedModel:
    from mlflow.entities import LoggedModelOutput

    experiment = client.get_run(run_id).info.experiment_id
    params = {setting: str(job.config[setting]) for setting in ("backbone.name", "pet.kind", "head.kind")}
    model = client.create_logged_model(experiment, name, run_id, tags=tags, params=params, model_type="safe")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        save_model(state, folder, run_id=run_id, logged=model)
        client.log_model_artifacts(model.model_id, str(folder))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=len(job.sessions))])
    return client.finalize_logged_model(model.model_id, "READY")


def _needs(job: JobLog) -> str:
    name = job.config["backbone.name"]
    return f"PET and readouts on {name}, which is not in it. Loading it needs the package safe-sweeps installed."


def _crown(client: MlflowClient, name: str, entry: ModelVersion, log: SweepLog) -> tuple[bool, str]:
    """Give the version the alias if its holdout score is the best; return whether it holds it, and why."""
    present = _champion(client, name)
    wish, tags = objectives(log.sweep_spec.objective)[0], entry.tags
    if not tags["holdout_score"]:
        return False, "it was selected on the test images, so it has no holdout score"
    score = float(tags["holdout_score"])
    what = f"{wish.name} {score:.4f} on held-out images"
    if present is None:
        client.set_registered_model_alias(name, CHAMPION, entry.version)
        return True, f"{what}, the first model of this data set"
    if str(present.version) == str(entry.version):
        return True, what
    other = f"version {present.version}"
    differing = [key for key in ("data_digest", "protocol") if present.tags.get(key) != tags[key]]
    if differing:
        words = {"data_digest": "other data", "protocol": "another protocol"}
        reasons = " and ".join(words[key] for key in differing)
        return False, f"the champion, {other}, was chosen on {reasons}, so their scores cannot be compared"
    best = float(present.tags["holdout_score"])
    if wish.goodness(score) <= wish.goodness(best):
        return False, f"{what} does not beat the {best:.4f} of the champion, {other}"
    client.set_registered_model_alias(name, CHAMPION, entry.version)
    return True, f"{what} beats the {best:.4f} of {other}"


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
