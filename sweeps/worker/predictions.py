"""What a trained state says of every image that judges it: the lines of a table, and the confusion of classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from safe.config import Config
from safe.data.images import FileImages
from safe.data.stream import Subset
from safe.evaluation.aggregation import entropy_weights
from safe.evaluation.logits import SessionLogits
from safe.training.build import prediction_of

HEADER = ("image", "session", "true", "predicted", "probability", "weight_fast", "slow", "fast")


def predicted_images(
    logits: SessionLogits, config: Config, classes: Sequence[str], judging: Sequence[Subset]
) -> tuple[list[str], Iterator[list[object]]]:
    """Return the header and a line for every image: which it is, what it shows, and what is predicted.

    `image` is the file below the data folder, or the position in the data set's images; `probability` that of the
    predicted class; `weight_fast` the fast learner's weight, empty where entropies do not weigh; `slow` and `fast`
    what each learner predicts alone.

    Args:
        classes: names by order of arrival.
        judging: the images of each session group of `logits`.
    """
    prediction = prediction_of(config)
    combined = logits.combined(prediction)
    probability, predicted = combined.softmax(dim=1).max(dim=1)
    weights: list[object] = [""] * len(logits.labels)
    if prediction.kind == "entropy":
        weights = entropy_weights(*logits.scaled(prediction.logit_scale), prediction.temperature)[1].tolist()
    named = [(number, name) for number, subset in enumerate(judging, start=1) for name in _names(subset, config)]
    columns = (logits.labels, predicted, logits.slow.argmax(dim=1), logits.fast.argmax(dim=1))
    rows = zip(named, *(column.tolist() for column in columns), probability.tolist(), weights, strict=True)
    return list(HEADER), (
        [name, session, classes[true], classes[answer], f"{share:.6f}", weight, classes[slow], classes[fast]]
        for (session, name), true, answer, slow, fast, share, weight in rows
    )


def confusion(logits: SessionLogits, config: Config, classes: int) -> list[list[int]]:
    """Return how many images of class i are predicted as class j, at row i and column j."""
    predicted = logits.combined(prediction_of(config)).argmax(dim=1)
    cells = torch.bincount(logits.labels * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes).tolist()


def _names(subset: Subset, config: Config) -> list[object]:
    if not isinstance(subset.images, FileImages):
        return list(subset.index.tolist())
    roots = [Path(config.dataset).absolute(), Path(config.data.root).absolute()]
    return [_below(Path(subset.images.paths[i]).absolute(), roots) for i in subset.index.tolist()]


def _below(path: Path, roots: Sequence[Path]) -> str:
    """Return a path as seen from the first of the folders that it lies in."""
    return next((path.relative_to(root).as_posix() for root in roots if path.is_relative_to(root)), str(path))
