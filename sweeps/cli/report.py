"""`python -m sweeps report`: one self-contained HTML page about a sweep."""

from __future__ import annotations

import argparse

from sweeps.cli.common import add_name, command, named_sweep


@command("report", "write the report of a sweep, one HTML page", add_name)
def _report(arguments: argparse.Namespace) -> int:
    from sweeps.report import write_report

    log, folder = named_sweep(arguments)
    print(f"report: {write_report(log, folder)}")
    return 0
