"""`python -m sweeps doctor`: whether this machine, or every node of a cluster, can run a sweep."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from sweeps.cli.common import EXIT_FAILED, add_dataset, add_results, command

if TYPE_CHECKING:
    from sweeps.doctor.examine import Wants
    from sweeps.doctor.findings import Finding

_COLOURS = {"ok": "green", "note": "yellow", "bad": "red"}


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings that the sweep will have")


@command(
    "doctor", "whether this machine, or every node of a cluster, can run a sweep", add_dataset, _options, add_results
)
def _doctor(arguments: argparse.Namespace) -> int:
    from sweeps.doctor.examine import ThisMachine
    from sweeps.doctor.findings import as_json, diagnose, healthy
    from sweeps.doctor.nodes import RayNodes
    from sweeps.engine.joining import existing_ray
    from sweeps.spec.machine import ray_address

    wants = wanted(arguments)
    address = ray_address()
    with existing_ray(address) if address else nullcontext():
        diagnosis = diagnose(wants, RayNodes() if address else ThisMachine())
    if arguments.json:
        print(json.dumps(as_json(diagnosis), indent=2))
    else:
        print_findings(diagnosis)
    return 0 if healthy(diagnosis) else EXIT_FAILED


def wanted(arguments: argparse.Namespace) -> Wants:
    """Return what the runs of a command line with a data set, settings and a results folder need."""
    from safe.config import load_config, parse_overrides
    from sweeps.doctor.examine import Wants
    from sweeps.ledger.folders import Folders

    config = load_config(arguments.dataset, overrides=parse_overrides(arguments.settings))
    return Wants.of(config, arguments.results, Folders(arguments.results, "").tracking_uri())


def print_findings(findings: Sequence[Finding]) -> None:
    """Print the table, and below it what to do about each bad line."""
    from rich.console import Console
    from rich.text import Text

    from safe.io.tables import Table
    from sweeps.doctor.findings import grouped, healthy

    groups = grouped(findings)
    rows = [(one.check, Text(one.state, _COLOURS[one.state]), nodes, one.observation) for one, nodes in groups]
    console = Console(markup=False, emoji=False)
    console.print(Table(["check", "", "node", "found"], rows, "doctor").on_terminal(console.width))
    for finding, nodes in groups:
        if finding.state == "bad":
            told = Text.assemble((finding.check, "red"), f" on {nodes}: {finding.remedy}")
            console.print(told, soft_wrap=True, highlight=False)
    console.print("everything is ready" if healthy(findings) else "not ready: see above")
