"""The judgement that ends a session: the metrics that both learners' logits of the images seen so far give."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from safe.evaluation.aggregation import entropy_weights
from safe.evaluation.image_metrics import compare_learners, judge_images
from safe.evaluation.logits import (
    Prediction,
    SessionLogits,
    accuracy_row,
    group_shares,
    predicted_within,
    probability_metrics,
)
from safe.evaluation.metrics import session_metrics


class Judge:
    """Judges each session from its logits and keeps the accuracy matrices.

    Args:
        prediction: how the aggregate is formed.
        domain_incremental: whether the logits cover every domain, seen or not.

    Attributes:
        rows: accuracy by session group after each session, of the aggregate and of each learner.
        within: the same where only the group's own classes compete; empty in a run continued from a state without.
        confusion: after the session judged last, how many images of each group (row) the aggregate takes for a class
            of each session (column); empty where sessions are domains of the same classes.
    """

    def __init__(self, prediction: Prediction, *, domain_incremental: bool) -> None:
        self.prediction, self.domain_incremental = prediction, domain_incremental
        self.rows: dict[str, list[list[float]]] = {"aggregated": [], "slow": [], "fast": []}
        self.within: dict[str, list[list[float]]] = {name: [] for name in self.rows}
        self.confusion: tuple[tuple[int, ...], ...] = ()

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the accuracy matrices, which later sessions are judged beside."""
        return {"rows": _copied(self.rows), "within": _copied(self.within)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, also before there was `within`."""
        self.rows = _copied(state["rows"])
        self.within = _copied(state.get("within", {name: [] for name in self.rows}))

    def __call__(self, judged: SessionLogits, session: int) -> dict[str, float]:
        """Return the metrics after `session` (from 1), names without split prefix.

        A domain-incremental stream adds the accuracies over all domains, seen or not, as RanPAC reports them.
        """
        seen = judged.first(session)
        labels, aggregated = seen.labels, seen.combined(self.prediction)
        slow, fast = seen.scaled(self.prediction.logit_scale)
        # Which class a learner predicts is read off its plain scores, which no setting of prediction touches.
        plain = {"aggregated": aggregated, "slow": seen.slow, "fast": seen.fast}
        predicted = {name: scores.argmax(dim=1) for name, scores in plain.items()}
        metrics: dict[str, float] = {}
        for name, scores in (("aggregated", aggregated), ("slow", slow), ("fast", fast)):
            self.rows[name].append(group_shares(predicted[name] == labels, seen.counts))
            inner = predicted_within(plain[name], seen.counts, seen.owned)
            self.within[name].append(group_shares(inner == labels, seen.counts))
            whole = len(self.within[name]) == session
            own = session_metrics(self.rows[name], seen.counts, self.within[name] if whole else ())
            own |= probability_metrics(judge_images(scores, labels), labels)
            prefix = "" if name == "aggregated" else f"{name}/"
            metrics |= {f"{prefix}{metric}": value for metric, value in own.items()}
        self.confusion = () if self.domain_incremental else session_confusion(predicted["aggregated"], seen)
        metrics |= compare_learners(predicted["slow"], predicted["fast"], labels)
        if self.prediction.kind == "entropy":
            _, w_fast = entropy_weights(slow, fast, self.prediction.temperature)
            metrics["aggregation/weight_fast"] = w_fast.double().mean().item()
        if self.domain_incremental:
            combined, labels = judged.combined(self.prediction), judged.labels
            metrics["all_domains/accuracy"] = accuracy_row(combined, labels, [len(labels)])[0]
            metrics["all_domains/accuracy_session_mean"] = fmean(accuracy_row(combined, labels, judged.counts))
        return metrics


def session_confusion(predicted: Tensor, seen: SessionLogits) -> tuple[tuple[int, ...], ...]:
    """Return how many images of each group (row) are predicted, int64 (N,), as a class of each session (column)."""
    groups = len(seen.counts)
    session = torch.repeat_interleave(torch.arange(groups), torch.tensor([len(own) for own in seen.owned]))
    truth = torch.repeat_interleave(torch.arange(groups), torch.tensor(seen.counts))
    cells = torch.bincount(truth * groups + session[predicted], minlength=groups * groups)
    return tuple(map(tuple, cells.reshape(groups, groups).tolist()))


def _copied(matrices: Mapping[str, list[list[float]]]) -> dict[str, list[list[float]]]:
    return {name: [list(row) for row in rows] for name, rows in matrices.items()}
