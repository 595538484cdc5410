"""Generalised cross-validation beside its own formula, and beside leaving out one image after another."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from safe.heads.gcv import gcv_errors
from safe.heads.projection import Projection
from safe.heads.ridge import RidgeHead, one_hot
from safe.seeding import generator

GRID = [10.0**power for power in range(-3, 5)]


def problem(rows: int, columns: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = generator(seed, "gcv")
    hidden = torch.randn(rows, columns, generator=draw)
    return hidden, one_hot((hidden[:, :3] + torch.randn(rows, 3, generator=draw)).argmax(dim=1), 3)


@pytest.mark.parametrize(("rows", "columns"), [(30, 12), (12, 30), (20, 20)])
def test_both_forms_are_the_formula(rows: int, columns: int) -> None:
    hidden, targets = problem(rows, columns)
    h, y = hidden.double().numpy(), targets.double().numpy()
    expected = []
    for ridge in GRID:
        left = np.eye(rows) - h @ np.linalg.solve(h.T @ h + ridge * np.eye(columns), h.T)
        expected.append(rows * np.sum((left @ y) ** 2) / np.trace(left) ** 2)
    assert gcv_errors(hidden, targets, GRID).numpy() == pytest.approx(np.array(expected), rel=1e-6)


def test_it_chooses_what_leaving_one_out_chooses() -> None:
    hidden, targets = problem(60, 20)
    h, y = hidden.double().numpy(), targets.double().numpy()
    left_out = []
    for ridge in GRID:
        hat = h @ np.linalg.solve(h.T @ h + ridge * np.eye(20), h.T)
        left_out.append(np.sum(((y - hat @ y) / (1 - np.diag(hat))[:, None]) ** 2))
    assert int(gcv_errors(hidden, targets, GRID).argmin()) == np.argmin(left_out)


def test_a_head_takes_the_best_of_the_grid_by_the_session_alone() -> None:
    head = RidgeHead(Projection(20, 0, 0), GRID, 0.8, "gcv")
    for seed, rows in ((1, 60), (2, 15)):
        hidden, targets = problem(rows, 20, seed)
        head.update(hidden, targets.argmax(dim=1), 3, generator(seed))
        assert head.ridge == GRID[int(gcv_errors(hidden, targets, GRID).argmin())]
    assert gcv_errors(hidden[:0], targets[:0], GRID).tolist() == [0.0] * len(GRID)
