"""`python -m sweeps stop`: what Ctrl-C does, from another terminal."""

from __future__ import annotations

import argparse

from safe.cli.parser import Parser
from sweeps.cli.common import add_results, resume_words
from sweeps.ledger.known import known_sweep
from sweeps.ledger.lock import stop_holder


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("stop", help="stop a running sweep so that it can be continued; twice: at once")
    command.add_argument("name")
    add_results(command)
    command.set_defaults(command=_stop)


def _stop(arguments: argparse.Namespace) -> int:
    _, folder = known_sweep(arguments.results, arguments.name)
    pid = stop_holder(folder, arguments.name)
    print(f"process {pid} stops {arguments.name} after the epochs that are running; the same again stops it at once")
    print(f"continue with: {resume_words(arguments.name, arguments.results)}")
    return 0
