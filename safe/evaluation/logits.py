"""Judging a trained state from cached logits, so that settings of prediction cost no forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
        owned: the classes that the images of each group show, of which there may be more than these images have.
    """

    slow: Tensor
    fast: Tensor
    slow_scale: float
    fast_scale: float
    labels: Tensor
    counts: list[int]
    owned: list[range]

    def first(self, groups: int) -> SessionLogits:
        """Return the logits of the first `groups` session groups alone."""
        n = sum(self.counts[:groups])
        return replace(
            self,
            slow=self.slow[:n],
            fast=self.fast[:n],
            labels=self.labels[:n],
            counts=self.counts[:groups],
            owned=self.owned[:groups],
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


def predicted_within(logits: Tensor, counts: Sequence[int], owned: Sequence[range]) -> Tensor:
    """Return for each row of logits (N, C) the most probable of the classes that its group brought, int64 (N,)."""
    groups = zip(logits.split(list(counts)), owned, strict=True)
    return torch.cat([group[:, own.start : own.stop].argmax(dim=1) + own.start for group, own in groups])


def group_shares(correct: Tensor, counts: Sequence[int]) -> list[float]:
    """Return the share of true entries in each consecutive group of `counts` entries of bool (N,)."""
    return [group.sum().item() / len(group) for group in correct.split(list(counts))]


def probability_metrics(judged: Judged, labels: Tensor) -> dict[str, float]:
    """Return `nll` (nats per image) and `ece` of the predictions of N images."""
    correct = judged.predicted == labels
    return {"nll": mean_nll(judged.nll), "ece": expected_calibration_error(judged.confidence, correct)}


class Grid(NamedTuple):
    """A trained state at many settings of prediction, one entry per setting in both lists.

    Attributes:
        rows: accuracy of each session group.
        within: the same where only the group's own classes compete.
        metrics: over all images: `nll` and `ece` of the aggregate and, as `slow/...` and `fast/...`, of each learner at
            the setting's scale; `aggregation/weight_fast`, the mean weight of the fast learner, of `entropy` alone.
    """

    rows: list[list[float]]
    within: list[list[float]]
    metrics: list[dict[str, float]]


def score_grid(logits: SessionLogits, predictions: Sequence[Prediction]) -> Grid:
    """Return accuracies and metrics at every setting in one pass; they equal those of judging each setting alone.

    Settings that differ in temperature alone share entropies and are combined side by side, some images at a time.
    """
    learners = {scale: _learner_metrics(logits, scale) for scale in {p.logit_scale for p in predictions}}
    rows: dict[int, list[float]] = {}
    within: dict[int, list[float]] = {}
    metrics: dict[int, dict[str, float]] = {}
    for (scale, kind), places in _alike(predictions).items():
        temperatures = [predictions[place].temperature for place in places]
        for place, said in zip(places, _judge_all(logits, scale, kind, temperatures), strict=True):
            rows[place] = group_shares(said.judged.predicted == logits.labels, logits.counts)
            within[place] = group_shares(said.within == logits.labels, logits.counts)
            metrics[place] = probability_metrics(said.judged, logits.labels) | learners[scale]
            if said.weight_fast is not None:
                metrics[place]["aggregation/weight_fast"] = said.weight_fast.double().mean().item()
    order = range(len(predictions))
    return Grid([rows[p] for p in order], [within[p] for p in order], [metrics[p] for p in order])


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


class _Said(NamedTuple):
    """What a setting of prediction says of all images; `weight_fast` where entropies weigh."""

    judged: Judged
    within: Tensor
    weight_fast: Tensor | None


def _judge_all(logits: SessionLogits, scale: float | str, kind: str, temperatures: list[float]) -> list[_Said]:
    """Return for every temperature what the aggregate says."""
    (slow, fast), labels, count = logits.scaled(scale), logits.labels, len(temperatures)
    if kind != "entropy":  # no temperature in it
        combined = aggregate(slow, fast, kind, 1.0)
        within = predicted_within(combined, logits.counts, logits.owned)
        return [_Said(judge_images(combined, labels), within, None)] * count
    tau = torch.tensor(temperatures, dtype=torch.float64, device=slow.device).unsqueeze(1)
    w_slow, w_fast = entropy_weights(slow, fast, tau)
    parts = []
    for rows, own in _pieces(logits, max(1, _CHUNK_ELEMENTS // (count * slow.shape[1]))):
        combined = weighted(slow[rows], fast[rows], w_slow[:, rows], w_fast[:, rows])
        within = combined[..., own.start : own.stop].argmax(dim=-1) + own.start
        parts.append((*judge_images(combined, labels[rows]), within))
    whole = [torch.cat(field, dim=1) for field in zip(*parts, strict=True)]
    return [_Said(Judged(*judged), within, weight) for *judged, within, weight in zip(*whole, w_fast, strict=True)]


def _pieces(logits: SessionLogits, size: int) -> Iterator[tuple[slice, range]]:
    """Yield all rows, at most `size` at a time and those of one group alone, with the classes that the group shows."""
    stop = 0
    for count, own in zip(logits.counts, logits.owned, strict=True):
        start, stop = stop, stop + count
        for first in range(start, stop, size):
            yield slice(first, min(first + size, stop)), own


@torch.no_grad()
def extract(network: torch.nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Return the features (N, D) of an iterable of ready batches, in evaluation mode."""
    network.eval()
    return torch.cat([network(batch) for batch in batches])
