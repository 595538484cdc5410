"""`python -m sweeps export`: the chosen configuration as a file that `python -m safe train` takes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from safe.errors import UserError
from safe.io.documents import yaml_text
from sweeps.cli.common import add_name, command, named_sweep
from sweeps.ledger.known import known_log
from sweeps.ledger.ledger import SweepLog
from sweeps.spec.specs import data_origins, located
from sweeps.spec.typed import typed


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write it (default: standard output)")


@command("export", "write the chosen configuration for: python -m safe train --config", _options, add_name)
def _export(arguments: argparse.Namespace) -> int:
    log, _ = named_sweep(arguments, known_log)
    text = f"# The configuration that the sweep {arguments.name} chose, as its first final run trained it.\n"
    text += yaml_text(chosen_config(log))
    if arguments.out is None:
        sys.stdout.write(text)
        return 0
    try:
        arguments.out.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(f"--out: {arguments.out} could not be written: {error.strerror}") from None
    print(f"train it with: python -m safe train --config {arguments.out}", file=sys.stderr)
    return 0


def chosen_config(log: SweepLog) -> dict[str, Any]:
    """Return the flat configuration of the first final run of the chosen trial.

    Raises:
        UserError: nothing is chosen yet, or ever.
    """
    name = log.spec.name
    if log.spec.kind != "sweep":
        raise UserError(f"{name!r} is an ablation, in which nothing is chosen; export a sweep")
    if not (runs := log.final_jobs()):
        raise UserError(
            f"{name!r} has not chosen a configuration yet; let it go on with: "
            + typed("resume", name, results=log.folder.parents[1])
        )
    *_, origin = data_origins(log.spec).values()  # of the final runs, where their data lie now
    return located(runs[0].config, origin)
