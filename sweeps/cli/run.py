"""`python -m sweeps run`: run, continue or extend a sweep."""

from __future__ import annotations

import argparse
from datetime import datetime

from safe.datasets.facts import canonical_name
from sweeps.cli.asking import add_asking, asked_options
from sweeps.cli.common import add_detail, carry_out, command
from sweeps.spec.names import default_name


@command("run", "run, continue or extend a sweep", add_asking, add_detail)
def _run(arguments: argparse.Namespace) -> int:
    from sweeps.studies.asked import run_sweep

    # Chosen here, so that what is said after an interrupt can name the sweep.
    name = arguments.name or default_name(canonical_name(arguments.dataset), f"{datetime.now():%Y%m%d-%H%M%S}")
    asked = {**asked_options(arguments), "name": name, "detail": arguments.detail}
    return carry_out(lambda: run_sweep(**asked).log, name, arguments)
