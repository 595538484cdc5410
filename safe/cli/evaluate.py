"""`python -m safe evaluate`: a checkpoint judged over a temperature grid, without any training."""

from __future__ import annotations

import argparse
import json
import sys
from statistics import fmean
from typing import TYPE_CHECKING

from safe.types import with_split

if TYPE_CHECKING:
    from safe.evaluation.logits import SessionLogits

DEFAULT_TEMPERATURES = (0.01, 0.1, 1.0, 10.0, 100.0)


def evaluate(arguments: argparse.Namespace) -> int:
    """Print one row per temperature, one for any other aggregation of the checkpoint, one per learner alone."""
    from safe.data.loading import load_dataset
    from safe.datasets.facts import canonical_name
    from safe.predictor import load_predictor

    name = arguments.dataset and canonical_name(arguments.dataset)
    predictor = load_predictor(arguments.checkpoint, device=arguments.device, weights=arguments.weights)
    config, own = predictor.config, predictor.config.aggregation
    root, seen = arguments.root or config.data.root, predictor.seen
    dataset = load_dataset(name or config.dataset, root, seen.size, seen.resize)
    if dataset.digest != predictor.data_digest:
        print(f"warning: {dataset.name} is not the data that the checkpoint was trained on", file=sys.stderr)
    logits = predictor.judge(dataset)

    grid = arguments.temperatures or sorted({*DEFAULT_TEMPERATURES, own.temperature})
    settings: list[tuple[str, float | None]] = [("entropy", t) for t in grid]
    settings += [(kind, None) for kind in ("mean", "max") if kind == own.kind]
    settings += [("slow", None), ("fast", None)]
    split = "val" if config.data.evaluate_on == "holdout" else "test"
    if not arguments.json:
        images = "held-out training" if split == "val" else "test"
        print(
            f"{dataset.name} after session {predictor.session}: {len(logits.labels)} {images} images of "
            f"{len(predictor.classes)} classes"
        )
        print("aggregation  temperature  accuracy  session mean  (%)")
    for kind, temperature in settings:
        overall, mean = _accuracies(logits, kind, temperature)
        if arguments.json:
            line = {"aggregation": kind, "temperature": temperature, "session": predictor.session}
            metrics = {"accuracy": overall, "accuracy_session_mean": mean}
            print(json.dumps(line | {with_split(split, name): value for name, value in metrics.items()}))
            continue
        trained = kind == own.kind and temperature in (None, own.temperature)
        shown = "-" if temperature is None else f"{temperature:g}"
        row = f"{kind:11}  {shown:>11}  {100 * overall:8.2f}  {100 * mean:12.2f}"
        print(row + ("       the checkpoint's setting" if trained else ""))
    return 0


def _accuracies(logits: SessionLogits, kind: str, temperature: float | None) -> tuple[float, float]:
    """Return the accuracy over all images and its unweighted mean over session groups, both in [0, 1]."""
    from safe.evaluation.logits import Prediction, accuracy_row

    combined = logits.combined(Prediction(kind, 1.0 if temperature is None else temperature))
    overall = accuracy_row(combined, logits.labels, [len(logits.labels)])[0]
    return overall, fmean(accuracy_row(combined, logits.labels, logits.counts))
