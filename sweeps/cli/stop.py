"""`python -m sweeps stop`: what Ctrl-C does, from another terminal."""

from __future__ import annotations

import argparse

from sweeps.cli.common import add_name, command, named_sweep
from sweeps.ledger.known import known_log
from sweeps.ledger.lock import stop_holder
from sweeps.spec.typed import typed


@command("stop", "stop a running sweep so that it can be continued; twice: at once", add_name)
def _stop(arguments: argparse.Namespace) -> int:
    _, folder = named_sweep(arguments, known_log)
    pid = stop_holder(folder, arguments.name)
    print(f"process {pid} stops {arguments.name} after the epochs that are running; the same again stops it at once")
    print(f"continue with: {typed('resume', arguments.name, results=arguments.results)}")
    return 0
