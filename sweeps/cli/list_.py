"""`python -m sweeps list`: the sweeps of a results folder."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from safe.cli.parser import Parser
from safe.errors import UserError
from sweeps.cli.common import add_results, sweep_names
from sweeps.ledger import read_ledger
from sweeps.results import final_summary, status_of
from sweeps.spec import SweepSpec


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("list", help="list the sweeps of the results folder")
    add_results(command)
    command.set_defaults(command=_list)


def _list(arguments: argparse.Namespace) -> int:
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "data set", "selection", "state", "test accuracy"):
        table.add_column(heading, no_wrap=True)
    found = sweep_names(arguments.results)
    for name in found:
        try:
            log = read_ledger(arguments.results / "sweeps" / name)
        except UserError:
            table.add_row(name, "-", "-", "damaged", "-")
            continue
        summary = final_summary(log) if isinstance(log.spec, SweepSpec) else None
        accuracy = f"{100 * summary['test/accuracy']['mean']:.1f} %" if summary else "-"
        table.add_row(name, log.spec.dataset, log.spec.selection, status_of(log), accuracy)
    Console().print(table if found else f"no sweep in {arguments.results}")
    return 0
