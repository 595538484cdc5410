"""Laws of the mathematics on drawn shapes and on degenerate input, against float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from safe.evaluation.aggregation import aggregate, entropy_weights
from safe.heads.projection import Projection
from safe.heads.ridge import RidgeHead, choose_ridge, one_hot, readout
from safe.heads.symmetric import Symmetric
from safe.seeding import generator

DRAWN = settings(max_examples=40, deadline=None, derandomize=True)
GRID = (1e-1, 1e1, 1e3)

seeds = st.integers(0, 2**31 - 1)
rows, widths, classes = st.integers(2, 40), st.integers(1, 12), st.integers(1, 6)
dims = st.integers(1, 30)  # below and above both the width and the number of rows


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "drawn"))


def oracle(features: Tensor, labels: Tensor, count: int, projection: Projection, ridge: float) -> np.ndarray:
    """W of all rows at once in float64; the ridge is taken from the head, which chose it."""
    hidden = projection(features).double().numpy()
    targets = np.eye(count)[labels.numpy()]
    return np.linalg.solve(hidden.T @ hidden + ridge * np.eye(hidden.shape[1]), hidden.T @ targets)


def close(ours: Tensor, theirs: np.ndarray, tolerance: float = 1e-4) -> bool:
    scale = max(1.0, float(np.abs(theirs).max()))
    return bool(np.abs(ours.double().numpy() - theirs).max() <= tolerance * scale)


@DRAWN
@given(seeds, rows, widths, dims, classes)
def test_order_and_cuts_of_the_samples_change_no_statistic(seed: int, n: int, width: int, dim: int, count: int) -> None:
    features, labels = drawn(seed, n, width), torch.randint(count, (n,), generator=generator(seed, "labels"))
    projection = Projection(width, dim, seed)
    order = torch.randperm(n, generator=generator(seed, "order"))
    cut = seed % n

    whole, parts = RidgeHead(projection, GRID, 0.8), RidgeHead(projection, GRID, 0.8)
    whole.accumulate(projection(features), one_hot(labels, count))
    for part in (order[:cut], order[cut:]):
        parts.accumulate(projection(features[part]), one_hot(labels[part], count))
    assert close(parts.gram.dense(), whole.gram.dense().double().numpy())
    assert close(parts.cross, whole.cross.double().numpy())
    weights = [readout(head.gram, head.cross, 10.0) for head in (whole, parts)]
    assert close(weights[1], weights[0].double().numpy())
    assert close(weights[0], oracle(features, labels, count, projection, 10.0))


@DRAWN
@given(seeds, rows, widths, dims, classes)
def test_the_head_equals_float64_for_every_shape(seed: int, n: int, width: int, dim: int, count: int) -> None:
    features, labels = drawn(seed, n, width), torch.randint(count, (n,), generator=generator(seed, "labels"))
    head = RidgeHead(Projection(width, dim, seed), GRID, 0.8)
    head.update(features, labels, count, generator(seed, "split"))
    assert head.ridge in GRID
    assert close(head.weight, oracle(features, labels, count, head.projection, head.ridge), 1e-3)
    assert head.logits(features).shape == (n, count)


@DRAWN
@given(seeds, rows, widths)
def test_permuted_classes_give_permuted_logits(seed: int, n: int, width: int) -> None:
    count = 5
    features, labels = drawn(seed, n, width), torch.randint(count, (n,), generator=generator(seed, "labels"))
    permutation = torch.randperm(count, generator=generator(seed, "permutation"))
    plain, renamed = (RidgeHead(Projection(width, 20, 0), GRID, 0.8) for _ in range(2))
    plain.update(features, labels, count, generator(seed, "split"))
    renamed.update(features, permutation[labels], count, generator(seed, "split"))
    assert renamed.ridge == plain.ridge
    assert torch.allclose(renamed.logits(features)[:, permutation], plain.logits(features), atol=1e-4)


def test_classes_with_the_same_images_score_alike() -> None:
    features = drawn(0, 20, 6)
    labels = torch.arange(20) % 2
    head = RidgeHead(Projection(6, 40, 0), GRID, 0.8)
    head.update(torch.cat([features, features]), torch.cat([labels, labels + 2]), 4, generator(0))
    logits = head.logits(features)
    assert torch.allclose(logits[:, :2], logits[:, 2:], atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e4])
def test_constant_features_give_every_image_the_same_finite_scores(value: float) -> None:
    features, labels = torch.full((12, 6), value), torch.arange(12) % 3
    head = RidgeHead(Projection(6, 16, 1), (1e3, 1e6), 0.8)
    head.update(features, labels, 3, generator(0))
    logits = head.logits(features)
    assert logits.isfinite().all()
    # Nothing tells the classes apart but how often they come, and all come equally often.
    assert torch.allclose(logits, logits[:1, :1].expand_as(logits), rtol=1e-4)


def test_one_class_is_solved_and_both_learners_count_alike() -> None:
    features, labels = drawn(2, 30, 4), torch.zeros(30, dtype=torch.long)
    head = RidgeHead(Projection(4, 200, 0), (1.0,), 0.8)
    head.update(features, labels, 1, generator(0))
    assert close(head.weight, oracle(features, labels, 1, head.projection, 1.0))
    assert head.logits(features).shape == (30, 1)
    weights = entropy_weights(head.logits(features), head.logits(features), 0.5)
    assert all(torch.equal(w, torch.full((30,), 0.5)) for w in weights), "the entropy of one class is 0 for both"


@pytest.mark.parametrize(("condition", "ridge"), [(1e2, 1e-3), (1e6, 1.0), (1e9, 1e3)])
def test_an_ill_conditioned_gram_is_solved_to_float32_accuracy(condition: float, ridge: float) -> None:
    """Eigenvalues over up to nine decades: float64 inside loses nothing where a float32 solve loses digits."""
    size = 30
    q, _ = torch.linalg.qr(drawn(3, size, size).double())
    values = torch.logspace(0, math.log10(condition), size, dtype=torch.float64)
    gram, cross = (q * values) @ q.T, drawn(4, size, 3).double()
    expected = torch.linalg.solve(gram.float().double() + ridge * torch.eye(size, dtype=torch.float64), cross)
    solution = readout(Symmetric.of(gram.float()), cross.float(), ridge).double()
    error = (solution - expected).norm() / expected.norm()
    assert error < 1e-5
    if condition == 1e9:
        naive = torch.linalg.solve(gram.float() + ridge * torch.eye(size), cross.float()).double()
        assert (naive - expected).norm() / expected.norm() > 100 * error, "the case would not tell the two apart"


@DRAWN
@given(seeds, st.floats(1e-2, 1e2))
def test_the_choice_of_the_ridge_follows_the_scale_of_the_features(seed: int, factor: float) -> None:
    """(c H)^T (c H) + c^2 lambda I gives the same predictions: the chosen lambda moves with c^2."""
    h, y = drawn(seed, 24, 8).double(), one_hot(torch.arange(24) % 3, 3).double()
    plain = choose_ridge(h[:16], y[:16], h[16:], y[16:], GRID)
    scaled = choose_ridge(factor * h[:16], y[:16], factor * h[16:], y[16:], [factor**2 * ridge for ridge in GRID])
    assert scaled == pytest.approx(factor**2 * plain)


@DRAWN
@given(seeds, st.floats(min_value=1e-300, max_value=1e300), st.floats(1e-6, 1e6), classes)
def test_weights_are_a_finite_mixture_at_any_temperature(seed: int, tau: float, size: float, count: int) -> None:
    slow, fast = size * drawn(seed, 16, count), size * drawn(seed + 1, 16, count)
    w_slow, w_fast = entropy_weights(slow, fast, tau)
    assert ((w_slow >= 0) & (w_slow <= 1)).all()
    assert torch.allclose(w_slow + w_fast, torch.ones(16), atol=1e-6)
    combined = aggregate(slow, fast, "entropy", tau)
    low, high = torch.minimum(slow, fast), torch.maximum(slow, fast)
    slack = 1e-5 * (high.abs() + low.abs()) + 1e-12
    assert ((combined >= low - slack) & (combined <= high + slack)).all(), "it lies between the two learners"


@DRAWN
@given(seeds, st.floats(-50, 50), st.floats(1e-2, 1e2))
def test_shifting_all_scores_of_an_image_changes_no_weight(seed: int, shift: float, tau: float) -> None:
    slow, fast = drawn(seed, 16, 4).double(), drawn(seed + 1, 16, 4).double()
    expected = entropy_weights(slow, fast, tau)
    weights = entropy_weights(slow + shift, fast - shift, tau)
    for ours, theirs in zip(weights, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-9)
