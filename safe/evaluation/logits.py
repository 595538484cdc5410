"""Judging a trained state from cached logits, so that settings of prediction cost no forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from safe.evaluation.aggregation import aggregate, entropy_weights, weighted
from safe.evaluation.image_metrics import Judged, expected_calibration_error, judge_images, mean_nll
from safe.evaluation.metrics import LEARNERS

_CHUNK_ELEMENTS = 2**18  # of the logits of all settings at once: 1 MiB, which stays in a processor's cache


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

    def scaled(self, logit_scale: float | str) -> tuple[Tensor, Tensor]:
        """Return the slow and the fast learner's scores (N, C) times `logit_scale`: a number, or `learned`."""
        learned = logit_scale == "learned"
        slow, fast = (self.slow_scale, self.fast_scale) if learned else (float(logit_scale), float(logit_scale))
        return self.slow * slow, self.fast * fast

    def combined(self, prediction: Prediction) -> Tensor:
        """Return the aggregated logits (N, C); see `safe.evaluation.aggregation.aggregate`."""
        return aggregate(*self.scaled(prediction.logit_scale), prediction.kind, prediction.temperature)


def accuracy_row(logits: Tensor, labels: Tensor, counts: Sequence[int]) -> list[float]:
    """Return the share of rows whose largest logit is their label, for each consecutive group of `counts` rows."""
    return group_shares(logits.argmax(dim=1) == labels, counts)


def group_shares(correct: Tensor, counts: Sequence[int]) -> list[float]:
    """Return the share of true entries in each consecutive group of `counts` entries of bool (N,)."""
    return [group.sum().item() / len(group) for group in correct.split(list(counts))]


def probability_metrics(judged: Judged, labels: Tensor) -> dict[str, float]:
    """Return `nll` (nats per image) and `ece` of what is said of N images."""
    correct = judged.predicted == labels
    return {"nll": mean_nll(judged.nll), "ece": expected_calibration_error(judged.confidence, correct)}


class Grid(NamedTuple):
    """A trained state at many settings of prediction, one entry per setting in both lists.

    Attributes:
        rows: accuracy of each session group.
        metrics: over all images: `nll` and `ece` of the aggregate and, as `slow/...` and `fast/...`, of each learner at
            the setting's scale; `aggregation/weight_fast`, the mean weight of the fast learner, where entropies weigh.
    """

    rows: list[list[float]]
    metrics: list[dict[str, float]]


def score_grid(logits: SessionLogits, predictions: Sequence[Prediction]) -> Grid:
    """Return accuracies and metrics of every setting: the very numbers that each would give alone, in one pass.

    Settings that differ in temperature alone share entropies and are combined side by side, some images at a time.
    """
    learners = {scale: _learner_metrics(logits, scale) for scale in {p.logit_scale for p in predictions}}
    rows: dict[int, list[float]] = {}
    metrics: dict[int, dict[str, float]] = {}
    for (scale, kind), places in _alike(predictions).items():
        temperatures = [predictions[place].temperature for place in places]
        judged, weights = _judge_all(*logits.scaled(scale), logits.labels, kind, temperatures)
        for place, one, weight in zip(places, judged, weights, strict=True):
            rows[place] = group_shares(one.predicted == logits.labels, logits.counts)
            metrics[place] = probability_metrics(one, logits.labels) | learners[scale]
            if weight is not None:
                metrics[place]["aggregation/weight_fast"] = weight.double().mean().item()
    order = range(len(predictions))
    return Grid([rows[place] for place in order], [metrics[place] for place in order])


def _learner_metrics(logits: SessionLogits, scale: float | str) -> dict[str, float]:
    """Return `nll` and `ece` of each learner alone."""
    return {
        f"{learner}/{name}": value
        for learner, scores in zip(LEARNERS, logits.scaled(scale), strict=True)
        for name, value in probability_metrics(judge_images(scores, logits.labels), logits.labels).items()
    }


def _alike(predictions: Sequence[Prediction]) -> dict[tuple[float | str, str], list[int]]:
    """Return the positions of the settings that differ in temperature alone, by scale and kind."""
    groups: dict[tuple[float | str, str], list[int]] = {}
    for place, prediction in enumerate(predictions):
        groups.setdefault((prediction.logit_scale, prediction.kind), []).append(place)
    return groups


def _judge_all(
    slow: Tensor, fast: Tensor, labels: Tensor, kind: str, temperatures: list[float]
) -> tuple[list[Judged], list[Tensor | None]]:
    """Return for every temperature what the aggregate of scaled logits (N, C) says, and the fast learner's weights."""
    count = len(temperatures)
    if kind != "entropy":  # no temperature in it
        return [judge_images(aggregate(slow, fast, kind, 1.0), labels)] * count, [None] * count
    tau = torch.tensor(temperatures, dtype=torch.float64, device=slow.device).unsqueeze(1)
    w_slow, w_fast = entropy_weights(slow, fast, tau)
    size = max(1, _CHUNK_ELEMENTS // (count * slow.shape[1]))
    parts = zip(
        *(x.split(size, dim=-1) for x in (w_slow, w_fast, labels)), slow.split(size), fast.split(size), strict=True
    )
    judged = [judge_images(weighted(z_slow, z_fast, a, b), truth) for a, b, truth, z_slow, z_fast in parts]
    whole = [torch.cat(field, dim=1) for field in zip(*judged, strict=True)]
    return [Judged(*(field[t] for field in whole)) for t in range(count)], list(w_fast)


@torch.no_grad()
def extract(network: torch.nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Return the features (N, D) of an iterable of ready batches, in evaluation mode."""
    network.eval()
    return torch.cat([network(batch) for batch in batches])
