"""The runs after the choice: the chosen configuration and the preset beside it on all training images, over several
seeds, judged on the test images; and the audit of the trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any


def summarise(runs: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Return mean, sample standard deviation (None for one run) and values of each metric that every run has."""
    return {name: summary([run[name] for run in runs]) for name in _shared(runs)}


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return `mean`, `std` (divisor n - 1; None for one value) and `values`."""
    return {"mean": fmean(values), "std": stdev(values) if len(values) > 1 else None, "values": list(values)}


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return `mean` of ours minus theirs, paired by position, and `half_width` of its 95 % t-interval.

    Raises:
        ValueError: fewer than two pairs, or lists of different lengths.
    """
    if len(ours) != len(theirs) or len(ours) < 2:
        raise ValueError(f"needs two lists of equal length, at least 2, got {len(ours)} and {len(theirs)}")
    from scipy.special import stdtrit

    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    n = len(differences)
    return {"mean": fmean(differences), "half_width": float(stdtrit(n - 1, 0.975)) * stdev(differences) / n**0.5}


def _shared(runs: Sequence[Mapping[str, float]]) -> Iterable[str]:
    return [name for name in runs[0] if all(name in run for run in runs)] if runs else []
