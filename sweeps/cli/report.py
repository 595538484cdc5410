"""`python -m sweeps report` and `compare`: one self-contained HTML page about a sweep, or about two side by side."""

from __future__ import annotations

import argparse

from sweeps.cli.common import add_name, add_results, command, named_sweep
from sweeps.ledger.known import known_sweep


@command("report", "write the report of a sweep, one HTML page", add_name)
def _report(arguments: argparse.Namespace) -> int:
    from sweeps.report import write_report

    log, folder = named_sweep(arguments)
    print(f"report: {write_report(log, folder)}")
    return 0


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A")
    parser.add_argument("second", metavar="B")


@command("compare", "set two sweeps side by side, one HTML page", _options, add_results)
def _compare(arguments: argparse.Namespace) -> int:
    from sweeps.report import write_comparison

    first, _ = known_sweep(arguments.results, arguments.first)
    second, _ = known_sweep(arguments.results, arguments.second)
    print(f"comparison: {write_comparison(first, second, arguments.results.absolute() / 'comparisons')}")
    return 0
