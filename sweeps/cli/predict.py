"""`python -m sweeps predict`: predict image files with a model of MLflow's registry, or with a state."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from safe.cli.parser import add_imports, add_predicting
from sweeps.cli.common import add_results, command
from sweeps.ledger.folders import Folders


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        required=True,
        help="models:/safe-digits@champion, models:/safe-digits/2, the folder of a model, or a state file",
    )


@command(
    "predict", "predict images with a registered model or a state", _options, add_predicting, add_imports, add_results
)
def _predict(arguments: argparse.Namespace) -> int:
    from safe.cli.predict import image_paths, print_predictions
    from safe.predictor import load_predictor
    from sweeps.model.fetched import fetch_state

    files = image_paths(arguments.paths)
    with tempfile.TemporaryDirectory() as scratch:
        uri = Folders(arguments.results, "").tracking_uri()
        state = fetch_state(arguments.model, uri, Path(scratch))
        predictor = load_predictor(state, device=arguments.device, weights=arguments.weights)
    return print_predictions(predictor, files, top=arguments.top, as_json=arguments.json)
