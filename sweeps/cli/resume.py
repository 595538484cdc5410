"""`python -m sweeps resume`: go on with a sweep or an ablation as its ledger has it."""

from __future__ import annotations

import argparse

from safe.cli.parser import Parser
from sweeps.cli.common import add_detail, add_name, go_on, named_sweep


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("resume", help="go on with a sweep where it ended, and try again what failed")
    add_name(command)
    add_detail(command)
    command.set_defaults(command=_resume)


def _resume(arguments: argparse.Namespace) -> int:
    log, _ = named_sweep(arguments)
    return go_on(log.spec, arguments, retry_failed=True)
