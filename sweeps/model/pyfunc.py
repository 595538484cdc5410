"""The logged model: MLflow copies this file beside the inference state and runs it to load the model, no pickle.

It is run when a model is written too, where torch is of no use and takes seconds to load: what needs it loads it.

It needs the package `safe` of the installation that wrote the state, and finds the backbone by its name; the state
holds its digest. The model configuration can name other weights and a device (`device`, `weights`); it has the modules
of a user's own that the sweep was run with (`imports`).
"""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from safe.errors import UserError
from safe.io.sources import import_own

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_TOP = 5


class SafePyfunc(PythonModel):
    """Predicts classes of images given as base64 text of image files in the column `image`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the state and its backbone; a `UserError` says how to get weights or modules that are not here."""
        from safe.predictor import load_predictor

        settings = context.model_config or {}
        import_own(settings.get("imports", ()))
        place = Path(context.artifacts["state"])
        (state,) = [place] if place.is_file() else place.glob("session-*.pt")  # version 0.1.0 registered the file alone
        self._predictor = load_predictor(state, device=settings.get("device", "auto"), weights=settings.get("weights"))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return a row an image: `label`, `probability`, `weight_fast` and `top`, the `top_k` most probable classes.

        `weight_fast` is None where learners have no weight (`aggregation.kind=max`).
        """
        import torch

        texts = list(model_input["image"])
        if not texts:
            return pd.DataFrame({"label": [], "probability": [], "weight_fast": [], "top": []})
        images = torch.stack([self._image(row, text) for row, text in enumerate(texts)])
        prediction = self._predictor.predict(images)
        top = prediction.top((params or {}).get("top_k", DEFAULT_TOP))
        weights = [None] * len(top) if prediction.fast_weight is None else prediction.fast_weight.tolist()
        return pd.DataFrame(
            {
                "label": [best[0][0] for best in top],
                "probability": [best[0][1] for best in top],
                "weight_fast": pd.Series(weights, dtype=object if prediction.fast_weight is None else float),
                "top": [[{"label": label, "probability": share} for label, share in best] for best in top],
            }
        )

    def _image(self, row: int, text: object) -> Tensor:
        expected = "expected the base64 text of an image file (PNG, JPEG, ...)"
        try:
            return self._predictor.read(BytesIO(base64.b64decode(str(text), validate=True)))
        except UserError as error:
            raise MlflowException.invalid_parameter_value(f"image {row}: {expected}; {error}") from None
        except ValueError:  # no base64 text; that of another alphabet is no binascii.Error
            raise MlflowException.invalid_parameter_value(f"image {row}: {expected}, got {str(text)[:40]!r}") from None


mlflow.models.set_model(SafePyfunc())
