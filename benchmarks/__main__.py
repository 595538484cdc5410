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
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from safe.errors import EXIT_USER_ERROR, UserError, choices
from safe.io.writable import require_writable

# Suites of pairs: `items()` of the module of that name proves that both ways agree and returns them to be timed.
PAIRED = ("step", "head", "evaluate", "data", "trial")
# Suites that measure in their own way: `run(console)` of the module of that name prints tables and returns the rows.
OWN: tuple[str, ...] = (
    "sweep", "default_sweep", "search", "tracking", "memory", "scale", "digest", "schedule", "mlflow_pages",
)  # fmt: skip
SUITES = (*PAIRED, *OWN)


def measure(item: dict[str, Any], pairs: int) -> dict[str, Any]:
    """Time `plain` and `ours` in turn `pairs` times; seconds by median, the ratio pair by pair."""
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(pairs):
        for name, values in seconds.items():
            started = time.perf_counter()
            item[name]()
            values.append(time.perf_counter() - started)
    ratios = [a / b for a, b in zip(seconds["plain"], seconds["ours"], strict=True)]
    return {
        "name": item["name"],
        "plain_seconds": statistics.median(seconds["plain"]),
        "ours_seconds": statistics.median(seconds["ours"]),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "pairs": pairs,
    }


def measured(name: str, pairs: int, console: Console) -> list[dict[str, Any]]:
    """Run one suite, print its table, return its rows."""
    suite = importlib.import_module(f"benchmarks.{name}")
    if name in OWN:
        return list(suite.run(console))
    rows = [measure(item, pairs) for item in suite.items()]
    title = f"{name} (medians of {pairs} pairs, {torch.get_num_threads()} threads)"
    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    for column in ("item", "plain s", "ours s", "ratio", "min", "max"):
        table.add_column(column, justify="left" if column == "item" else "right")
    for row in rows:
        seconds = (f"{row[key]:.3f}" for key in ("plain_seconds", "ours_seconds"))
        table.add_row(row["name"], *seconds, *(f"{row[key]:.2f}" for key in ("ratio", "ratio_min", "ratio_max")))
    console.print(table)
    return rows


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
        rows = measured(name, arguments.pairs, console)
        folder.mkdir(parents=True, exist_ok=True)
        machine = {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
        }
        (folder / f"{name}.json").write_text(json.dumps({"suite": name, "machine": machine, "items": rows}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
