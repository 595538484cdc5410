"""Gaussian heads beside scikit-learn's, and what a class without images scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import OAS
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from safe.heads.class_gaussian import ClassGaussianHead
from safe.heads.gaussian import GaussianHead, oas_shrinkage
from safe.heads.projection import Projection
from safe.seeding import generator

LABELS = torch.arange(300) % 5


def drawn(width: int, seed: int = 0) -> torch.Tensor:
    draw = generator(seed, "gaussian")
    mixing = torch.randn(width, width, generator=draw)
    return torch.randn(5, width, generator=draw)[LABELS] + torch.randn(300, width, generator=draw) @ mixing / 3


@pytest.mark.parametrize("rho", [0.01, 0.3])
def test_it_is_the_linear_discriminant_of_scikit_learn(rho: float) -> None:
    """With equally many images a class scikit-learn's shrunk class covariances average to the shrunk pooled one."""
    features, probe = drawn(12), drawn(12, 1)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=rho).fit(features.double().numpy(), LABELS.numpy())
    head = GaussianHead(Projection(12, 0, 0), rho)
    for part in (slice(0, 100), slice(100, 300)):  # the classes come back
        head.update(features[part], LABELS[part], 5, generator(0))
    expected = reference.decision_function(probe.double().numpy()) - np.log(1 / 5)
    assert np.abs(head.logits(probe).double().numpy() - expected).max() <= 1e-5 * np.abs(expected).max()


def test_log_densities_before_a_softmax_are_posteriors() -> None:
    features = drawn(12)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(features.double().numpy(), LABELS.numpy())
    head = GaussianHead(Projection(12, 0, 0), 0.1)
    head.update(features, LABELS, 5, generator(0))
    posterior = (head.own_scale * head.logits(features)).softmax(dim=1).numpy()
    assert np.abs(posterior - reference.predict_proba(features.double().numpy())).max() < 1e-4


def test_the_shrinkage_is_that_of_scikit_learn_but_for_two_over_the_width() -> None:
    features = drawn(200)[:, :200].double().numpy()
    covariance = np.cov(features.T, bias=True)
    shrinkage = oas_shrinkage(np.trace(covariance), np.sum(covariance**2), 300, 200)
    assert shrinkage == pytest.approx(OAS().fit(features).shrinkage_, rel=0.01)
    assert oas_shrinkage(2.0, 2.0, 10, 2) == 1, "a multiple of the identity"
    # Variances 1 and 3: tr 4, tr of the square 10, rho = 16 / (10 * (10 - 8)).
    assert oas_shrinkage(4.0, 10.0, 10, 2) == pytest.approx(16 / 20)


@pytest.mark.parametrize("kind", [GaussianHead, ClassGaussianHead])
def test_a_class_without_images_is_never_predicted_and_single_images_are_weathered(
    kind: type[GaussianHead] | type[ClassGaussianHead],
) -> None:
    head = kind(Projection(4, 0, 0), "oas")
    features = 3 * torch.eye(4)[:3]
    head.update(features, torch.arange(3), 5, generator(0))  # one image a class: no scatter at all
    logits = head.logits(torch.cat([features, -10 * features]))
    assert logits.isfinite().all()
    assert logits.argmax(dim=1)[:3].tolist() == [0, 1, 2]
    assert (logits[:, 3:] == -1e9).all()
