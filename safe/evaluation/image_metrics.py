"""Metrics made of single images: how probable the truth was, whether confidence can be trusted, how learners differ.

The tensors may have any number of dimensions before that of the images, for example one per setting of prediction.
Without any image a mean is undefined, which is a `ValueError`, never NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ECE_BINS = 15


class Judged(NamedTuple):
    """What a softmax classifier says of each image; shapes (..., N).

    Attributes:
        predicted: class of the largest logit, of equals the first; int64.
        nll: negative logarithm of the probability of the true class, in nats, at least 0; float64.
        confidence: probability of the predicted class, in [1/C, 1]; float64.
    """

    predicted: Tensor
    nll: Tensor
    confidence: Tensor


def judge_images(logits: Tensor, labels: Tensor) -> Judged:
    """Return what logits (..., N, C) say of N images with labels int64 (N,), each in [0, C)."""
    log_p = logits.log_softmax(dim=-1)
    truth = log_p.gather(-1, labels.expand(log_p.shape[:-1]).unsqueeze(-1)).squeeze(-1)
    # 0 - x and not -x: a certain truth is 0, not -0.
    return Judged(logits.argmax(dim=-1), 0 - truth.double(), log_p.amax(dim=-1).double().exp())


def mean_nll(nll: Tensor) -> float:
    """Return the mean negative log-likelihood in nats per image of float64 (N,)."""
    _require_images(nll)
    return nll.mean().item()


def expected_calibration_error(confidence: Tensor, correct: Tensor, bins: int = ECE_BINS) -> float:
    """Return the mean gap between confidence and accuracy; Guo et al. 2017 (arXiv 1706.04599), eq. 3.

        ECE = sum_b  n_b / N * | accuracy(b) - confidence(b) |,   b: bins of equal width, each (lower, upper]

    Args:
        confidence: float64 (N,), in [0, 1]; 0 counts to the first bin.
        correct: bool (N,).
        bins: how many.

    Returns:
        In [0, 1]; 0 for one class, where confidence and accuracy are both 1.
    """
    _require_images(confidence)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=confidence.device)[1:-1]
    place = torch.bucketize(confidence, edges)
    gaps = torch.bincount(place, weights=correct.double() - confidence, minlength=bins)
    return gaps.abs().sum().item() / len(confidence)


def compare_learners(slow: Tensor, fast: Tensor, labels: Tensor) -> dict[str, float]:
    """Return how two learners' predicted classes, int64 (N,) like the labels, go together; each in [0, 1].

    agreement: share of images on which both predict the same class, right or wrong.
    complementarity: share on which exactly one is right: where choosing well between them pays.
    oracle_accuracy: share on which at least one is right: the accuracy of always choosing well.
    """
    _require_images(labels)
    right_slow, right_fast = slow == labels, fast == labels
    shares = {
        "agreement": slow == fast,
        "complementarity": right_slow ^ right_fast,
        "oracle_accuracy": right_slow | right_fast,
    }
    return {name: share.sum().item() / len(labels) for name, share in shares.items()}


def _require_images(values: Tensor) -> None:
    if not len(values):
        raise ValueError("there is no image to judge")
