"""Two ways timed in turn, pair by pair: seconds by median, the ratio of each pair."""

from __future__ import annotations

import statistics
import time
from typing import Any

from rich.table import Table


def measure(item: dict[str, Any], pairs: int) -> dict[str, Any]:
    """Time `plain` and `ours` of an item in turn `pairs` times.

    With its `cpu` the processor time of both is told too: that of this process and all its threads, which other work on
    the machine hardly changes.
    """
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    cpu: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(pairs):
        for name, values in seconds.items():
            started, worked = time.perf_counter(), time.process_time()
            item[name]()
            values.append(time.perf_counter() - started)
            cpu[name].append(time.process_time() - worked)
    return {"name": item["name"], **paired(seconds), **(_cpu(cpu) if item.get("cpu") else {}), "pairs": pairs}


def paired(values: dict[str, list[float]]) -> dict[str, float]:
    """Return medians of `plain` and `ours` and, over pairs, the median and the range of their ratio."""
    ratios = [a / b for a, b in zip(values["plain"], values["ours"], strict=True)]
    return {
        "plain_seconds": statistics.median(values["plain"]),
        "ours_seconds": statistics.median(values["ours"]),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def _cpu(values: dict[str, list[float]]) -> dict[str, float]:
    told = paired(values)
    return {f"{name.split('_')[0]}_cpu_seconds": told[name] for name in ("plain_seconds", "ours_seconds")} | {
        "cpu_ratio": told["ratio"]
    }


def shown(title: str, rows: list[dict[str, Any]]) -> Table:
    """Return what `measure` gave as a table for a terminal."""
    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    columns = {"plain s": "plain_seconds", "ours s": "ours_seconds"}
    columns |= {"ratio": "ratio", "min": "ratio_min", "max": "ratio_max"}
    if any("cpu_ratio" in row for row in rows):
        columns["CPU"] = "cpu_ratio"
    table.add_column("item")
    for name in columns:
        table.add_column(name, justify="right")
    for row in rows:
        digits = (3 if key.endswith("seconds") else 2 for key in columns.values())
        table.add_row(row["name"], *(f"{row[key]:.{n}f}" for key, n in zip(columns.values(), digits, strict=True)))
    return table
