"""The judgement that ends a session: the metrics that both learners' logits of the images seen so far give."""

from __future__ import annotations

from statistics import fmean

from safe.evaluate import Prediction, SessionLogits, accuracy_row
from safe.metrics import session_metrics


class Judge:
    """Judges each session from its logits and keeps the accuracy matrices.

    Args:
        prediction: how the aggregate is formed.
        domain_incremental: whether the logits cover every domain, seen or not.

    Attributes:
        rows: accuracy by session group after each session, of the aggregate and of each learner.
    """

    def __init__(self, prediction: Prediction, *, domain_incremental: bool) -> None:
        self.prediction, self.domain_incremental = prediction, domain_incremental
        self.rows: dict[str, list[list[float]]] = {"aggregated": [], "slow": [], "fast": []}

    def __call__(self, judged: SessionLogits, session: int) -> dict[str, float]:
        """Return the metrics after `session` (from 1), names without split prefix.

        A domain-incremental stream adds the accuracies over all domains, seen or not, as RanPAC reports them.
        """
        seen = judged.first(session)
        metrics: dict[str, float] = {}
        aggregated = seen.combined(self.prediction)
        for name, scores in (("aggregated", aggregated), ("slow", seen.slow), ("fast", seen.fast)):
            self.rows[name].append(accuracy_row(scores, seen.labels, seen.counts))
            prefix = "" if name == "aggregated" else f"{name}/"
            found = session_metrics(self.rows[name], seen.counts)
            metrics |= {f"{prefix}{metric}": value for metric, value in found.items()}
        if self.domain_incremental:
            combined, labels = judged.combined(self.prediction), judged.labels
            metrics["all_domains/accuracy"] = accuracy_row(combined, labels, [len(labels)])[0]
            metrics["all_domains/accuracy_session_mean"] = fmean(accuracy_row(combined, labels, judged.counts))
        return metrics
