"""A model of MLflow's registry, fetched without running anything of it, and the state in it."""

from __future__ import annotations

import re
from pathlib import Path

from safe.errors import UserError
from sweeps.model.saving import STATE_FOLDER
from tracking.errors import TrackingError

EARLIER_STATE = "artifacts/model.state"  # of models that held their state in one file
MODEL_FILE = "MLmodel"


def fetch_state(model: str, tracking_uri: str, folder: Path) -> Path:
    """Return the inference state of a model; see `fetch_model`."""
    return state_in(fetch_model(model, tracking_uri, folder), model)


def fetch_model(model: str, tracking_uri: str, folder: Path) -> Path:
    """Return the files of a model: of `models:/...` or `runs:/...`, copied into `folder`, or of a local one.

    Args:
        model: MLflow's address of a model, the folder of one, or the file of a state.
        tracking_uri: the store that knows the model; no other one is asked.
        folder: an existing folder.

    Raises:
        UserError: there is no such model.
    """
    if not re.match(r"(models|runs):/", model):
        return Path(model)
    from tracking.mlflow_backend import connect, sqlite_path
    from tracking.mlflow_errors import in_words
    from tracking.mlflow_reader import download

    database = sqlite_path(tracking_uri)
    if database is not None and not database.exists():
        raise UserError(f"no model is recorded in {database.parent} yet; run a sweep first, or name it with --results")
    client = connect(tracking_uri)  # refuses in words what cannot be used
    try:
        with in_words(tracking_uri):
            return download(client, model, folder)
    except TrackingError as error:
        raise UserError(f"no model {model} in MLflow: {error}") from None


def state_in(place: Path, model: str) -> Path:
    """Return the inference state in a model's files, which may be that state alone.

    Raises:
        UserError: `model`, whose files they are, holds none.
    """
    if place.is_dir():
        inside = [place / EARLIER_STATE, *sorted((place / STATE_FOLDER).glob("session-*.pt"))]
        place = next((file for file in inside if file.is_file()), inside[0])
    if not place.is_file():
        raise UserError(
            f"--model {model}: no state of ours there; give models:/safe-digits@champion, models:/safe-digits/1, "
            "models:/ and the id of a session's model, the folder of a model, or a state file "
            "(checkpoints/session-05.pt)"
        )
    return place
