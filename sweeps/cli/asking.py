"""The options that say what a sweep is, for the commands that run one or plan it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sweeps.cli.common import add_results
from sweeps.spec import options as ask

# Option, its type and its help; None as type is a switch. What is not given takes the default of `ask.build_spec`.
OPTIONS: tuple[tuple[str, Any, str], ...] = (
    ("--trials", int, f"trained configurations (default: {ask.DEFAULT_TRIALS}; grid: all combinations)"),
    ("--name", str, "name of the sweep (default: data set and time)"),
    ("--seeds", int, f"final runs of the chosen configuration (default: {ask.DEFAULT_SEEDS})"),
    ("--space", Path, "search space in YAML, in place of the preset's"),
    ("--search", str, f"staged, tpe, random or grid (default: {ask.DEFAULT_SEARCH})"),
    ("--slow-candidates", int, "staged: slow settings judged alone (default: as many as trials)"),
    ("--carried", int, "staged: the best of them that trials are made of (default: a third of the trials)"),
    ("--search-seed", int, "seed of the proposals (default: 0)"),
    (
        "--objective",
        str,
        "metric NAME[:max|:min]; several, with commas, give a Pareto front (default: average_accuracy)",
    ),
    ("--selection", str, "holdout, first-k, transfer, or test, only to reproduce papers (default: holdout)"),
    ("--first-k", int, "with --selection first-k: sessions that trials run"),
    ("--evaluate-on", str, "with --selection transfer: data set of the final runs"),
    ("--max-sessions", int, "end the search after so many trained sessions"),
    ("--max-hours", float, "end the search after so many hours"),
    ("--stop", str, "asha stops trials that are behind others after the same session (default: none)"),
    ("--concurrency", int, "runs at the same time (default: one per GPU, else per core)"),
    ("--gpus-per-trial", str, "share of a GPU for a run, or auto (default: 1)"),
    ("--trial-timeout", float, "seconds without a sign of life after which a run has failed (default: none)"),
    ("--retries", int, "how often a failed run is tried again (default: 1)"),
    ("--checkpoints", str, "inference states that are kept: all, best, last or none (default: all)"),
    ("--stage-limit-gb", float, "disk for the work that runs share, in GB (default: 20)"),
    ("--no-stages", None, "share no work between runs"),
    ("--fresh", None, "share no work with earlier sweeps"),
    ("--system-metrics", None, "record how busy CPU, memory and GPUs were, once a session"),
    ("--no-control", None, "leave out the runs of the preset beside the chosen configuration"),
    ("--no-audit", None, "leave out judging the trials on the test images once the choice is final"),
)


def add_asking(command: argparse.ArgumentParser) -> None:
    """Give a command the options of a sweep, its settings and the results folder."""
    command.add_argument("--dataset", default="digits", help="name of the data set (default: %(default)s)")
    for option, kind, words in OPTIONS:
        if kind is None:
            command.add_argument(option, action="store_true", help=words)
        else:
            command.add_argument(option, type=kind, help=words)
    command.add_argument("settings", nargs="*", metavar="key=value", help="settings of every trial: fast.epochs=3")
    add_results(command)


def asked_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options as the keywords of `sweeps.run_sweep`."""
    given = {name: value for name, value in vars(arguments).items() if name in _FIELDS and value is not None}
    for switch in ("stages", "control", "audit"):
        if getattr(arguments, f"no_{switch}"):
            given[switch] = False
    for switch in ("fresh", "system_metrics"):
        if getattr(arguments, switch):
            given[switch] = True
    return {**given, "dataset": arguments.dataset, "overrides": arguments.settings, "results": arguments.results}


def _field(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


_FIELDS = {_field(option) for option, kind, _ in OPTIONS if kind is not None}
