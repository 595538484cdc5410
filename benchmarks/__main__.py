"""`python -m benchmarks [--suite NAME] [--pairs N]`: pairs measured in turn in one run, medians and ratios.

Every suite first proves that both ways give the same numbers, then times them. Results go to
`<results>/bench/<suite>.json`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.pairs import measure, shown
from safe.errors import EXIT_USER_ERROR, UserError, choices
from safe.io.writable import require_writable

# Suites of pairs: `items()` of the module of that name proves that both ways agree and returns them to be timed.
PAIRED = ("step", "head", "evaluate", "data", "trial", "dinov2", "fused")
# Suites that measure in their own way: `run(console)` of the module of that name prints tables and returns the rows.
OWN: tuple[str, ...] = (
    "sweep", "default_sweep", "search", "tracking", "memory", "large_head", "bf16", "scale", "reading", "digest",
    "schedule", "mlflow_pages",
)  # fmt: skip
SUITES = (*PAIRED, *OWN)


def measured(name: str, pairs: int, console: Console, keep: Callable[[list[dict[str, Any]]], None]) -> None:
    """Run one suite, print its table; `keep` is given all rows that there are, after each one of a suite of pairs."""
    suite = importlib.import_module(f"benchmarks.{name}")
    if name in OWN:
        keep(list(suite.run(console)))
        return
    rows: list[dict[str, Any]] = []
    for item in suite.items():
        rows.append(measure(item, pairs))
        keep(rows)
    title = f"{name} (medians of {pairs} pairs, {torch.get_num_threads()} threads)"
    console.print(shown(title, rows))


def _write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    (folder / f"{name}.json").write_text(json.dumps({"suite": name, "machine": machine, "items": rows}, indent=2))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suites, print a table each, write the JSON; 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--suite", action="append", help=f"one of {', '.join(SUITES)}; repeatable (default: all)")
    parser.add_argument("--pairs", type=int, default=5, help="timed pairs of each item (default 5)")
    arguments = parser.parse_args(argv)
    folder = Path(os.environ.get("RESULTS") or "results") / "bench"
    try:
        if arguments.pairs < 1:
            raise UserError(f"--pairs must be at least 1, got {arguments.pairs}")
        for name in arguments.suite or SUITES:
            if name not in SUITES:
                raise UserError(choices(name, SUITES, "suite"))
            require_writable(folder / f"{name}.json", "RESULTS")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    console = Console()
    for name in arguments.suite or SUITES:
        measured(name, arguments.pairs, console, partial(_write, folder, name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
