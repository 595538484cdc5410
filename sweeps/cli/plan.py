"""`python -m sweeps plan`: what a sweep will cost, before anything runs."""

from __future__ import annotations

import argparse
import json

from rich.console import Console

from safe.cli.parser import Parser
from sweeps.cli.asking import add_asking, asked_options


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    plan = commands.add_parser("plan", help="print what a sweep will cost, before anything runs")
    add_asking(plan)
    plan.add_argument("--no-probe", action="store_true", help="estimate no time, which takes a few seconds")
    plan.add_argument("--json", action="store_true", help="one object for programs")
    plan.set_defaults(command=_plan)


def _plan(arguments: argparse.Namespace) -> int:
    from safe.data.loading import survey
    from sweeps.studies import plan
    from sweeps.studies.asked import sweep_spec
    from sweeps.studies.probe import probe
    from sweeps.studies.sweep import check_early

    spec = sweep_spec(**asked_options(arguments))
    survey(spec.dataset, spec.base["data.root"])
    check_early(spec)
    planned = plan.plan_of(spec)
    console = Console(markup=False, emoji=False, quiet=arguments.json)
    plan.show_counts(planned, console)
    if not arguments.no_probe:
        console.print("timing a few batches on this machine ...")
    speed = None if arguments.no_probe else probe(planned.configs[0].flat())
    if speed is not None:
        plan.show_time(planned, speed, console)
    if arguments.json:
        print(json.dumps(plan.outcome(planned, speed), indent=2, allow_nan=False))
    return 0
