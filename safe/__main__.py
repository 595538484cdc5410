"""`python -m safe train`: one training run, without Ray and MLflow."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safe.errors import EXIT_USER_ERROR, NonFiniteLossError, UserError

if TYPE_CHECKING:
    from safe.trainer import SafeTrainer
    from safe.types import EpochDone, SessionResult


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 1 for a training that broke, 2 for bad input."""
    arguments = _parser().parse_args(argv)
    try:
        return _train(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except NonFiniteLossError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m safe", description="Train SAFE without Ray and MLflow.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="one training run over all sessions")
    train.add_argument("--dataset", help="name or alias of a data set (default: digits)")
    train.add_argument("--config", type=Path, help="YAML file with settings")
    train.add_argument("--json", action="store_true", help="print one JSON line a session instead of a table")
    train.add_argument("--save", type=Path, help="write the final inference state to this file")
    train.add_argument("overrides", nargs="*", metavar="key=value", help="settings, for example fast.epochs=3")
    return parser


def _train(arguments: argparse.Namespace) -> int:
    from safe.config import load_config
    from safe.data.registry import require_dataset

    config = load_config(arguments.dataset, arguments.config, arguments.overrides)
    require_dataset(config.dataset, config.data.root)
    if arguments.save is not None:
        _check_writable(arguments.save)

    from safe.checkpoint import save_state
    from safe.trainer import SafeTrainer

    trainer = SafeTrainer(config)
    show = _JsonLines() if arguments.json else _Table(trainer)
    try:
        while not trainer.done:
            show(trainer.run_session(show.on_epoch))
    finally:
        show.close()
    if arguments.save is not None:
        save_state(trainer.inference_state(), arguments.save)
        print(f"inference state: {arguments.save}", file=sys.stderr)
    return 0


def _check_writable(path: Path) -> None:
    """Refuse a file that cannot be written before any work is done, not after it."""
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--save: {path} cannot be written; name a file in a folder that can")


class _JsonLines:
    """One JSON object a session on standard output, for programs."""

    def on_epoch(self, event: EpochDone) -> None:
        """Epochs are not shown."""

    def __call__(self, result: SessionResult) -> None:
        line = {"session": result.session, "sessions": result.sessions, **result.as_metrics()}
        print(json.dumps(line), flush=True)

    def close(self) -> None:
        """Nothing is open."""


class _Table:
    """One line a session for people, with a progress bar over epochs on a terminal."""

    def __init__(self, trainer: SafeTrainer) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        config = trainer.config
        self._console = Console()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        epochs = config.slow.epochs + (trainer.sessions - 1) * config.fast.epochs
        self._task = self._progress.add_task("session 1", total=epochs)
        self._console.print(
            f"{config.dataset}: {trainer.sessions} sessions, seed {config.seed}, {config.pet.kind} on "
            f"{config.backbone.name}, {trainer.device}"
        )
        self._console.print("session  classes  accuracy  average  forgetting    slow    fast  (%)  seconds")
        self._progress.start()

    def on_epoch(self, event: EpochDone) -> None:
        self._progress.update(
            self._task, advance=1, description=f"session {event.session} of {event.sessions}, {event.phase} learner"
        )

    def __call__(self, result: SessionResult) -> None:
        m = result.metrics
        forgetting = f"{100 * m['forgetting']:10.2f}" if "forgetting" in m else f"{'-':>10}"
        self._console.print(
            f"{result.session:4d}/{result.sessions:<2d}  {result.classes_seen:7d}  {100 * m['accuracy']:8.2f}  "
            f"{100 * m['average_accuracy']:7.2f}  {forgetting}  {100 * m['slow/accuracy']:6.2f}  "
            f"{100 * m['fast/accuracy']:6.2f}       {sum(result.seconds.values()):7.1f}",
            highlight=False,
        )

    def close(self) -> None:
        self._progress.stop()


if __name__ == "__main__":
    sys.exit(main())
