"""`python -m sweeps report`: one self-contained HTML page about a sweep."""

from __future__ import annotations

import argparse

from safe.cli.parser import Parser
from sweeps.cli.common import add_name, named_sweep


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("report", help="write the report of a sweep, one HTML page")
    add_name(command)
    command.set_defaults(command=_report)


def _report(arguments: argparse.Namespace) -> int:
    from sweeps.report import write_report

    log, folder = named_sweep(arguments)
    print(f"report: {write_report(log, folder)}")
    return 0
