"""`python -m sweeps run`: run, continue or extend a sweep."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from safe.cli.parser import Parser
from sweeps import spec as specs
from sweeps.cli.common import add_results, carry_out, python


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    run = commands.add_parser("run", help="run, continue or extend a sweep")
    run.add_argument("--dataset", default="digits", help="name of the data set (default: %(default)s)")
    run.add_argument("--trials", type=int, default=specs.DEFAULT_TRIALS, help="configurations to train")
    run.add_argument("--name", help="name of the sweep (default: data set and time)")
    run.add_argument("--seeds", type=int, default=specs.DEFAULT_SEEDS, help="final runs of the chosen configuration")
    run.add_argument("--space", type=Path, help="search space in YAML (default: the preset)")
    run.add_argument("--search", default="random", help="how trials are proposed: random")
    run.add_argument("--concurrency", type=int, help="trials at the same time (default: one per GPU, else per core)")
    run.add_argument("--selection", default="holdout", help="holdout, or test (only to reproduce papers)")
    run.add_argument("settings", nargs="*", metavar="key=value", help="settings of every trial: fast.epochs=3")
    add_results(run)
    run.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    spec = specs.build_spec(
        name=arguments.name,
        dataset=arguments.dataset,
        overrides=arguments.settings,
        trials=arguments.trials,
        seeds=arguments.seeds,
        search=arguments.search,
        selection=arguments.selection,
        space_file=arguments.space,
        concurrency=arguments.concurrency,
    )
    from sweeps.sweep import run_sweep

    return carry_out(lambda: run_sweep(spec, arguments.results), spec.name, _again(arguments, spec.name), arguments)


def _again(arguments: argparse.Namespace, name: str) -> str:
    """Return the command that continues an interrupted sweep."""
    words = [python(), "-m", "sweeps", "run", "--dataset", arguments.dataset, "--name", name]
    words += ["--trials", str(arguments.trials), "--seeds", str(arguments.seeds), "--selection", arguments.selection]
    words += ["--results", str(arguments.results)]
    words += ["--space", str(arguments.space)] if arguments.space else []
    return shlex.join([*words, *arguments.settings])
