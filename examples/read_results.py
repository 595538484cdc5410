"""Results as pandas frames: python -m examples.read_results NAME [RESULTS]"""

from __future__ import annotations

import sys

import pandas as pd

from sweeps import load_sweep


def leaderboard(name: str, results: str = "results") -> pd.DataFrame:
    """Return the finished trials of a sweep, the best first, with what they set and their average accuracy."""
    sweep = load_sweep(name, results)
    trials = sweep.trials.query("status == 'FINISHED'")
    columns = ["trial", *sweep.log.sweep_spec.space, "val/average_accuracy"]
    return trials[columns].sort_values("val/average_accuracy", ascending=False, ignore_index=True)


def final_values(name: str, results: str = "results") -> pd.DataFrame:
    """Return a row per final run (a seed and class order each) and a column per test metric."""
    final = load_sweep(name, results).final or {}
    return pd.DataFrame({metric: stats["values"] for metric, stats in final.items() if metric != "seeds"})


if __name__ == "__main__":
    print(leaderboard(*sys.argv[1:]).to_string())
    print(final_values(*sys.argv[1:]).describe().loc[["mean", "std"]].T.to_string())
    # Every point of every run, such as losses by epoch, comes from the journal:
    points = load_sweep(*sys.argv[1:]).tables.metrics
    print(points.groupby("key")["value"].count().to_string())
