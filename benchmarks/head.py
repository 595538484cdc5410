"""Suite `head`: the closed-form head of one session, against six LU solves of the M x M system for the ridge."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from safe.heads.projection import Projection
from safe.heads.ridge import RidgeHead, choose_ridge, one_hot
from safe.seeding import generator

GRID = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
WIDTH, DIM, CLASSES, SPLIT = 192, 4000, 20, 0.8
FEW, MANY = 1000, 5000  # images of a session, below and above M


def items() -> list[dict[str, Any]]:
    """Prove that both ways choose the same ridge and give the same readout; return them to be timed."""
    return [item for images in (FEW, MANY) for item in _items(images)]


def _items(images: int) -> list[dict[str, Any]]:
    # Classes at different places, so that the ridge is a choice and not a tie.
    labels = torch.arange(images) % CLASSES
    centres = torch.randn(CLASSES, WIDTH, generator=generator(0, "centres"))
    features = centres[labels] + 3 * torch.randn(images, WIDTH, generator=generator(1, "noise"))
    head = RidgeHead(Projection(WIDTH, DIM, 0), GRID, SPLIT)
    hidden, targets = head.projection(features), one_hot(labels, CLASSES)
    order = torch.randperm(images, generator=generator(2, "split"))
    fit, judge = order.split([cut := int(SPLIT * images), images - cut])

    def ours() -> tuple[float, Tensor]:
        fresh = RidgeHead(head.projection, GRID, SPLIT)
        fresh.update(features, labels, CLASSES, generator(2, "split"))
        return fresh.ridge, fresh.weight

    w_rand = torch.randn(WIDTH, DIM, generator=generator(3, "w_rand"))

    def plain(project: Callable[[Tensor], Tensor] = lambda x: (x @ w_rand).relu()) -> tuple[float, Tensor]:
        h = project(features)
        ridge = plain_choice(h[fit], targets[fit], h[judge], targets[judge])
        return ridge, torch.linalg.solve(h.T @ h + ridge * torch.eye(DIM), h.T @ targets)

    (ridge, weight), (plain_ridge, plain_weight) = ours(), plain(head.projection)
    if ridge != plain_ridge or not torch.allclose(weight, plain_weight, atol=1e-3 * float(weight.abs().max())):
        raise AssertionError(f"the two heads differ: lambda {ridge:g} and {plain_ridge:g}")
    parts = (hidden[fit], targets[fit], hidden[judge], targets[judge])
    return [
        {
            "name": f"choice of the ridge, n = {images}, M = {DIM}",
            "plain": partial(plain_choice, *parts),
            "ours": partial(choose_ridge, *parts, GRID),
        },
        {"name": f"whole head, n = {images}, M = {DIM}", "plain": plain, "ours": ours},
    ]


def plain_choice(h_fit: Tensor, y_fit: Tensor, h_judge: Tensor, y_judge: Tensor) -> float:
    """Return the ridge of `GRID` by an LU solve of the M x M system for each, as the released code does."""
    gram, cross = h_fit.T @ h_fit, h_fit.T @ y_fit
    errors = []
    for ridge in GRID:
        weight = torch.linalg.solve(gram + ridge * torch.eye(len(gram), device=gram.device), cross)
        errors.append(F.mse_loss(h_judge @ weight, y_judge).item())
    return GRID[errors.index(min(errors))]
