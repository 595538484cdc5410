"""`python -m sweeps compare`: two sweeps side by side, one HTML page."""

from __future__ import annotations

import argparse

from sweeps.cli.common import add_results, command
from sweeps.ledger.known import known_sweep


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
