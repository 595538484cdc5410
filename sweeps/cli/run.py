"""`python -m sweeps run`: run, continue or extend a sweep."""

from __future__ import annotations

import argparse

from safe.cli.parser import Parser
from sweeps.cli.asking import add_asking, asked_spec
from sweeps.cli.common import carry_out


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    run = commands.add_parser("run", help="run, continue or extend a sweep")
    add_asking(run)
    run.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    spec = asked_spec(arguments)
    from sweeps.studies.sweep import run_sweep

    return carry_out(lambda: run_sweep(spec, arguments.results), spec.name, arguments)
