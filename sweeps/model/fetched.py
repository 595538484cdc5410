"""The state in a model of MLflow's registry, fetched without running anything of the model."""

from __future__ import annotations

import re
from pathlib import Path

from safe.errors import UserError
from sweeps.model.saving import STATE_FOLDER
from tracking.errors import TrackingError

EARLIER_STATE = "artifacts/model.state"  # of models that held their state in one file


def fetch_state(model: str, tracking_uri: str, folder: Path) -> Path:
    """Return the inference state of a model: of `models:/...` or `runs:/...`, copied into `folder`, or of a local one.

    Args:
        model: MLflow's address of a model, the folder of one, or the file of a state.
        tracking_uri: the store that knows the model; no other one is asked.
        folder: an existing folder.

    Raises:
        UserError: there is no such model, or it holds no state.
    """
    place = Path(model)
    if re.match(r"(models|runs):/", model):
        from tracking.mlflow_backend import connect, sqlite_path
        from tracking.mlflow_errors import in_words
        from tracking.mlflow_reader import download

        database = sqlite_path(tracking_uri)
        if database is not None and not database.exists():
            raise UserError(
                f"no model is recorded in {database.parent} yet; run a sweep first, or name it with --results"
            )
        client = connect(tracking_uri)  # refuses in words what cannot be used
        try:
            with in_words(tracking_uri):
                place = download(client, model, folder)
        except TrackingError as error:
            raise UserError(f"no model {model} in MLflow: {error}") from None
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
