"""The judgement that ends a session: the metrics that both learners' logits of the images seen so far give."""

from __future__ import annotations

from statistics import fmean

from safe.evaluation.aggregation import entropy_weights
from safe.evaluation.image_metrics import compare_learners, judge_images
from safe.evaluation.logits import Prediction, SessionLogits, accuracy_row, group_shares, probability_metrics
from safe.evaluation.metrics import session_metrics


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
        labels, aggregated = seen.labels, seen.combined(self.prediction)
        slow, fast = seen.scaled(self.prediction.logit_scale)
        # Which class a learner predicts is read off its plain scores, which no setting of prediction touches.
        predicted = {
            "aggregated": aggregated.argmax(dim=1),
            "slow": seen.slow.argmax(dim=1),
            "fast": seen.fast.argmax(dim=1),
        }
        metrics: dict[str, float] = {}
        for name, scores in (("aggregated", aggregated), ("slow", slow), ("fast", fast)):
            self.rows[name].append(group_shares(predicted[name] == labels, seen.counts))
            own = session_metrics(self.rows[name], seen.counts)
            own |= probability_metrics(judge_images(scores, labels), labels)
            prefix = "" if name == "aggregated" else f"{name}/"
            metrics |= {f"{prefix}{metric}": value for metric, value in own.items()}
        metrics |= compare_learners(predicted["slow"], predicted["fast"], labels)
        if self.prediction.kind == "entropy":
            _, w_fast = entropy_weights(slow, fast, self.prediction.temperature)
            metrics["aggregation/weight_fast"] = w_fast.double().mean().item()
        if self.domain_incremental:
            combined, labels = judged.combined(self.prediction), judged.labels
            metrics["all_domains/accuracy"] = accuracy_row(combined, labels, [len(labels)])[0]
            metrics["all_domains/accuracy_session_mean"] = fmean(accuracy_row(combined, labels, judged.counts))
        return metrics
