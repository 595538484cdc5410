"""Metrics of single images against float64 oracles written from their definitions in plain numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from safe.evaluation.image_metrics import ECE_BINS, compare_learners, expected_calibration_error, judge_images, mean_nll
from safe.seeding import generator


def oracle_ece(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    """Guo et al. 2017, eq. 2 and 3, bin by bin: bin b holds the confidences in ((b - 1) / bins, b / bins]."""
    total = 0.0
    for b in range(1, bins + 1):
        inside = (confidence > (b - 1) / bins) & (confidence <= b / bins)
        if inside.any():
            total += inside.sum() * abs(correct[inside].mean() - confidence[inside].mean())
    return total / len(confidence)


@pytest.mark.parametrize(("images", "classes", "spread"), [(200, 5, 1.0), (300, 40, 8.0), (7, 2, 30.0), (50, 1, 3.0)])
def test_nll_confidence_and_ece_against_numpy(images: int, classes: int, spread: float) -> None:
    draw = generator(images, "judge")
    logits = spread * torch.randn(images, classes, generator=draw)
    labels = torch.randint(classes, (images,), generator=draw)
    z = logits.numpy().astype(np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    said = judge_images(logits, labels)
    nll = -np.log(p[np.arange(images), labels.numpy()])
    assert np.allclose(said.nll.numpy(), nll, rtol=1e-5, atol=1e-6)
    assert mean_nll(said.nll) == pytest.approx(nll.mean(), rel=1e-5, abs=1e-6)
    assert (said.predicted.numpy() == z.argmax(axis=1)).all()
    assert np.allclose(said.confidence.numpy(), p.max(axis=1), rtol=1e-5)
    correct = said.predicted == labels
    expected = oracle_ece(said.confidence.numpy(), correct.numpy(), ECE_BINS)
    assert expected_calibration_error(said.confidence, correct) == pytest.approx(expected, abs=1e-12)


def test_ece_by_hand() -> None:
    confidence = torch.tensor([0.5, 0.4, 0.9, 1.0], dtype=torch.float64)
    correct = torch.tensor([True, False, True, True])
    # Two bins: (0, 1/2] says 0.45 and has 1/2 right; (1/2, 1] says 0.95 and has all right.
    assert expected_calibration_error(confidence, correct, bins=2) == pytest.approx((0.05 * 2 + 0.05 * 2) / 4)
    assert expected_calibration_error(confidence, correct, bins=1) == pytest.approx(abs(0.75 - 0.7))


@pytest.mark.parametrize("bins", [2, 5, 15])
def test_a_confidence_on_an_edge_counts_to_the_bin_below(bins: int) -> None:
    edge = torch.tensor([1 / bins], dtype=torch.float64)
    both = torch.cat([edge, edge / 2])
    # Were the edge in the bin above, the two gaps of opposite sign would not cancel within one bin.
    gap = expected_calibration_error(both, torch.tensor([True, False]), bins)
    assert gap == pytest.approx(abs((1 - 1 / bins) - 1 / bins / 2) / 2)


def test_extremes_of_the_calibration_error() -> None:
    sure = torch.ones(4, dtype=torch.float64)
    assert expected_calibration_error(sure, torch.ones(4, dtype=torch.bool)) == 0
    assert expected_calibration_error(sure, torch.zeros(4, dtype=torch.bool)) == 1
    assert expected_calibration_error(0 * sure, torch.ones(4, dtype=torch.bool)) == 1


def test_one_class_is_certain_and_right() -> None:
    said = judge_images(torch.tensor([[3.0], [-5.0]]), torch.zeros(2, dtype=torch.int64))
    assert said.nll.tolist() == said.predicted.tolist() == [0, 0]
    assert not said.nll.signbit().any()
    assert said.confidence.tolist() == [1, 1]


def test_of_equal_logits_the_first_class_is_predicted() -> None:
    said = judge_images(torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]]), torch.tensor([2, 1]))
    assert said.predicted.tolist() == [1, 0]
    assert said.confidence[1].item() == pytest.approx(1 / 3)
    assert said.nll[1].item() == pytest.approx(math.log(3))


def test_huge_logits_stay_finite() -> None:
    said = judge_images(torch.tensor([[1e30, 0.0], [-1e4, 1e4]]), torch.tensor([1, 0]))
    assert said.nll.isfinite().all()
    assert said.nll[1].item() == pytest.approx(2e4)


def test_settings_side_by_side_are_judged_as_one_by_one() -> None:
    draw = generator(0, "stacked")
    logits = torch.randn(3, 11, 4, generator=draw)
    labels = torch.randint(4, (11,), generator=draw)
    stacked = judge_images(logits, labels)
    for place in range(3):
        alone = judge_images(logits[place], labels)
        assert all(torch.equal(a[place], b) for a, b in zip(stacked, alone, strict=True))


def test_two_learners_by_hand() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1])
    slow, fast = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 1, 0, 1, 1])
    metrics = compare_learners(slow, fast, labels)
    assert metrics == {"agreement": 3 / 5, "complementarity": 2 / 5, "oracle_accuracy": 4 / 5}
    both_wrong_apart = compare_learners(torch.tensor([1]), torch.tensor([2]), torch.tensor([0]))
    assert both_wrong_apart == {"agreement": 0, "complementarity": 0, "oracle_accuracy": 0}


def test_the_oracle_is_the_mean_accuracy_plus_half_the_complementarity() -> None:
    draw = generator(3, "learners")
    slow, fast, labels = torch.randint(3, (3, 200), generator=draw)
    metrics = compare_learners(slow, fast, labels)
    mean = ((slow == labels).sum() + (fast == labels).sum()).item() / 400
    assert metrics["oracle_accuracy"] == pytest.approx(mean + metrics["complementarity"] / 2)
    assert compare_learners(slow, slow, labels) == {
        "agreement": 1,
        "complementarity": 0,
        "oracle_accuracy": (slow == labels).sum().item() / 200,
    }


def test_nothing_to_judge_is_refused() -> None:
    nothing, whole = torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.int64)
    assert judge_images(torch.empty(0, 3), whole).nll.shape == (0,)
    for call in (
        lambda: mean_nll(nothing),
        lambda: expected_calibration_error(nothing, whole.bool()),
        lambda: compare_learners(whole, whole, whole),
    ):
        with pytest.raises(ValueError, match="no image to judge"):
            call()
