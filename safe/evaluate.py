"""Judging a trained state from cached logits, so that settings of prediction cost no forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from safe.aggregate import aggregate


@dataclass(frozen=True)
class Prediction:
    """The settings that act at prediction only.

    Attributes:
        kind: of aggregation.
        temperature: tau of the entropy weights.
        logit_scale: factor of both learners' scores before the softmax; `learned` for each learner's sigma.
    """

    kind: str
    temperature: float
    logit_scale: float | str = "learned"


@dataclass(frozen=True)
class SessionLogits:
    """Both learners' logits of every evaluation image seen so far, ordered by session group.

    Attributes:
        slow, fast: (N, C) readout scores, not yet scaled.
        slow_scale, fast_scale: each learner's own factor of its scores before the softmax, its sigma where learned.
        labels: int64 (N,).
        counts: images of each group; they add up to N.
    """

    slow: Tensor
    fast: Tensor
    slow_scale: float
    fast_scale: float
    labels: Tensor
    counts: list[int]

    def first(self, groups: int) -> SessionLogits:
        """Return the logits of the first `groups` session groups alone."""
        n = sum(self.counts[:groups])
        return replace(
            self, slow=self.slow[:n], fast=self.fast[:n], labels=self.labels[:n], counts=self.counts[:groups]
        )

    def combined(self, prediction: Prediction) -> Tensor:
        """Return the aggregated logits (N, C); see `safe.aggregate.aggregate`."""
        scale = prediction.logit_scale
        slow = self.slow * (self.slow_scale if scale == "learned" else float(scale))
        fast = self.fast * (self.fast_scale if scale == "learned" else float(scale))
        return aggregate(slow, fast, prediction.kind, prediction.temperature)


def accuracy_row(logits: Tensor, labels: Tensor, counts: Sequence[int]) -> list[float]:
    """Return the share of rows whose largest logit is their label, for each consecutive group of `counts` rows."""
    correct = (logits.argmax(dim=1) == labels).split(list(counts))
    return [group.sum().item() / len(group) for group in correct]


def score_grid(logits: SessionLogits, predictions: Sequence[Prediction]) -> list[list[float]]:
    """Return one accuracy row per setting; row i has the accuracy of each session group at predictions[i]."""
    return [accuracy_row(logits.combined(prediction), logits.labels, logits.counts) for prediction in predictions]


@torch.no_grad()
def extract(network: torch.nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Return the features (N, D) of an iterable of ready batches, in evaluation mode."""
    network.eval()
    return torch.cat([network(batch) for batch in batches])
