"""`python -m sweeps predict`: predict image files with a model of MLflow's registry, or with a state."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from safe.cli.parser import Parser, add_imports
from sweeps.cli.common import add_results
from sweeps.ledger.folders import Folders


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "predict",
        help="predict images with a registered model or a state",
        epilog="Exit code 1 if an image could not be read (it is named and skipped), 2 if there is none at all.",
    )
    command.add_argument(
        "--model",
        required=True,
        help="models:/safe-digits@champion, models:/safe-digits/2, the folder of a model, or a state file",
    )
    command.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER", help="images, or folders of them")
    command.add_argument("--top", type=int, default=1, metavar="K", help="show the K most probable classes")
    command.add_argument("--json", action="store_true", help="print one JSON line an image instead of a table")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    command.add_argument("--weights", help="local file of the backbone's weights, where they lie elsewhere")
    add_imports(command)
    add_results(command)
    command.set_defaults(command=_predict)


def _predict(arguments: argparse.Namespace) -> int:
    from safe.cli.predict import image_paths, print_predictions
    from safe.errors import UserError
    from safe.predictor import load_predictor
    from sweeps.model.fetched import fetch_state

    if arguments.top < 1:
        raise UserError(f"--top must be at least 1, got {arguments.top}")
    files = image_paths(arguments.paths)
    with tempfile.TemporaryDirectory() as scratch:
        uri = Folders(arguments.results, "").tracking_uri()
        state = fetch_state(arguments.model, uri, Path(scratch))
        predictor = load_predictor(state, device=arguments.device, weights=arguments.weights)
    return print_predictions(predictor, files, top=arguments.top, as_json=arguments.json)
