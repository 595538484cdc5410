"""Entropy-weighted aggregation of the two learners' predictions (SAFE, arXiv 2411.02175, prediction).

    (w_slow, w_fast) = softmax(-H(p_slow) / tau, -H(p_fast) / tau),   logits = w_slow z_slow + w_fast z_fast

with p the softmax of a learner's scaled logits and H its entropy in nats. The released code's `scalar_val` is 1 / tau.
"""

from __future__ import annotations

import torch
from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy in nats, in [0, ln C], of softmax(logits) over the last dimension; 0 for one class."""
    log_p = logits.log_softmax(dim=-1)
    return torch.special.entr(log_p.exp()).sum(dim=-1)


def entropy_weights(slow: Tensor, fast: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return (w_slow, w_fast), each (N,), in [0, 1] and summing to 1.

    Args:
        slow, fast: (N, C) scaled logits.
        temperature: tau > 0; towards 0 the more certain learner gets weight 1, towards infinity both get 1/2. Several
            at once as float64 (T, 1): the weights are then (T, N).

    Raises:
        ValueError: a temperature is not above 0.
    """
    if not torch.as_tensor(temperature > 0).all():
        raise ValueError(f"temperature must be above 0, got {temperature}")
    # One logistic of the difference: no overflow at any temperature, and 1/2 exactly for equal entropies.
    difference = (entropy(fast) - entropy(slow)).double() / temperature
    return torch.sigmoid(difference).to(slow.dtype), torch.sigmoid(-difference).to(slow.dtype)


def weighted(slow: Tensor, fast: Tensor, w_slow: Tensor, w_fast: Tensor) -> Tensor:
    """Return w_slow z_slow + w_fast z_fast (..., N, C) of logits (N, C) and weights (..., N)."""
    return w_slow.unsqueeze(-1) * slow + w_fast.unsqueeze(-1) * fast


def aggregate(slow: Tensor, fast: Tensor, kind: str, temperature: float) -> Tensor:
    """Return the aggregated logits (N, C) of two learners' scaled logits (N, C).

    `entropy`: weighted as above; `mean`, `max`: element by element; `slow`, `fast`: that learner alone.
    """
    if kind == "entropy":
        return weighted(slow, fast, *entropy_weights(slow, fast, temperature))
    if kind == "mean":
        return (slow + fast) / 2
    if kind == "max":
        return torch.maximum(slow, fast)
    if kind in ("slow", "fast"):
        return slow if kind == "slow" else fast
    raise ValueError(f"aggregation must be entropy, mean, max, slow or fast, got {kind!r}")
