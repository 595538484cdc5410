"""The fast learner's loss, sessions t >= 2: CE + feature_weight L_cos + cross_weight (L_s2f + L_f2s)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from safe.heads.cosine import CosineHead
from safe.learners.learner import Learner
from safe.losses import Terms, cross_term, feature_term, weight_names, weighted


@dataclass
class FastBatch:
    """What a term may look at: the fast learner's features (B, D) of images of these classes, and both heads.

    Attributes:
        old_classes: how many classes earlier sessions had.
        frozen: gives the slow learner's features of `images`.
    """

    features: Tensor
    targets: Tensor
    fast: CosineHead
    slow: CosineHead
    old_classes: int
    images: Tensor
    frozen: Callable[[Tensor], Tensor]

    @cached_property
    def f_slow(self) -> Tensor:
        """The slow learner's features (B, D), without gradient; computed for the first term that looks at them."""
        with torch.no_grad():
            return self.frozen(self.images)


FAST_TERMS: Terms[FastBatch] = {
    ("feature",): lambda batch: (feature_term(batch.features, batch.f_slow),),
    ("cross",): lambda batch: (
        cross_term(
            batch.features,
            batch.f_slow,
            batch.targets,
            fast_rows=batch.fast.rows,
            fast_scale=batch.fast.scale,
            slow_rows=batch.slow.rows,
            slow_scale=batch.slow.scale,
            old_classes=batch.old_classes,
        ),
    ),
}
FAST_WEIGHTS = weight_names(FAST_TERMS)
"""The settings of `fast` that weigh the terms: `<term>_weight`."""


def fast_terms(
    fast: Learner,
    slow: Learner,
    images: Tensor,
    targets: Tensor,
    *,
    old_classes: int,
    frozen: Callable[[Tensor], Tensor] | None = None,
    **weights: float,
) -> dict[str, tuple[float, Tensor]]:
    """Return the terms of a batch as name -> (weight, value); `weights` are those of `FAST_TERMS`.

    The slow learner is frozen and sees the batch only if a term that needs it has a weight. `frozen` gives its features
    instead of its network itself, of the same images.
    """
    features = fast.net(images)
    ce = F.cross_entropy(fast.head(features), targets)
    batch = FastBatch(features, targets, fast.head, slow.head, old_classes, images, frozen or slow.net)
    return {"ce": (1.0, ce), **weighted(FAST_TERMS, batch, weights)}
