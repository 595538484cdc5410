"""Suite `large_head`: both learners' closed-form heads as wide as published, beside the machine's own matrix products.

M = 10 000, 300 classes, 9 000 rows a session. What the heads should take is reckoned: their operations at the speed of
a float32 matrix product on this machine, which is measured right before and after each of a few updates. A process of
its own, so that its peak of memory is theirs.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.head import GRID, SPLIT
from safe.heads.projection import Projection
from safe.heads.ridge import RidgeHead
from safe.seeding import generator

WIDTH, DIM, CLASSES, ROWS = 768, 10_000, 300, 9_000
SQUARE, PRODUCTS = 4_000, 3
UPDATES = 5
LEARNERS = ("slow", "fast")


def run(console: Console) -> list[dict[str, Any]]:
    """Measure in a fresh process; print a table, return the rows."""
    done = subprocess.run([sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True, check=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    title = f"both heads, M = {DIM}, {CLASSES} classes, {ROWS} rows ({torch.get_num_threads()} threads)"
    table = Table(title=title, title_justify="left", title_style="", box=None)
    for column in rows[0]:
        table.add_column(column.replace("_", " "), justify="left" if column == "name" else "right")
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)
    return rows


def _measured() -> list[dict[str, Any]]:
    before = _peak_gb()
    # Of both learners at once: a session's end has both sets of features.
    labels = torch.arange(ROWS) % CLASSES
    centres = torch.randn(CLASSES, WIDTH, generator=generator(0, "centres"))
    noise = {name: torch.randn(ROWS, WIDTH, generator=generator(1, name)) for name in LEARNERS}
    features = {name: centres[labels] + 3 * noise.pop(name) for name in LEARNERS}
    projection, products, rows = Projection(WIDTH, DIM, 0), [_products()], []
    heads = {}
    for name in LEARNERS:
        pairs = []
        for _ in range(UPDATES):
            heads[name] = head = RidgeHead(projection, GRID, SPLIT, "pooled")
            took = _timed(partial(head.update, features[name], labels, CLASSES, generator(2, "split")))
            products.append(_products())
            share = head.flops(ROWS, 0, CLASSES) / (2 * SQUARE**3)
            pairs.append((*took, *(share * statistics.mean(both) for both in zip(*products[-2:], strict=True))))
        over = [(seconds / reckoned, cpu / reckoned_cpu) for seconds, cpu, reckoned, reckoned_cpu in pairs]
        seconds, cpu, reckoned, reckoned_cpu = map(statistics.median, zip(*pairs, strict=True))
        ratio, cpu_ratio = map(statistics.median, zip(*over, strict=True))
        rows.append(
            {
                "name": f"{name} learner, M = {DIM}, {CLASSES} classes, {ROWS} rows",
                "seconds": seconds,
                "products_seconds": reckoned,
                "over_products": ratio,
                "over_products_min": min(over)[0],
                "over_products_max": max(over)[0],
                "cpu_seconds": cpu,
                "products_cpu_seconds": reckoned_cpu,
                "cpu_over_products": cpu_ratio,
                "peak_GB": _peak_gb() - before,
                "updates": UPDATES,
            }
        )
    return rows


def _products() -> tuple[float, float]:
    """Return seconds and processor seconds of a product of two square matrices: medians of a few."""
    square = torch.randn(SQUARE, SQUARE)
    square @ square
    times = [_timed(lambda: square @ square) for _ in range(PRODUCTS)]
    seconds, cpu = zip(*times, strict=True)
    return statistics.median(seconds), statistics.median(cpu)


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    began, worked = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - worked


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    print(json.dumps(_measured()))
