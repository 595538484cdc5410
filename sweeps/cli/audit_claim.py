"""`python -m sweeps audit-claim`: a published configuration beside selection by test and beside an honest search."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from safe.datasets.facts import canonical_name
from sweeps.cli.asking import add_asking, asked_options
from sweeps.cli.common import add_detail, carry_out, command
from sweeps.ledger.folders import Folders
from sweeps.ledger.ledger import read_ledger
from sweeps.spec.names import default_name


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        metavar="FILE",
        help="the claimed configuration in YAML",
    )


@command(
    "audit-claim",
    "put a published configuration beside selection by test and beside an honest search",
    add_asking,
    _options,
    add_detail,
)
def _audit_claim(arguments: argparse.Namespace) -> int:
    from sweeps.studies.claim import claim_spec, show_claim
    from sweeps.studies.sweep import run_sweep

    asked = asked_options(arguments)
    asked["name"] = arguments.name or default_name(canonical_name(arguments.dataset), f"claim-{arguments.config.stem}")
    spec = claim_spec(config=arguments.config, **asked)
    code = carry_out(lambda: run_sweep(spec, arguments.results, detail=arguments.detail), spec.name, arguments)
    if code == 0:
        show_claim(read_ledger(Folders(arguments.results, spec.name).sweep), Console(markup=False, emoji=False))
    return code
