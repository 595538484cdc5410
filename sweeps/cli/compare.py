"""`python -m sweeps compare`: two sweeps side by side, one HTML page."""

from __future__ import annotations

import argparse

from safe.cli.parser import Parser
from sweeps.cli.common import add_results
from sweeps.ledger.known import known_sweep


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("compare", help="set two sweeps side by side, one HTML page")
    command.add_argument("first", metavar="A")
    command.add_argument("second", metavar="B")
    add_results(command)
    command.set_defaults(command=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    from sweeps.report import write_comparison

    first, _ = known_sweep(arguments.results, arguments.first)
    second, _ = known_sweep(arguments.results, arguments.second)
    print(f"comparison: {write_comparison(first, second, arguments.results.absolute() / 'comparisons')}")
    return 0
