"""`python -m sweeps show`: print what a sweep gave."""

from __future__ import annotations

import argparse
import json
from typing import Any

from sweeps.cli.common import add_name, command, named_sweep, print_log
from sweeps.ledger.ledger import SweepLog
from sweeps.results.summary import sweep_summary
from sweeps.spec.specs import SweepSpec


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one object for programs, fractions in [0, 1]")


@command("show", "print what a sweep gave", _options, add_name)
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
