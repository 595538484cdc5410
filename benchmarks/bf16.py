"""Suite `bf16`: Fashion-MNIST trainings on DINOv2 S/14 at 98 px, our float32 against our bf16, times and accuracies.

Each pair has a seed of its own, which changes the class order too, so that the pairs of times are also pairs of
accuracies.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.dinov2 import PRESET, clothes
from benchmarks.pairs import measure, shown
from benchmarks.trial import Trainings
from sweeps.results.statistics import paired_difference

SEEDS, SIDE = 5, 98
TRAIN, TEST = 16, 16  # pictures a class
SETTINGS = ("slow.epochs=2", "fast.epochs=1", "head.projection_dim=1000", f"backbone.image_size={SIDE}")
METRICS = ("accuracy", "average_accuracy", "slow/accuracy", "fast/accuracy")
WAYS = {"plain": "float32", "ours": "bf16"}


def run(console: Console) -> list[dict[str, Any]]:
    """Train all seeds in both precisions; print and return times and accuracies."""
    dataset, vit, what = clothes(TRAIN, TEST, SIDE)
    trainings = Trainings(PRESET, None, (dataset, vit), SETTINGS)
    accuracies: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}

    def train(way: str) -> None:
        seed = len(accuracies[way])
        results = trainings.ours(f"seed={seed}", f"class_order_seed={1993 + seed}", f"runtime.precision={WAYS[way]}")
        accuracies[way].append(dict(results[-1].metrics))

    name = f"{what}, {trainings.part} of {2 * TRAIN} images, {' '.join(SETTINGS)}: float32 (plain) against bf16 (ours)"
    item: dict[str, Any] = {"name": name, "cpu": True, **{way: partial(train, way) for way in WAYS}}
    times = measure(item, SEEDS)
    rows = [_compared(metric, *([one[metric] for one in accuracies[way]] for way in WAYS)) for metric in METRICS]
    console.print(shown(f"bf16 (medians of {SEEDS} pairs)", [times]))
    table = Table(title="accuracy in percent, by seed", title_justify="left", title_style="", box=None)
    for column in rows[0]:
        table.add_column(column.replace("_", " "), justify="left" if column == "metric" else "right")
    for row in rows:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)
    return [times, *rows]


def _compared(metric: str, float32: list[float], bf16: list[float]) -> dict[str, Any]:
    """Return means and deviations over seeds and the paired difference with its 95 % t-interval, in percent."""
    difference = paired_difference(bf16, float32)
    return {
        "metric": metric,
        "float32_mean": 100 * statistics.mean(float32),
        "float32_std": 100 * statistics.stdev(float32),
        "bf16_mean": 100 * statistics.mean(bf16),
        "bf16_std": 100 * statistics.stdev(bf16),
        "difference": 100 * difference["mean"],
        "interval": 100 * difference["half_width"],
        "seeds": len(float32),
    }
