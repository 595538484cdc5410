"""The slow learner's loss, session 1: CE + diag_weight L_diag + offdiag_weight L_rdn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from safe.learners.learner import Learner
from safe.losses import Terms, transfer_terms, weight_names, weighted


@dataclass
class SlowBatch:
    """What a term may look at: the slow learner's features (B, D) of images of these classes.

    Attributes:
        correlation: how the cross-correlation is normalised.
        frozen: gives the PTM's features of `images`.
    """

    features: Tensor
    targets: Tensor
    correlation: str
    images: Tensor
    frozen: Callable[[Tensor], Tensor]

    @cached_property
    def f_ptm(self) -> Tensor:
        """The PTM's features (B, D), without gradient; computed for the first term that looks at them."""
        with torch.no_grad():
            return self.frozen(self.images)


SLOW_TERMS: Terms[SlowBatch] = {
    ("diag", "offdiag"): lambda batch: transfer_terms(batch.features, batch.f_ptm, batch.correlation),
}
SLOW_WEIGHTS = weight_names(SLOW_TERMS)
"""The settings of `slow` that weigh the terms: `<term>_weight`."""


def slow_terms(
    learner: Learner,
    images: Tensor,
    targets: Tensor,
    *,
    correlation: str,
    frozen: Callable[[Tensor], Tensor] | None = None,
    **weights: float,
) -> dict[str, tuple[float, Tensor]]:
    """Return the terms of a batch as name -> (weight, value); `weights` are those of `SLOW_TERMS`.

    The PTM sees the batch only if a term that needs it has a weight. `frozen` gives its features instead of the PTM
    itself, of the same images.
    """
    features = learner.net(images)
    ce = F.cross_entropy(learner.head(features), targets)
    batch = SlowBatch(features, targets, correlation, images, frozen or learner.net.base)
    return {"ce": (1.0, ce), **weighted(SLOW_TERMS, batch, weights)}
