"""The loss terms of SAFE (arXiv 2411.02175), as functions of features and head rows.

Features are (B, D); every result is a scalar tensor. An empty batch gives NaN, as torch's means do; NaN input
gives NaN, which the trainer reports with its term.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from safe.heads.cosine import cosine_logits

Batch = TypeVar("Batch")
Terms: TypeAlias = Mapping[tuple[str, ...], Callable[[Batch], tuple[Tensor, ...]]]
"""The loss terms of a learner beside cross-entropy: names of terms -> their values in a batch, computed together."""


def weight_names(terms: Terms[Any]) -> list[str]:
    """Return the setting that weighs each term: `<term>_weight` of the learner's section."""
    return [f"{name}_weight" for names in terms for name in names]


def weighted(terms: Terms[Batch], batch: Batch, weights: Mapping[str, float]) -> dict[str, tuple[float, Tensor]]:
    """Return the terms of a batch as name -> (weight, value); without weight they are not computed.

    Args:
        weights: one for every name in `weight_names`, 0 or more. Terms that are computed together all come out as soon
            as one of them has a weight.
    """
    told: dict[str, tuple[float, Tensor]] = {}
    for names, values in terms.items():
        own = [weights[f"{name}_weight"] for name in names]
        if any(own):
            told |= dict(zip(names, zip(own, values(batch), strict=True), strict=True))
    return told


def cross_correlation(f_slow: Tensor, f_ptm: Tensor, kind: str) -> Tensor:
    """Return the D x D cross-correlation C of two feature batches (SAFE, transfer loss).

    `sample`: rows scaled to unit L2 norm, C = f_slow^T f_ptm / B. `batch`: channels standardised over the batch
    (biased deviation), as in Barlow Twins (arXiv 2103.03230); a constant channel gives 0.
    """
    if kind == "sample":
        a, b = F.normalize(f_slow, dim=1), F.normalize(f_ptm, dim=1)
    elif kind == "batch":
        a, b = _standardise(f_slow), _standardise(f_ptm)
    else:
        raise ValueError(f"correlation must be 'sample' or 'batch', got {kind!r}")
    return a.T @ b / len(f_slow)


def transfer_terms(f_slow: Tensor, f_ptm: Tensor, kind: str = "sample") -> tuple[Tensor, Tensor]:
    """Return (L_diag, L_rdn), the two terms of the slow learner's transfer loss.

    L_diag = sum_i (1 - C_ii)^2 and L_rdn = sum_{i != j} C_ij^2; with `kind="batch"` they are averages over their
    D and D(D - 1) elements.
    """
    c = cross_correlation(f_slow, f_ptm, kind)
    width = len(c)
    on = c.diagonal()
    diag = (1 - on).square().sum()
    offdiag = c.square().sum() - on.square().sum()
    if kind == "batch":
        return diag / width, offdiag / max(1, width * (width - 1))
    return diag, offdiag


def feature_term(f_fast: Tensor, f_slow: Tensor) -> Tensor:
    """Return L_cos = mean_b (1 - cos(f_fast_b, f_slow_b)), which holds the fast features to the slow ones."""
    return (1 - F.cosine_similarity(f_fast, f_slow, dim=1)).mean()


def cross_term(
    f_fast: Tensor,
    f_slow: Tensor,
    targets: Tensor,
    *,
    fast_rows: Tensor,
    fast_scale: Tensor,
    slow_rows: Tensor,
    slow_scale: Tensor,
    old_classes: int,
) -> Tensor:
    """Return L_s2f + L_f2s: each learner's head must accept the other's features.

    L_s2f classifies the slow features and, as virtual samples of the old classes, the slow head's old rows by the
    *fast* head; L_f2s does the reverse. Each is one cross-entropy averaged over its B + old_classes rows. The slow side
    is fixed: no gradient reaches it.

    Args:
        f_fast, f_slow: (B, D) features of the same images; f_slow without gradient.
        targets: int64 (B,).
        fast_rows, slow_rows: (C, D) cosine head rows.
        fast_scale, slow_scale: sigma of each head, scalar tensors.
        old_classes: rows 0 .. old_classes - 1 stand for themselves as virtual samples.
    """
    slow_rows, slow_scale, f_slow = slow_rows.detach(), slow_scale.detach(), f_slow.detach()
    labels = torch.cat([targets, torch.arange(old_classes, device=targets.device)])
    to_fast = torch.cat([f_slow, slow_rows[:old_classes]])
    to_slow = torch.cat([f_fast, fast_rows[:old_classes]])
    slow_to_fast = F.cross_entropy(cosine_logits(to_fast, fast_rows, fast_scale), labels)
    fast_to_slow = F.cross_entropy(cosine_logits(to_slow, slow_rows, slow_scale), labels)
    return slow_to_fast + fast_to_slow


def _standardise(features: Tensor) -> Tensor:
    centred = features - features.mean(dim=0)
    # Bounded before the root, whose slope at 0 is infinite: a constant channel has no gradient rather than NaN.
    variance = centred.square().mean(dim=0).clamp_min(torch.finfo(features.dtype).eps ** 2)
    return centred / variance.sqrt()
