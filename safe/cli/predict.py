"""`python -m safe predict`: classes, probabilities and aggregation weights of image files."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safe.errors import UserError, shown, tell

if TYPE_CHECKING:
    from safe.predictor import Prediction, Predictor


def predict(arguments: argparse.Namespace) -> int:
    """Predict every image; return 1 if one could not be read, else 0."""
    from safe.predictor import load_predictor

    files = image_paths(arguments.paths)
    predictor = load_predictor(arguments.checkpoint, device=arguments.device, weights=arguments.weights)
    return print_predictions(predictor, files, top=arguments.top, as_json=arguments.json)


def print_predictions(predictor: Predictor, files: Sequence[str], *, top: int, as_json: bool) -> int:
    """Print the `top` most probable classes of every file, as a table or as JSON lines; return `predict`'s exit code.

    A file that cannot be read is named on standard error and skipped.
    """
    import torch

    show = _json_line if as_json else _Table(files, predictor.classes)
    skipped = 0
    size = predictor.config.runtime.eval_batch_size
    for start in range(0, len(files), size):
        names, images = [], []
        for file in files[start : start + size]:
            try:
                images.append(predictor.read(file))
            except UserError as error:
                print(f"skipped: {error}", file=sys.stderr)
                skipped += 1
            else:
                names.append(file)
        if images:
            prediction = predictor.predict(torch.stack(images))
            for row, (name, best) in enumerate(zip(names, prediction.top(top), strict=True)):
                show(name, best, _weights(prediction, row))
    if skipped:
        print(f"{skipped} of {len(files)} images could not be read", file=sys.stderr)
    return 1 if skipped else 0


def image_paths(paths: Sequence[Path]) -> list[str]:
    """Return the named files and every image below the named folders; what is passed over there is told.

    Raises:
        UserError: a path that is not there or cannot be listed, or no image at all.
    """
    from safe.datasets.listing import IMAGE_SUFFIXES, image_files, passed_over

    files: list[str] = []
    others: Counter[str] = Counter()
    for path in paths:
        try:
            if path.is_dir():
                images, passed = image_files(path)
                files += images
                others.update(passed)
            else:
                files.append(str(path))
        except OSError as error:
            raise UserError(f"cannot list the folder {path}: {error.strerror}") from None
        if not path.exists():
            raise UserError(f"no such file or folder: {path}")
    told = passed_over(others)
    if not files:
        under = ", ".join(map(str, paths))
        raise UserError(f"no image ({', '.join(IMAGE_SUFFIXES)}) under {under}{told and f'; {told}'}")
    if told:
        tell(f"{told}; images are {', '.join(IMAGE_SUFFIXES)}")
    return files


def _weights(prediction: Prediction, row: int) -> dict[str, float] | None:
    """Return each learner's weight in the aggregate of one image, `None` where there is no such weight."""
    if prediction.slow_weight is None or prediction.fast_weight is None:
        return None
    return {"slow": prediction.slow_weight[row].item(), "fast": prediction.fast_weight[row].item()}


def _json_line(file: str, top: list[tuple[str, float]], weights: dict[str, float] | None) -> None:
    """Print one JSON object for one image, for programs."""
    line: dict[str, Any] = {"file": file, "class": top[0][0], "probability": top[0][1]}
    line["top"] = [{"class": name, "probability": probability} for name, probability in top]
    print(json.dumps({**line, "weights": weights}), flush=True)


class _Table:
    """One line an image for people, and one for each further class."""

    def __init__(self, files: Sequence[str], classes: Sequence[str]) -> None:
        self._file_width = max(len(shown(file)) for file in files)
        self._class_width = max(5, *(len(shown(name)) for name in classes))
        self._line("file", "class", "probability (%)", "fast weight")

    def __call__(self, file: str, top: list[tuple[str, float]], weights: dict[str, float] | None) -> None:
        for place, (name, probability) in enumerate(top):
            weight = "" if place else "-" if weights is None else f"{weights['fast']:.2f}"
            self._line("" if place else shown(file), shown(name), f"{100 * probability:.1f}", weight)

    def _line(self, file: str, name: str, probability: str, weight: str) -> None:
        line = f"{file:{self._file_width}}  {name:{self._class_width}}  {probability:>15}  {weight:>11}"
        print(line.rstrip(), flush=True)
