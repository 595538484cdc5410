"""`python -m sweeps ablation`: SAFE beside its baselines and bounds."""

from __future__ import annotations

import argparse
import shlex

from safe.cli.parser import Parser
from sweeps.ablation import ARMS, build_ablation, run_ablation
from sweeps.cli.common import add_results, carry_out, python

ABLATION_SEEDS = 5


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("ablation", help="run SAFE beside its baselines and bounds, on the test images")
    command.add_argument("--dataset", default="digits", help="name of the data set (default: %(default)s)")
    command.add_argument("--seeds", type=int, default=ABLATION_SEEDS, help="runs of every arm (default: %(default)s)")
    command.add_argument("--name", help="name of the ablation (default: <data set>-ablation)")
    command.add_argument("--arms", default="", help=f"comma-separated, of {', '.join(ARMS)} (default: all)")
    command.add_argument("--concurrency", type=int, help="runs at the same time (default: one per GPU, else per core)")
    command.add_argument("settings", nargs="*", metavar="key=value", help="settings of every arm: fast.epochs=3")
    add_results(command)
    command.set_defaults(command=_ablation)


def _ablation(arguments: argparse.Namespace) -> int:
    spec = build_ablation(
        dataset=arguments.dataset,
        seeds=arguments.seeds,
        name=arguments.name,
        arms=[arm for arm in arguments.arms.split(",") if arm],
        overrides=arguments.settings,
        concurrency=arguments.concurrency,
    )
    words = [python(), "-m", "sweeps", "ablation", "--dataset", arguments.dataset, "--name", spec.name]
    words += ["--seeds", str(spec.seeds), "--arms", ",".join(spec.arms), "--results", str(arguments.results)]
    again = shlex.join([*words, *arguments.settings])
    return carry_out(lambda: run_ablation(spec, arguments.results), spec.name, again, arguments)
