"""Continual-learning metrics as functions of an accuracy matrix; plain Python, no tensors.

Row s of `rows` (s = 1..t) holds the accuracy on session group k = 1..s after session s, each in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from operator import mul
from statistics import fmean
from typing import Literal

LEARNERS = ("slow", "fast")


@dataclass(frozen=True)
class Metric:
    """What is to be known of a metric besides its value; searches, tables and figures take it from here.

    Attributes:
        title: in words, of its value after the last session.
        small: whether less of it is better.
        share: whether it is a share of images or a difference of shares, and so written in percent.
        shown: in every table, in the report's answer, or only where somebody asks for it.
        of: what it is computed from: which images are right, the probabilities of classes, both learners' images beside
            each other, or the weights of the aggregate.
    """

    title: str
    small: bool = False
    share: bool = True
    shown: Literal["everywhere", "report", "asked"] = "report"
    of: Literal["images", "probabilities", "learners", "weights"] = "images"


# In the order of tables. All of `images` and `probabilities` are known of each learner too: `slow/accuracy`.
METRICS = {
    "accuracy": Metric("final accuracy", shown="everywhere"),
    "average_accuracy": Metric("average accuracy", shown="everywhere"),
    "forgetting": Metric("forgetting", small=True, shown="everywhere"),
    "backward_transfer": Metric("backward transfer"),
    "plasticity": Metric("plasticity"),
    "accuracy_session_mean": Metric("final accuracy, mean over session groups", shown="asked"),
    "accuracy_within_session": Metric("accuracy among the classes of the image's own session", shown="asked"),
    "forgetting_within": Metric("forgetting, really forgotten", small=True, shown="asked"),
    "forgetting_confusion": Metric("forgetting, more confusion with other sessions", small=True, shown="asked"),
    "forgetting_nonneg": Metric("forgetting, at least 0", small=True, shown="asked"),
    "nll": Metric("negative log-likelihood", small=True, share=False, of="probabilities"),
    "ece": Metric("calibration error", small=True, of="probabilities"),
    "agreement": Metric("agreement of the learners", shown="asked", of="learners"),
    "complementarity": Metric("exactly one learner right", shown="asked", of="learners"),
    "oracle_accuracy": Metric("at least one learner right", shown="asked", of="learners"),
    "aggregation/weight_fast": Metric("weight of the fast learner", shown="asked", of="weights"),
}
MAIN = tuple(name for name, known in METRICS.items() if known.shown == "everywhere")


def metric(name: str) -> Metric | None:
    """Return what is known of a metric of the evaluation by its name without split, a learner's too; else None."""
    return METRICS.get(name) or METRICS.get(name.rpartition("/")[2])


def session_metrics(
    rows: Sequence[Sequence[float]],
    counts: Sequence[int],
    within: Sequence[Sequence[float]] = (),
    asked: Set[str] | None = None,
) -> dict[str, float]:
    """Return the metrics after the last session of `rows`.

    Args:
        rows: t >= 1 rows, row s with s entries.
        counts: images of each group, at least t entries, each above 0.
        within: as `rows`, accuracies where only the group's own classes compete, never below those of `rows`; what
            is made of them is absent without.
        asked: names of the metrics that are needed; those of old groups are left out where the others are enough. None
            needs all.

    Returns:
        accuracy: over all images of the classes seen so far.
        accuracy_session_mean: unweighted mean over the groups.
        average_accuracy: mean of `accuracy` over the sessions so far.
        plasticity: accuracy on the newest group.
        accuracy_within_session: as `accuracy`, of `within`.
        forgetting: mean over old groups of (best accuracy at an earlier session - now); Chaudhry et al. 2018.
        forgetting_within, forgetting_confusion: what it is made of, exactly. With A of `rows`, I of `within`, the
            confusion with other sessions C = I - A and s* the first earlier session where A was best, the means over
            old groups of I(s*) - I(now), really forgotten, and of C(now) - C(s*), more classes to be taken for.
        forgetting_nonneg: the same with the present session among those of which the best is taken, so never below 0;
            the definition of mammoth and PILOT.
        backward_transfer: mean over old groups of (now - accuracy when the group was new), Lopez-Paz & Ranzato 2017.
        Those of old groups are absent in session 1, where nothing is old.

    Raises:
        ValueError: rows or counts of the wrong length.
    """
    if not rows or [*map(len, rows)] != [*range(1, len(rows) + 1)] or len(counts) < len(rows):
        raise ValueError(f"need rows of length 1..t and t counts, got {[len(r) for r in rows]} and {len(counts)}")
    if within and [len(row) for row in within] != [len(row) for row in rows]:
        raise ValueError(f"need as many accuracies within sessions as over all, got {[len(r) for r in within]}")
    now, old = rows[-1], range(len(rows) - 1)
    overall = [_overall(row, counts) for row in rows]
    metrics = {
        "accuracy": overall[-1],
        "accuracy_session_mean": fmean(now),
        "average_accuracy": fmean(overall),
        "plasticity": now[-1],
    }
    if within:
        metrics["accuracy_within_session"] = _overall(within[-1], counts)
    if old and (asked is None or not asked <= metrics.keys()):
        lost = [rows[s][k] - now[k] for k, s in enumerate(_best(rows))]
        metrics["forgetting"] = fmean(lost)
        if within:
            parts = zip(*losses(rows, within), strict=True)
            metrics["forgetting_within"], metrics["forgetting_confusion"] = map(fmean, parts)
        metrics["forgetting_nonneg"] = fmean([max(loss, 0.0) for loss in lost])
        metrics["backward_transfer"] = fmean([now[k] - rows[k][k] for k in old])
    return metrics


def losses(rows: Sequence[Sequence[float]], within: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Return for each old group what its forgetting is made of: really forgotten, and more classes to be taken for.

    The arguments and the two parts, whose means are `forgetting_within` and `forgetting_confusion`, are those of
    `session_metrics`; after one session there is none.
    """
    now, own = rows[-1], within[-1]
    return [(within[s][k] - own[k], (own[k] - now[k]) - (within[s][k] - rows[s][k])) for k, s in enumerate(_best(rows))]


def _best(rows: Sequence[Sequence[float]]) -> list[int]:
    """Return for each old group the first of the earlier sessions after which its accuracy was best."""
    reached = [[row[k] for row in rows[k:-1]] for k in range(len(rows) - 1)]
    return [k + earlier.index(max(earlier)) for k, earlier in enumerate(reached)]


def depends_on_prediction(name: str) -> bool:
    """Return whether another setting of prediction (kind, temperature, scale) can change a metric of evaluation.

    `name` is without split prefix: true for the aggregate's and for what is made of probabilities (`slow/nll`), which
    change with the scale; false for each learner's accuracies (`fast/forgetting`) and how the two agree.
    """
    known = metric(name)
    if name.startswith(("slow/", "fast/")):
        return known is not None and known.of == "probabilities"
    return known is None or known.of != "learners"


def _overall(row: Sequence[float], counts: Sequence[int]) -> float:
    seen = counts[: len(row)]
    return sum(map(mul, row, seen)) / sum(seen)
