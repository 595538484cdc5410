"""Symmetric matrices as the block columns of their lower half: half the memory and half the arithmetic.

    | A  .  . |      columns = [ A   B   C ]
    | D  B  . |                  D   F
    | E  F  C |                  E

Column block j begins at its own diagonal block, which is whole. A matrix no wider than a block is one dense block.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 256  # columns: wide enough for fast matrix products, narrow enough that little of the upper half is held


class Symmetric:
    """A symmetric matrix (M, M).

    Args:
        columns: its column blocks, the first with all M rows; they are kept, not copied.
    """

    def __init__(self, columns: list[Tensor]) -> None:
        self.columns = columns

    @classmethod
    def zeros(cls, size: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Symmetric:
        """Return the matrix of zeros."""
        places = range(0, size, BLOCK)
        return cls([torch.zeros(size - i, min(BLOCK, size - i), device=device, dtype=dtype) for i in places])

    @classmethod
    def of(cls, dense: Tensor) -> Symmetric:
        """Return a dense symmetric matrix (M, M) as column blocks, in its dtype."""
        return cls([dense[i:, i : i + BLOCK].clone() for i in range(0, len(dense), BLOCK)])

    @classmethod
    def gram(cls, rows: Tensor) -> Symmetric:
        """Return H^T H of rows H (n, M), in their dtype."""
        gram = cls.zeros(rows.shape[1], rows.device, rows.dtype)
        gram.add_gram(rows)
        return gram

    @property
    def device(self) -> torch.device:
        """Where the matrix lies."""
        return self.columns[0].device

    @property
    def dtype(self) -> torch.dtype:
        """The type of its elements."""
        return self.columns[0].dtype

    def blocks(self) -> Iterator[tuple[int, int, Tensor]]:
        """Yield every column block with the place of its first column and of the first one after it."""
        start = 0
        for column in self.columns:
            yield start, (stop := start + column.shape[1]), column
            start = stop

    def dense(self) -> Tensor:
        """Return the whole matrix (M, M)."""
        whole = self.columns[0].new_empty(2 * [len(self.columns[0])])
        for start, stop, column in self.blocks():
            whole[start:, start:stop] = column
            whole[start:stop, start:] = column.T
        return whole

    def add_gram(self, rows: Tensor) -> None:
        """Add H^T H of rows H (n, M) in place."""
        for start, stop, column in self.blocks():
            column.addmm_(rows[:, start:].T, rows[:, start:stop])

    def add(self, other: Symmetric) -> None:
        """Add a matrix of the same blocks in place."""
        for mine, theirs in zip(self.columns, other.columns, strict=True):
            mine.add_(theirs)

    def norm(self) -> float:
        """Return the Frobenius norm, which no eigenvalue exceeds."""
        squares = [2 * column.norm() ** 2 - column[: stop - start].norm() ** 2 for start, stop, column in self.blocks()]
        return float(torch.stack(squares).sum().sqrt())

    def times64(self, right: Tensor) -> Tensor:
        """Return the product with `right` (M, C), float64, without a float64 copy of the matrix."""
        product = torch.zeros_like(right)
        for start, stop, column in self.blocks():
            wide = column.to(torch.float64)
            product[start:].addmm_(wide, right[start:stop])
            product[start:stop].addmm_(wide[stop - start :].T, right[stop:])
        return product

    def to(self, dtype: torch.dtype) -> Symmetric:
        """Return a copy in another type."""
        return Symmetric([column.to(dtype, copy=True) for column in self.columns])


class Cholesky:
    """The factor L of A + ridge I = L L^T, block column by block column in the place of A.

    Args:
        matrix: A, positive semi-definite; it is overwritten.
        ridge: above 0.

    Raises:
        torch.linalg.LinAlgError: the matrix is not positive definite in its precision, as with NaN in it.
    """

    def __init__(self, matrix: Symmetric, ridge: float) -> None:
        self._blocks = list(matrix.blocks())
        for place, (start, stop, column) in enumerate(self._blocks):
            width = stop - start
            column[:width].diagonal().add_(ridge)
            for before, _, done in self._blocks[:place]:
                rows = done[start - before :]
                column.addmm_(rows, rows[:width].T, alpha=-1)
            corner = torch.linalg.cholesky(column[:width])
            column[:width] = corner
            below = column[width:]
            torch.linalg.solve_triangular(corner.T, below, upper=True, left=False, out=below)

    def solve(self, right: Tensor) -> Tensor:
        """Return (A + ridge I)^-1 right, (M, C)."""
        solution = right.clone()
        for start, stop, column in self._blocks:
            mine = torch.linalg.solve_triangular(column[: stop - start], solution[start:stop], upper=False)
            solution[start:stop] = mine
            solution[stop:].addmm_(column[stop - start :], mine, alpha=-1)
        for start, stop, column in reversed(self._blocks):
            below = solution[start:stop].addmm_(column[stop - start :].T, solution[stop:], alpha=-1)
            solution[start:stop] = torch.linalg.solve_triangular(column[: stop - start].T, below, upper=True)
        return solution
