"""The command line of sweeps, one module a command. Heavy imports wait until a command needs them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import safe
from safe.cli.parser import Parser
from safe.errors import command_line, print_notices_once
from safe.io.sources import import_own
from sweeps.cli import (
    ablation,
    audit_claim,
    compare,
    completion,
    doctor,
    export,
    extend,
    list_,
    live,
    orders,
    plan,
    predict,
    prune,
    report,
    resume,
    run,
    serve,
    show,
    stop,
    ui,
)
from tracking.errors import TrackingError

COMMANDS = (
    run, plan, resume, extend, live, stop, ablation, orders, audit_claim, show, report, compare, list_, export, predict,
    serve, prune, ui, doctor, completion,
)  # fmt: skip

Command = Callable[[argparse.Namespace], int]


@command_line(TrackingError)
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0, 1 (failed), 2 (bad input) or 130 (interrupted)."""
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as exit:  # argparse has printed its message
        return int(exit.code or 0)
    print_notices_once()
    import_own(getattr(arguments, "imports", ()))  # they may bring what else is asked for
    command: Command = arguments.command
    return command(arguments)


def parser() -> argparse.ArgumentParser:
    """Return the parser; each subcommand registers itself with its function as `command`."""
    top = Parser(prog="python -m sweeps", description="Search, record and show sweeps of SAFE.")
    top.add_argument("--version", action="version", version=f"sweeps {safe.__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.register(commands)
    return top
