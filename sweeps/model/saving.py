"""What turns an inference state into a model of MLflow: code and its description, without a pickle."""

from __future__ import annotations

import base64
import logging
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

from safe.io.opening import held
from tracking.compat import requirements_as_given
from tracking.environment import client_defaults

STATE_FOLDER = "artifacts/state"
_REQUIREMENTS = ("mlflow", "torch", "torchvision", "timm", "safetensors", "pydantic", "pyyaml", "pillow", "pandas")


def model_code(folder: Path, imports: Sequence[str] = ()) -> Path:
    """Return a folder with all that an MLflow model of ours holds beside its state, written when it is not there.

    It is the same for every state of a study: code that loads it (`sweeps.model.pyfunc`), signature, example,
    requirements, and the names of the modules of a user's own that it needs. The state and its parts go to STATE_FOLDER
    of the model. Of several processes that ask for it one writes it, and the others wait.
    """
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with held(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():  # nobody else has written it meanwhile
                _write_code(folder, imports)
    return folder


def _write_code(folder: Path, imports: Sequence[str]) -> None:
    client_defaults()
    import mlflow.pyfunc
    import pandas as pd

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells every step it takes
    scratch = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(scratch, ignore_errors=True)  # what a kill has left of it
    try:
        draft, state, code = scratch / "model", scratch / "state", scratch / "pyfunc.py"
        state.mkdir(parents=True)
        # The model remembers where its code came from, which need not be a folder of this machine.
        shutil.copyfile(Path(__file__).with_name(code.name), code)
        with requirements_as_given():  # they are what is installed
            mlflow.pyfunc.save_model(
                draft,
                python_model=str(code),
                artifacts={"state": str(state)},
                signature=_signature(),
                input_example=pd.DataFrame({"image": [as_text(example())]}),
                pip_requirements=[f"{package}=={version(package)}" for package in _REQUIREMENTS],
                model_config={"device": "auto", "weights": None, "imports": list(imports)},
            )
        shutil.rmtree(draft / "artifacts", ignore_errors=True)
        draft.replace(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def model_of(state: Path, folder: Path, imports: Sequence[str] = ()) -> Path:
    """Return a model of an inference state in a new folder: `model_code` with the state and its parts.

    Raises:
        UserError: `state` is none of ours.
    """
    from safe.states.checkpoint import load_state
    from safe.states.inference import session_file, state_files

    files = state_files(state)
    _write_code(folder, imports)
    inside = folder / STATE_FOLDER
    inside.mkdir(parents=True)
    shutil.copyfile(files[0], session_file(inside, load_state(files[0])["session"]))  # whatever it was called
    for part in files[1:]:
        shutil.copyfile(part, inside / part.name)
    return folder


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Object, Property

    top = Object([Property("label", DataType.string), Property("probability", DataType.double)])
    outputs = [
        ColSpec("string", "label"),
        ColSpec("double", "probability"),
        ColSpec("double", "weight_fast", required=False),
        ColSpec(Array(top), "top"),
    ]
    return ModelSignature(
        Schema([ColSpec("string", "image")]), Schema(outputs), ParamSchema([ParamSpec("top_k", DataType.long, 5)])
    )


def example(side: int = 32) -> bytes:
    """Return a grey ramp as PNG: nobody's image."""
    from PIL import Image

    buffer = BytesIO()
    Image.linear_gradient("L").resize((side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def as_text(file: bytes) -> str:
    """Return an image file as the models' signature takes it."""
    return base64.b64encode(file).decode()
