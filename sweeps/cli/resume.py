"""`python -m sweeps resume`: go on with a sweep or an ablation as its ledger has it."""

from __future__ import annotations

import argparse

from sweeps.cli.common import add_detail, add_name, command, go_on, named_sweep


@command("resume", "go on with a sweep where it ended, and try again what failed", add_name, add_detail)
def _resume(arguments: argparse.Namespace) -> int:
    log, _ = named_sweep(arguments)
    return go_on(log.spec, arguments, retry_failed=True)
