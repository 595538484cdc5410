"""Symmetric matrices in blocks of their lower half, against dense float64 ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from safe.heads.symmetric import BLOCK, Cholesky, Symmetric
from safe.seeding import generator

SIZES = (1, 7, BLOCK, BLOCK + 1, 2 * BLOCK + 30)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "normal"))


def gram(size: int) -> Tensor:
    rows = normal(size + 5, size).double()
    return rows.T @ rows


@pytest.mark.parametrize("size", SIZES)
def test_dense_and_back(size: int) -> None:
    dense = gram(size)
    dense = (dense + dense.T) / 2  # a product of matrices is symmetric up to rounding only
    assert torch.equal(Symmetric.of(dense).dense(), dense)
    assert torch.equal(Symmetric.zeros(size).dense(), torch.zeros(size, size))


@pytest.mark.parametrize("size", SIZES)
def test_a_gram_matrix_and_sums(size: int) -> None:
    rows, more = normal(40, size), normal(3, size, seed=1)
    gram = Symmetric.gram(rows)
    gram.add_gram(more)
    gram.add(Symmetric.gram(more))
    expected = rows.double().T @ rows.double() + 2 * more.double().T @ more.double()
    assert (gram.dense().double() - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert gram.norm() == pytest.approx(expected.norm().item(), rel=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_products_and_solutions(size: int) -> None:
    dense, right = gram(size), normal(size, 3, seed=2).double()
    matrix = Symmetric.of(dense)
    assert torch.allclose(matrix.times64(right), dense @ right, rtol=1e-12, atol=1e-9)
    expected = torch.linalg.solve(dense + 3.0 * torch.eye(size), right)
    assert torch.allclose(Cholesky(matrix, 3.0).solve(right), expected, rtol=1e-9, atol=1e-12)


def test_half_of_the_matrix_is_held() -> None:
    size = 8 * BLOCK
    held = sum(column.numel() for column in Symmetric.zeros(size).columns)
    assert held == size * (size + BLOCK) // 2


def test_a_copy_is_independent() -> None:
    matrix = Symmetric.of(gram(5))
    copied = matrix.to(torch.float64)
    copied.columns[0].zero_()
    assert torch.equal(matrix.dense(), Symmetric.of(gram(5)).dense())


@pytest.mark.parametrize("value", [math.nan, -1e9])
def test_what_is_not_positive_definite_is_refused(value: float) -> None:
    dense = gram(BLOCK + 9)
    dense[-1, -1] = value
    with pytest.raises(torch.linalg.LinAlgError):
        Cholesky(Symmetric.of(dense), 1.0)
