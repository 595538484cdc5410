"""`python -m sweeps stop`: what Ctrl-C does, from another terminal."""

from __future__ import annotations

import argparse

from safe.cli.parser import Parser
from sweeps.cli.common import add_name, named_sweep
from sweeps.ledger.known import known_log
from sweeps.ledger.lock import stop_holder
from sweeps.spec.typed import typed


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("stop", help="stop a running sweep so that it can be continued; twice: at once")
    add_name(command)
    command.set_defaults(command=_stop)


def _stop(arguments: argparse.Namespace) -> int:
    _, folder = named_sweep(arguments, known_log)
    pid = stop_holder(folder, arguments.name)
    print(f"process {pid} stops {arguments.name} after the epochs that are running; the same again stops it at once")
    print(f"continue with: {typed('resume', arguments.name, results=arguments.results)}")
    return 0
