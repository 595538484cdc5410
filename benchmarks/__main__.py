"""`python -m benchmarks [--suite NAME] [--pairs N]`: pairs measured in turn in one run, medians and ratios.

Every suite first proves that both ways give the same numbers, then times them. Results go to
`<results>/bench/<suite>.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import trial
from safe.errors import EXIT_USER_ERROR, UserError, choices
from safe.writable import require_writable

SUITES: dict[str, Callable[[], list[dict[str, Any]]]] = {"trial": trial.items}


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
        rows = [measure(item, arguments.pairs) for item in SUITES[name]()]
        table = Table(title=f"{name} (medians of {arguments.pairs} pairs, {torch.get_num_threads()} threads)")
        for column in ("item", "plain s", "ours s", "ratio", "min", "max"):
            table.add_column(column, justify="left" if column == "item" else "right")
        for row in rows:
            table.add_row(
                row["name"],
                *(f"{row[k]:.2f}" for k in ("plain_seconds", "ours_seconds", "ratio", "ratio_min", "ratio_max")),
            )
        console.print(table)
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
