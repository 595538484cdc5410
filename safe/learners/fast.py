"""The fast learner's loss, sessions t >= 2: CE + feature_weight L_cos + cross_weight (L_s2f + L_f2s)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from safe.learners.learner import Learner
from safe.losses import cross_term, feature_term


def fast_terms(
    fast: Learner,
    slow: Learner,
    images: Tensor,
    targets: Tensor,
    *,
    feature_weight: float,
    cross_weight: float,
    old_classes: int,
    frozen: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, tuple[float, Tensor]]:
    """Return the terms of a batch as name -> (weight, value).

    The slow learner is frozen and sees the batch only if a term that needs it has a weight. `frozen` gives its features
    instead of its network itself, of the same images.
    """
    features = fast.net(images)
    terms = {"ce": (1.0, F.cross_entropy(fast.head(features), targets))}
    if feature_weight or cross_weight:
        with torch.no_grad():
            f_slow = (frozen or slow.net)(images)
    if feature_weight:
        terms["feature"] = (feature_weight, feature_term(features, f_slow))
    if cross_weight:
        cross = cross_term(
            features,
            f_slow,
            targets,
            fast_rows=fast.head.rows,
            fast_scale=fast.head.scale,
            slow_rows=slow.head.rows,
            slow_scale=slow.head.scale,
            old_classes=old_classes,
        )
        terms["cross"] = (cross_weight, cross)
    return terms
