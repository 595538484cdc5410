"""The fixed random projection."""

from __future__ import annotations

import pytest
import torch

from safe.heads.projection import Projection
from safe.seeding import generator


def matrix(projection: Projection) -> torch.Tensor:
    """Return W_rand, read off through the projection itself: relu(W) - relu(-W)."""
    eye = torch.eye(projection.width)
    return projection(eye) - projection(-eye)


def test_it_is_relu_of_one_linear_map() -> None:
    projection = Projection(6, 40, seed=3)
    f = torch.randn(9, 6, generator=generator(0))
    expected = (f.double() @ matrix(projection).double()).clamp_min(0)
    assert torch.allclose(projection(f).double(), expected, atol=1e-5)
    assert (projection(f) >= 0).all()
    assert projection.out_dim == 40


def test_the_map_is_standard_normal() -> None:
    w = matrix(Projection(50, 2000, seed=0))
    assert w.mean().item() == pytest.approx(0, abs=0.02)
    assert w.std().item() == pytest.approx(1, abs=0.02)
    assert (w.abs() < 1).float().mean().item() == pytest.approx(0.6827, abs=0.01)


def test_it_is_identified_by_width_dimension_and_seed() -> None:
    first = matrix(Projection(5, 8, seed=1))
    assert torch.equal(first, matrix(Projection(5, 8, seed=1)))
    assert not torch.equal(first, matrix(Projection(5, 8, seed=2)))
    assert not torch.equal(first, matrix(Projection(5, 9, seed=1))[:, :8])


def test_without_a_dimension_features_stay_as_they_are() -> None:
    projection = Projection(5, 0, seed=1)
    f = torch.randn(3, 5, generator=generator(0))
    assert torch.equal(projection(f), f)
    assert projection.out_dim == 5


def test_a_sparse_projection_reads_the_same_number_of_features_in_every_column() -> None:
    w = matrix(Projection(20, 300, seed=0, density=0.25))
    assert ((w != 0).sum(dim=0) == 5).all()
    assert w[w != 0].std().item() == pytest.approx(1, abs=0.05)
    often = (w != 0).float().mean(dim=1)
    assert often.min() > 0.15, "every feature is read"
    assert torch.equal(matrix(Projection(20, 300, seed=0)), matrix(Projection(20, 300, seed=0, density=1.0)))


def test_topk_keeps_the_largest_values_of_every_image() -> None:
    kept, f = Projection(6, 40, 3, "cpu", "topk", 0.1), torch.randn(9, 6, generator=generator(0))
    plain = f @ matrix(Projection(6, 40, 3))
    assert ((kept(f) != 0).sum(dim=1) == 4).all()
    assert torch.allclose(kept(f).sum(dim=1), plain.sort(dim=1).values[:, -4:].sum(dim=1), atol=1e-5)
    assert torch.allclose(Projection(6, 40, 3, "cpu", "topk")(f), plain, atol=1e-5), "all of them: the linear map"


@pytest.mark.parametrize("gamma", [0.3, 2.0])
def test_inner_products_of_fourier_features_are_the_gaussian_kernel(gamma: float) -> None:
    f = torch.randn(12, 5, generator=generator(0))
    hidden = Projection(5, 60_000, 3, "cpu", "fourier", gamma=gamma)(f)
    kernel = torch.exp(-gamma * torch.cdist(f, f).square() / 5)
    assert (hidden @ hidden.T - kernel).abs().max() < 0.03
