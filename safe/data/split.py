"""Exact partitions of a data set: class order, sessions of classes, holdout of images.

All are functions of labels and seeds; the global random state plays no part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from safe.errors import UserError, nearest
from safe.seeding import derive_seed

_MOST_TOLD = 5


def class_order(names: Sequence[str], order: str | Sequence[str], seed: int) -> list[int]:
    """Return the order in which classes arrive, as their numbers in `names`.

    Args:
        names: of the data set's classes, in its own order.
        order: `natural` is that; `seeded` is `numpy.random.RandomState(seed).permutation(len(names))`, the legacy
            generator of the published orders; a list gives the names themselves.
        seed: of the seeded order.

    Raises:
        UserError: a list is not every class once.
    """
    if order == "natural":
        return list(range(len(names)))
    if order == "seeded":
        return np.random.RandomState(seed).permutation(len(names)).tolist()
    number = {name: index for index, name in enumerate(names)}
    told = [f"there is no class {name!r}.{nearest(name, names)}" for name in order if name not in number]
    told += [f"the class {name!r} is not in it" for name in names if name not in order] if not told else []
    if told or len(order) != len(names):
        more = [f"and {len(told) - _MOST_TOLD} more like this"] if len(told) > _MOST_TOLD else []
        lines = "".join(f"\n  - {line}" for line in (*told[:_MOST_TOLD], *more))
        raise UserError(
            f"data.class_order must hold each of the {len(names)} classes once, and holds {len(order)} names:{lines}"
        )
    return [number[name] for name in order]


def session_sizes(classes: int, init: int, increment: int, sessions: Sequence[int] | None = None) -> list[int]:
    """Return how many classes each session brings: `sessions`, else `init`, then `increment` each, the last one fewer.

    Raises:
        UserError: `init` exceeds the number of classes, or `sessions` do not come to it.
    """
    if sessions is not None:
        if sum(sessions) != classes:
            raise UserError(
                f"data.sessions={list(sessions)} come to {sum(sessions)} classes, and the data set has {classes}"
            )
        return list(sessions)
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

    round(share * n) images of a class with n are held out, but at least one and at most n - 1, so that
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
