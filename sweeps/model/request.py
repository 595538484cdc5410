"""A request to a served model: an image of the data set that it was trained on, as its signature takes it."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from safe.errors import UserError, tell
from safe.io.writable import whole
from sweeps.model.saving import as_text, example

if TYPE_CHECKING:
    from safe.predictor import Predictor


def write_request(predictor: Predictor, file: Path) -> Path:
    """Write a request as JSON, and beside it the image in it as PNG, which is returned.

    It is the first test image of a class that the model knows; where the data set is not there, a grey ramp.
    """
    picture = file.with_suffix(".png")
    png = _first_known(predictor)
    body = {"dataframe_split": {"columns": ["image"], "data": [[as_text(png)]]}}
    with whole(picture) as draft:
        draft.write_bytes(png)
    with whole(file) as draft:
        draft.write_text(json.dumps(body), "utf-8")
    return picture


def _first_known(predictor: Predictor) -> bytes:
    import torch
    from PIL import Image

    from safe.data.loading import load_dataset

    config, known = predictor.config, set(predictor.classes)
    try:
        dataset = load_dataset(config.dataset, config.data.root, predictor.file_side)
    except UserError:
        tell(f"the data set {config.dataset} is not in {config.data.root}, so the request holds a grey ramp")
        return example()
    images = dataset.test
    first = next((i for i, label in enumerate(images.labels.tolist()) if dataset.classes[label] in known), 0)
    picture = images.whole(torch.tensor([first]))[0]
    pixels = picture if isinstance(picture, torch.Tensor) else picture()
    buffer = BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()
