"""`python -m sweeps report`: one self-contained HTML page about a sweep."""

from __future__ import annotations

import argparse

from safe.cli.parser import Parser
from safe.numerics import import_own
from sweeps.cli.common import add_results
from sweeps.ledger.known import known_sweep


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("report", help="write the report of a sweep, one HTML page")
    command.add_argument("name")
    add_results(command)
    command.set_defaults(command=_report)


def _report(arguments: argparse.Namespace) -> int:
    from sweeps.report import write_report

    log, folder = known_sweep(arguments.results, arguments.name)
    import_own(log.spec.imports)
    print(f"report: {write_report(log, folder)}")
    return 0
