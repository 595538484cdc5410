"""`python -m safe train`: a run over all sessions, kept in a file from which the same command continues."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from safe.cli.show import JsonLines, Table
from safe.config import load_config, settings_of
from safe.config.loading import with_kept_order
from safe.datasets.facts import require_dataset
from safe.errors import UserError
from safe.io.writable import require_writable
from safe.types import SessionResult

if TYPE_CHECKING:
    from safe.training.trainer import SafeTrainer


def train(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Train, or go on training, and return the exit code; `words` are the command line, shown after an interrupt."""
    _check_files(arguments.save, arguments.state, arguments.every_epoch)
    overrides = with_kept_order(arguments.overrides, lambda: _kept_order(arguments.state), arguments.config)
    config = load_config(arguments.dataset, arguments.config, overrides)
    require_dataset(config.dataset, config.data.root)

    from safe.training.trainer import SafeTrainer

    trainer = SafeTrainer(config)
    file: Path | None = arguments.state
    if file is not None and file.exists():
        _continue(trainer, file)
    if trainer.done:
        print(f"this run is finished; {file} holds its end (delete it to train again)", file=sys.stderr)
    else:
        show = JsonLines(trainer) if arguments.json else Table(trainer)
        if not _run(trainer, show, file, arguments.every_epoch):
            print(
                f"stopped; {file} holds the run, continue with:\n  python -m safe {shlex.join(words)}", file=sys.stderr
            )
            return 130
    if arguments.save is not None:
        _write(trainer.inference_state(), arguments.save, "--save")
        print(f"inference state: {arguments.save}", file=sys.stderr)
    return 0


def _run(trainer: SafeTrainer, show: JsonLines | Table, file: Path | None, every_epoch: bool) -> bool:
    """Train to the end, or to an interrupt after which `file` continues the run; return whether it is the end."""
    try:
        with _Interrupt(defer=file is not None) as interrupt:
            while not trainer.done and not interrupt.asked:
                event = trainer.advance()
                show(event)
                if file is not None and (every_epoch or isinstance(event, SessionResult)):
                    _write(trainer.state_dict(), file, "--state")
            if file is not None and not trainer.done:
                _write(trainer.state_dict(), file, "--state")
    except KeyboardInterrupt:
        # Somewhere within an epoch, where the trainer's state is of no use: the last one written is what there is.
        if file is None or not file.exists():
            raise
        return False
    finally:
        show.close()
    return trainer.done


class _Interrupt:
    """Within it the first Ctrl-C only sets `asked`, and the second interrupts as usual; without `defer` the first."""

    def __init__(self, defer: bool) -> None:
        self._defer = defer
        self.asked = False

    def __enter__(self) -> _Interrupt:
        if self._defer:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._defer:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("stopping after this epoch; Ctrl-C again stops at once", file=sys.stderr)


def _continue(trainer: SafeTrainer, file: Path) -> None:
    """Take over the run in `file`."""
    from safe.states.checkpoint import NewerFormatError, load_state

    try:
        state = load_state(file)
    except NewerFormatError:
        raise
    except UserError as error:
        raise UserError(
            f"--state: {error}; name another file, or, if it was this run, delete it to begin anew"
        ) from None
    if "optimizer" not in state:
        raise UserError(f"--state: {file} holds no run to continue; name another file")
    try:
        trainer.load_state_dict(state)
    except UserError as error:
        raise UserError(f"--state: {file}: {error}, or name another file") from None
    if not trainer.done:
        print(f"continuing {file} in session {trainer.session + 1} of {trainer.sessions}", file=sys.stderr)


def _kept_order(file: Path | None) -> Any:
    """Return the order of classes that the run in `file` was begun with; None where there is no such run."""
    from safe.states.checkpoint import load_state

    with suppress(UserError):  # what is wrong with the file is told when the run goes on from it
        return settings_of(load_state(file))["data.class_order"] if file is not None else None
    return None


def _write(state: dict[str, Any], path: Path, option: str) -> None:
    from safe.states.checkpoint import save_state

    try:
        save_state(state, path)
    except OSError as error:
        raise UserError(f"{option}: {path} could not be written: {error.strerror}") from None


def _check_files(save: Path | None, state: Path | None, every_epoch: bool) -> None:
    """Refuse files that cannot be written before any work is done, not after it."""
    if every_epoch and state is None:
        raise UserError("--every-epoch says when --state FILE is written: give both")
    if save is not None and state is not None and save.absolute() == state.absolute():
        raise UserError(f"--save and --state hold different things and need two files, got {save} for both")
    for option, path in (("--save", save), ("--state", state)):
        if path is not None:
            require_writable(path, option)
