"""`python -m safe train|predict|evaluate`: one training run and what is done with it, without Ray and MLflow."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import safe
from safe.cli.parser import Parser, add_imports, add_network, add_predicting
from safe.errors import NonFiniteLossError, command_line, print_notices_once
from safe.io.sources import import_own


@command_line(stopped="stopped")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code: 0; 1 for a training that broke or images that could not be read; 2 for bad input; 130 after
        Ctrl-C; 141 when nobody reads the output any more.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(words)
    print_notices_once()
    try:
        import_own(arguments.imports)
        if arguments.command == "train":
            from safe.cli.train import train

            return train(arguments, words)
        if arguments.command == "predict":
            from safe.cli.predict import predict

            return predict(arguments)
        from safe.cli.evaluate import evaluate

        return evaluate(arguments)
    except NonFiniteLossError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; what Python still flushes at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parser() -> Parser:
    parser = Parser(prog="python -m safe", description="Train SAFE, predict with it and judge it.")
    parser.add_argument("--version", action="version", version=f"safe {safe.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_train(commands.add_parser("train", help="one training run over all sessions"))
    predict = commands.add_parser("predict", help="classes, probabilities and learner weights of image files")
    _add_checkpoint(predict)
    add_predicting(predict)
    _add_evaluate(commands.add_parser("evaluate", help="accuracy of a checkpoint over a temperature grid"))
    for command in commands.choices.values():
        add_imports(command)
    return parser


def _add_train(train: argparse.ArgumentParser) -> None:
    train.add_argument("--dataset", help="name or alias of a data set (default: digits)")
    train.add_argument("--config", type=Path, help="YAML file with settings")
    train.add_argument("--json", action="store_true", help="print one JSON line per session trained, not a table")
    train.add_argument("--save", type=Path, metavar="FILE", help="write the final inference state, for predict")
    train.add_argument(
        "--state",
        type=Path,
        metavar="FILE",
        help="keep the run in this file, written after every session and on Ctrl-C (which waits for the epoch; twice "
        "stops at once); the same command continues from it to the same bits",
    )
    train.add_argument("--every-epoch", action="store_true", help="write --state after every epoch too")
    train.add_argument("overrides", nargs="*", metavar="key=value", help="settings, for example fast.epochs=3")


def _add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    _add_checkpoint(evaluate)
    add_network(evaluate)
    evaluate.add_argument("--dataset", help="other data set with the same classes (default: the checkpoint's)")
    evaluate.add_argument("--root", help="folder of the data sets (default: the checkpoint's data.root)")
    evaluate.add_argument(
        "--temperatures",
        type=_temperatures,
        metavar="T,T,...",
        help="grid of aggregation.temperature (default: 0.01,0.1,1,10,100 and the checkpoint's)",
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON line a row instead of a table")


def _add_checkpoint(command: argparse.ArgumentParser) -> None:
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="file that train --save wrote")


def _temperatures(text: str) -> list[float]:
    try:
        grid = [float(word) for word in text.split(",")]
    except ValueError:
        grid = []
    if not grid or not all(0 < t < math.inf for t in grid):
        raise argparse.ArgumentTypeError(f"must be numbers above 0 between commas, got {text!r}")
    return grid
