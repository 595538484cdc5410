"""An inference state as a model of MLflow: logged from code, without a pickle."""

from __future__ import annotations

import base64
import logging
import shutil
import tempfile
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel


STATE_FILE = "model.state"
_REQUIREMENTS = ("mlflow", "torch", "torchvision", "timm", "safetensors", "pydantic", "pyyaml", "pillow", "pandas")


def save_model(state: Path, folder: Path, *, run_id: str | None = None, logged: LoggedModel | None = None) -> None:
    """Write an inference state as MLflow model into `folder`, which must not exist; `logged` is its entry in MLflow."""
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import Model

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells every step it takes

    from safe.states.checkpoint import save_state
    from safe.states.inference import load_inference_state

    whole = load_inference_state(state)
    entry = Model(run_id=run_id)
    if logged is not None:
        entry = Model(
            artifact_path=logged.artifact_location,
            model_uuid=logged.model_id,
            run_id=run_id,
            model_id=logged.model_id,
        )
    with tempfile.TemporaryDirectory() as scratch:
        file, code = Path(scratch) / STATE_FILE, Path(scratch) / "pyfunc.py"
        save_state(whole, file)
        # The model remembers where its code came from, which need not be a folder of this machine.
        shutil.copyfile(Path(__file__).with_name(code.name), code)
        mlflow.pyfunc.save_model(
            folder,
            mlflow_model=entry,
            python_model=str(code),
            artifacts={"state": str(file)},
            signature=_signature(),
            input_example=pd.DataFrame({"image": [_example(whole["image_side"])]}),
            pip_requirements=[f"{package}=={version(package)}" for package in _REQUIREMENTS],
            model_config={"device": "auto", "weights": None},
            metadata={"weights_digest": whole["weights_digest"], "classes": len(whole["classes"])},
        )


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


def _example(side: int) -> str:
    """Return a grey ramp as base64 text of a PNG file: nobody's image."""
    from PIL import Image

    buffer = BytesIO()
    Image.linear_gradient("L").resize((side, side)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
