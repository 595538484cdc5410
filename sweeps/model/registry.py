"""The final model of a sweep in MLflow: registered as `safe-<data set>`, champion when it is the best.

It is the model of the first final run's last session: PET and readouts, W_rand as its seed, the backbone by name and
digest. What makes it champion is the score that chose its configuration, on held-out training images, never a test
accuracy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.ledger.job_log import JobLog
from sweeps.ledger.ledger import SweepLog
from sweeps.model.card import card
from sweeps.model.session_models import SessionModels
from sweeps.spec.objective import Objective, objectives
from sweeps.spec.titles import data_name
from tracking.errors import TrackingError
from tracking.mlflow_reader import RUN_KEY_TAG
from tracking.recorder import Point, Status

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

    from sweeps.ledger.folders import Folders
    from tracking.recorder import ModelOutput, Recorder

CHAMPION = "champion"


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
    last = SessionModels(log, folders.sweep, folders.states).of(job, job.sessions[-1])
    if last is None or not last.files:
        outcome: dict[str, Any] = {"words": f"no model is logged: the policy for checkpoints kept no state of {job.id}"}
    else:
        try:
            outcome = _log(log, job, last, folders, recorder)
        except TrackingError as error:
            outcome = {"words": f"no model is logged: {error}", "later": True}
    tags = {"model.note": outcome["words"]} | ({"model": outcome["uri"]} if "uri" in outcome else {})
    recorder.set_tags(log.spec.name, tags)
    return outcome


def model_name(dataset: str) -> str:
    """Return the name under which models of a data set, which may be a path, are registered."""
    return f"safe-{data_name(dataset)}"


def _log(log: SweepLog, job: JobLog, last: ModelOutput, folders: Folders, recorder: Recorder) -> dict[str, Any]:
    from tracking import JournalRecorder

    uri, key = folders.tracking_uri(), f"{log.spec.name}/{job.id}"
    record = job.sessions[-1]
    points = [Point(name, value, record.session) for name, value in record.metrics.items()]
    recorder.log_models(key, [last], [point for point in points if last.owns(point)])  # unless it has it already
    recorder.link_model(log.spec.name, key, last.name, record.session)
    if isinstance(recorder, JournalRecorder) and not recorder.drain():  # it may still be delivering it
        raise _lacking(key)
    name, experiment = model_name(log.began_as.dataset), Path(log.began_as.dataset).name
    version = recorder.call(register, uri, experiment, key, last.name, name, _version_tags(log, job, key))
    address = f"models:/{name}/{version}"
    wish = objectives(log.sweep_spec.objective)[0]
    champion, why = recorder.call(describe_and_crown, uri, name, version, card(log, job, address), wish)
    words = f"{name} version {version} is {'the champion' if champion else 'registered without alias'}: {why}"
    return {"name": name, "version": version, "uri": address, "champion": champion, "words": words}


def _lacking(key: str) -> TrackingError:
    return TrackingError(f"MLflow does not have the model of {key} yet; it may once everything is delivered")


def register(uri: str, experiment: str, key: str, session_model: str, name: str, tags: Mapping[str, str]) -> str:
    """Register the model of a run's session as `name`, once; return its version.

    Raises:
        TrackingError: the store at `uri` does not have the model, or cannot be used.
    """
    from tracking.mlflow_backend import connect
    from tracking.mlflow_errors import in_words
    from tracking.mlflow_reader import find_models, find_run

    client = connect(uri)
    with in_words(uri):
        entry = client.get_experiment_by_name(experiment)
        run = find_run(client, entry.experiment_id, key) if entry else None
        logged = find_models(client, entry.experiment_id, run.info.run_id, key).get(session_model) if run else None
        if logged is None or str(logged.status) != "READY":
            raise _lacking(key)
        return str((_registered(client, name, key) or _register(client, name, logged, tags)).version)


def describe_and_crown(uri: str, name: str, version: str, text: str, wish: Objective) -> tuple[bool, str]:
    """Give a version its card, and the alias if its holdout score is the best; return whether it holds it, and why."""
    from tracking.mlflow_backend import connect
    from tracking.mlflow_errors import in_words

    client = connect(uri)
    with in_words(uri):
        client.update_model_version(name, version, text)
        return _crown(client, name, client.get_model_version(name, version), wish)


def _version_tags(log: SweepLog, job: JobLog, key: str) -> dict[str, str]:
    provenance, score = job.sessions[0].provenance, (log.selected or {}).get("score")
    return {
        RUN_KEY_TAG: key,
        "sweep": log.spec.name,
        "data_digest": provenance["data_digest"],
        "weights_digest": provenance["weights_digest"],
        "backbone": job.config["backbone.name"],
        "protocol": json.dumps(log.sweep_spec.protocol(), sort_keys=True),
        "holdout_score": "" if score is None or log.spec.selection == "test" else repr(float(score)),
    }


def _registered(client: MlflowClient, name: str, key: str) -> ModelVersion | None:
    """Return the version that an earlier call registered for this run."""
    versions = client.search_model_versions(f"name = '{name}'")
    return next((entry for entry in versions if entry.tags.get(RUN_KEY_TAG) == key), None)


def _register(client: MlflowClient, name: str, model: LoggedModel, tags: Mapping[str, str]) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="SAFE models; `champion` has the best holdout score.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    entry = client.create_model_version(
        name,
        model.artifact_location,
        model.source_run_id,
        tags=dict(tags),
        await_creation_for=0,  # it is there at once
        model_id=model.model_id,
    )
    # What MLflow's own registering writes, so that its pages show the version beside the model.
    client.set_logged_model_tags(
        model.model_id, {"mlflow.modelVersions": json.dumps([{"name": name, "version": entry.version}])}
    )
    return entry


def _crown(client: MlflowClient, name: str, entry: ModelVersion, wish: Objective) -> tuple[bool, str]:
    present, tags = _champion(client, name), entry.tags
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
