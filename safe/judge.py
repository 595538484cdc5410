"""The judgement that ends a session: both learners' logits of every image seen so far, and the metrics they give."""

from __future__ import annotations

from statistics import fmean

import torch

from safe.config import Config
from safe.data.stream import Stream
from safe.evaluate import SessionLogits, accuracy_row
from safe.features import FeatureExtractor
from safe.learners.learner import Learner
from safe.metrics import session_metrics


class Judge:
    """Judges the learners after each session and keeps the accuracy matrices.

    Attributes:
        rows: accuracy by session group after each session, of the aggregate and of each learner.
    """

    def __init__(self, config: Config, stream: Stream, features: FeatureExtractor) -> None:
        self.config, self.stream, self.features = config, stream, features
        self.rows: dict[str, list[list[float]]] = {"aggregated": [], "slow": [], "fast": []}

    def __call__(self, slow: Learner, fast: Learner, session: int) -> tuple[SessionLogits, dict[str, float]]:
        """Return the logits of the groups up to `session` (from 1) and the metrics, names without split prefix.

        A domain-incremental stream adds the accuracies over all domains, seen or not, as RanPAC reports them.
        """
        judged = self._logits(slow, fast, session)
        seen = judged.first(session)
        metrics: dict[str, float] = {}
        for name, scores in (("aggregated", self._combined(seen)), ("slow", seen.slow), ("fast", seen.fast)):
            self.rows[name].append(accuracy_row(scores, seen.labels, seen.counts))
            prefix = "" if name == "aggregated" else f"{name}/"
            found = session_metrics(self.rows[name], seen.counts)
            metrics |= {f"{prefix}{metric}": value for metric, value in found.items()}
        if self.stream.domain_incremental:
            combined, labels = self._combined(judged), judged.labels
            metrics["all_domains/accuracy"] = accuracy_row(combined, labels, [len(labels)])[0]
            metrics["all_domains/accuracy_session_mean"] = fmean(accuracy_row(combined, labels, judged.counts))
        return seen, metrics

    def _logits(self, slow: Learner, fast: Learner, session: int) -> SessionLogits:
        # Every class is known in every domain, so those still to come are judged too.
        reached = len(self.stream) if self.stream.domain_incremental else session
        sessions = self.stream.sessions[:reached]
        of_slow = torch.cat([self.features.frozen(slow, s.evaluation, "evaluation", s.index) for s in sessions])
        same = session == 1 or self.config.fast.epochs == 0
        of_fast = of_slow if same else torch.cat([self.features(fast, s.evaluation) for s in sessions])
        setting = self.config.head.logit_scale
        return SessionLogits(
            slow=slow.closed.logits(of_slow).cpu(),
            fast=fast.closed.logits(of_fast).cpu(),
            slow_scale=slow.scale(setting),
            fast_scale=fast.scale(setting),
            labels=torch.cat([s.evaluation.labels for s in sessions]),
            counts=[len(s.evaluation) for s in sessions],
        )

    def _combined(self, logits: SessionLogits) -> torch.Tensor:
        return logits.combined(self.config.aggregation.kind, self.config.aggregation.temperature)
