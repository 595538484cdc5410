"""Exact partitions of a data set: class order, sessions of classes, holdout of images.

All are functions of labels and seeds; the global random state plays no part.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from safe.errors import UserError
from safe.seeding import derive_seed


def class_order(classes: int, seed: int | None) -> list[int]:
    """Return the order in which classes arrive; `None` is the natural one.

    A seed gives `numpy.random.RandomState(seed).permutation(classes)`, the legacy generator of the published orders.
    """
    return list(range(classes)) if seed is None else np.random.RandomState(seed).permutation(classes).tolist()


def session_sizes(classes: int, init: int, increment: int) -> list[int]:
    """Return how many classes each session brings: `init`, then `increment` each, the last one perhaps fewer.

    Raises:
        UserError: `init` exceeds the number of classes.
    """
    if init > classes:
        raise UserError(f"data.init_classes must be at most the {classes} classes of the data set, got {init}")
    sizes = [init]
    while (left := classes - sum(sizes)) > 0:
        sizes.append(min(increment, left))
    return sizes


def held_count(count: int, share: float) -> int:
    """Return how many of a class's images are held out: round(share * count), at least one, at most all but one."""
    return min(max(1, math.floor(share * count + 0.5)), count - 1)


def holdout(labels: Tensor, share: float, seed: int, *, keep_lone: bool = False) -> tuple[Tensor, Tensor]:
    """Split indices per class into (kept, held out), both sorted; together they are every index exactly once.

    Of a class with n images, round(share * n) are held out, but at least one and at most n - 1, so that
    every class can be judged and trained. The choice of a class depends on its own images only.

    Args:
        labels: int64, shape (N,).
        share: in [0, 1); 0 holds nothing out.
        seed: of the choice.
        keep_lone: train on the image of a class that has a single one, instead of refusing.

    Raises:
        UserError: a class has a single image, which cannot be both trained on and held out.
    """
    everything = torch.arange(len(labels))
    if share == 0:
        return everything, everything[:0]
    held: list[Tensor] = []
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().squeeze(1)
        if len(members) < 2:
            if keep_lone:
                continue
            raise UserError(f"class {label} has one training image, so none can be held out; use selection=test")
        count = held_count(len(members), share)
        permutation = np.random.RandomState(derive_seed(seed, "holdout", label) % 2**32).permutation(len(members))
        held.append(members[torch.from_numpy(permutation[:count])])
    out = torch.cat([everything[:0], *held]).sort().values
    mask = torch.ones(len(labels), dtype=torch.bool)
    mask[out] = False
    return everything[mask], out
