"""Continual-learning metrics as functions of an accuracy matrix; plain Python, no tensors.

Row s of `rows` (s = 1..t) holds the accuracy on session group k = 1..s after session s, each in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

_OF_PROBABILITIES = ("nll", "ece")
LEARNERS = ("slow", "fast")
_BETWEEN_LEARNERS = ("agreement", "complementarity", "oracle_accuracy")


def session_metrics(rows: Sequence[Sequence[float]], counts: Sequence[int]) -> dict[str, float]:
    """Return the metrics after the last session of `rows`.

    Args:
        rows: t >= 1 rows, row s with s entries.
        counts: images of each group, at least t entries, each above 0.

    Returns:
        accuracy: over all images of the classes seen so far.
        accuracy_session_mean: unweighted mean over the groups.
        average_accuracy: mean of `accuracy` over the sessions so far.
        plasticity: accuracy on the newest group.
        forgetting: mean over old groups of (best accuracy at an earlier session - now); Chaudhry et al. 2018.
        backward_transfer: mean over old groups of (now - accuracy when the group was new), Lopez-Paz & Ranzato 2017.
        The last two are absent in session 1, where nothing is old.

    Raises:
        ValueError: rows or counts of the wrong length.
    """
    if not rows or any(len(row) != s for s, row in enumerate(rows, start=1)) or len(counts) < len(rows):
        raise ValueError(f"need rows of length 1..t and t counts, got {[len(r) for r in rows]} and {len(counts)}")
    now, old = rows[-1], range(len(rows) - 1)
    overall = [_overall(row, counts) for row in rows]
    metrics = {
        "accuracy": overall[-1],
        "accuracy_session_mean": fmean(now),
        "average_accuracy": fmean(overall),
        "plasticity": now[-1],
    }
    if old:
        metrics["forgetting"] = fmean(max(row[k] for row in rows[k:-1]) - now[k] for k in old)
        metrics["backward_transfer"] = fmean(now[k] - rows[k][k] for k in old)
    return metrics


def depends_on_prediction(name: str) -> bool:
    """Return whether another setting of prediction (kind, temperature, scale) can change a metric of evaluation.

    `name` is without split prefix: true for the aggregate's and for what is made of probabilities (`slow/nll`), which
    change with the scale; false for each learner's accuracies (`fast/forgetting`) and how the two agree.
    """
    of_one_learner = name.startswith(("slow/", "fast/")) and not name.endswith(_OF_PROBABILITIES)
    return not of_one_learner and name not in _BETWEEN_LEARNERS


def _overall(row: Sequence[float], counts: Sequence[int]) -> float:
    seen = counts[: len(row)]
    return sum(a * n for a, n in zip(row, seen, strict=True)) / sum(seen)
