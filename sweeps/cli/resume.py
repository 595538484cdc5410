"""`python -m sweeps resume`: go on with a sweep or an ablation as its ledger has it."""

from __future__ import annotations

import argparse

from safe.cli.parser import Parser
from sweeps.cli.common import add_results, go_on
from sweeps.ledger.known import known_sweep


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("resume", help="go on with a sweep where it ended, and try again what failed")
    command.add_argument("name")
    add_results(command)
    command.set_defaults(command=_resume)


def _resume(arguments: argparse.Namespace) -> int:
    log, _ = known_sweep(arguments.results, arguments.name)
    return go_on(log.spec, arguments, retry_failed=True)
