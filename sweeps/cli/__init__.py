"""The command line of sweeps, one module a command. Heavy imports wait until a command needs them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import safe
from safe.cli.parser import Parser
from safe.errors import EXIT_USER_ERROR, UserError, bad_path, print_notices_once
from sweeps.cli import (
    ablation,
    compare,
    doctor,
    export,
    extend,
    list_,
    plan,
    predict,
    prune,
    report,
    resume,
    run,
    show,
    stop,
    ui,
)
from sweeps.cli.common import EXIT_INTERRUPTED
from tracking.errors import TrackingError

COMMANDS = (
    run, plan, resume, extend, stop, ablation, show, report, compare, list_, export, predict, prune, ui, doctor
)  # fmt: skip

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0, 1 (failed), 2 (bad input) or 130 (interrupted)."""
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as exit:  # argparse has printed its message
        return int(exit.code or 0)
    print_notices_once()
    try:
        command: Command = arguments.command
        return command(arguments)
    except (UserError, TrackingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except OSError as error:
        print(f"error: {bad_path(error)}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Return the parser; each subcommand registers itself with its function as `command`."""
    top = Parser(prog="python -m sweeps", description="Search, record and show sweeps of SAFE.")
    top.add_argument("--version", action="version", version=f"sweeps {safe.__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.register(commands)
    return top
