"""The slow learner's loss, session 1: CE + diag_weight L_diag + offdiag_weight L_rdn."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from safe.learners.learner import Learner
from safe.losses import transfer_terms


def slow_terms(
    learner: Learner,
    images: Tensor,
    targets: Tensor,
    *,
    diag_weight: float,
    offdiag_weight: float,
    correlation: str,
    frozen: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, tuple[float, Tensor]]:
    """Return the terms of a batch as name -> (weight, value).

    The PTM sees the batch only if a transfer term has a weight; its features carry no gradient. `frozen` gives them
    instead of the PTM itself, of the same images.
    """
    features = learner.net(images)
    terms = {"ce": (1.0, F.cross_entropy(learner.head(features), targets))}
    if diag_weight or offdiag_weight:
        with torch.no_grad():
            f_ptm = (frozen or learner.net.base)(images)
        diag, offdiag = transfer_terms(features, f_ptm, correlation)
        terms |= {"diag": (diag_weight, diag), "offdiag": (offdiag_weight, offdiag)}
    return terms
