"""`python -m sweeps show`: print what a sweep gave."""

from __future__ import annotations

import argparse
import json
from typing import Any

from safe.cli.parser import Parser
from sweeps.cli.common import add_name, named_sweep, print_log
from sweeps.ledger.ledger import SweepLog
from sweeps.results.summary import sweep_summary
from sweeps.spec.specs import SweepSpec


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("show", help="print what a sweep gave")
    command.add_argument("--json", action="store_true", help="one object for programs, fractions in [0, 1]")
    add_name(command)
    command.set_defaults(command=_show)


def _show(arguments: argparse.Namespace) -> int:
    log, folder = named_sweep(arguments)
    if arguments.json:
        print(json.dumps(_summary(log), indent=2, allow_nan=False))
    else:
        print_log(log, folder)
    return 0


def _summary(log: SweepLog) -> dict[str, Any]:
    if isinstance(log.spec, SweepSpec):
        return sweep_summary(log)
    from sweeps.studies.ablation import ablation_summary

    return ablation_summary(log)
