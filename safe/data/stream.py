"""A data set as a stream of sessions: which images are trained on and judged in each.

Classes are renumbered in order of arrival, so the classes seen after a session are always 0 .. n - 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

import torch
from torch import Tensor

from safe.data.images import FileImages
from safe.data.sources import Dataset, Images
from safe.data.split import holdout
from safe.errors import UserError


@dataclass(frozen=True)
class Subset:
    """Images of one session: `index` into `images`, `labels` in order of arrival; both int64, shape (n,)."""

    images: Images
    index: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def read(self, positions: Tensor) -> Tensor:
        """Return the images at `positions` (int64, within [0, n)) as uint8 (B, 3, H, W), for the plain view."""
        return self.images.read(self.index[positions])

    @property
    def from_files(self) -> bool:
        """Whether reading the images takes time, so that it is worth beginning early."""
        return isinstance(self.images, FileImages)

    def whole(self, positions: Tensor) -> Tensor | Sequence[Callable[[], Tensor]]:
        """Return the images at `positions` without a cut, for random crops; see `Images.whole`."""
        return self.images.whole(self.index[positions])

    def where(self, chosen: Tensor) -> Subset:
        """Return the images whose entry in `chosen` (bool, shape (n,)) is true."""
        return Subset(self.images, self.index[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Session:
    """One session: what it brings, what it trains on and what judges it.

    Attributes:
        index: from 1.
        classes: the classes that are new in this session, in order of arrival; empty in the later sessions of a
            domain-incremental stream, which bring no class.
        domain: the domain of every image; empty in a class-incremental stream.
    """

    index: int
    classes: range
    train: Subset
    evaluation: Subset
    domain: str = ""

    @property
    def known(self) -> int:
        """Classes that had rows before the session: those which virtual samples stand for."""
        return self.classes.start

    @property
    def seen(self) -> int:
        """Classes that have rows after the session."""
        return self.classes.stop

    @property
    def own(self) -> range:
        """The classes that its images show: those that it brings or, in a later domain, all."""
        return self.classes or range(self.seen)


@dataclass(frozen=True)
class Stream:
    """The sessions of a run; `order[i]` is the data set's class that arrives as number i."""

    sessions: tuple[Session, ...]
    order: tuple[int, ...]
    split: Literal["val", "test"]

    def __len__(self) -> int:
        return len(self.sessions)

    @property
    def domain_incremental(self) -> bool:
        """Whether sessions are domains of the same classes."""
        return bool(self.sessions[0].domain)

    def judged(self, session: int) -> tuple[Session, ...]:
        """Return the sessions whose images are judged after `session` (from 1): those so far, or every domain.

        In a domain-incremental stream every class is known in every domain, so those still to come are judged too.
        """
        return self.sessions if self.domain_incremental else self.sessions[:session]


def class_incremental(
    dataset: Dataset,
    *,
    sizes: Sequence[int],
    order: Sequence[int],
    evaluate_on: str,
    holdout_share: float,
    holdout_seed: int,
) -> Stream:
    """Cut a data set into sessions of disjoint classes.

    Args:
        dataset: training and test images.
        sizes: classes that each session brings; they come to the number of all.
        order: in which the data set's classes arrive, each of them once.
        evaluate_on: `test`, or `holdout` for the held-out training images; test images are then never read.
        holdout_share: share of each class's training images that is not trained on.
        holdout_seed: of that choice.

    Raises:
        UserError: a class has no training or no judging images.
    """
    parts = holdout(dataset.train.labels, holdout_share, holdout_seed)
    train, judged = _sides(dataset, order, evaluate_on, *parts)
    for side, what in ((train, "training"), (judged, "evaluation")):
        _refuse_empty(dataset, [dataset.classes[c] for c in order], side.labels, "classes", what)

    ends = accumulate(sizes, initial=0)
    sessions = []
    for number, (start, stop) in enumerate(pairwise(ends), start=1):
        trained, judging = (side.where((side.labels >= start) & (side.labels < stop)) for side in (train, judged))
        sessions.append(Session(number, range(start, stop), trained, judging))
    return Stream(tuple(sessions), tuple(order), "val" if evaluate_on == "holdout" else "test")


def domain_incremental(
    dataset: Dataset, *, order: Sequence[int], evaluate_on: str, holdout_share: float, holdout_seed: int
) -> Stream:
    """Cut a data set into one session per domain, each with every class.

    The holdout is drawn from each class of each domain; a class with one image in a domain trains on it there.
    Arguments as in `class_incremental`.

    Raises:
        UserError: a data set without domains, a class without training images in any domain, or a domain without
            training or judging images.
    """
    domains = dataset.domains
    if domains is None:
        raise UserError(f"{dataset.name} has no domains, so its sessions can only be classes")
    cells = domains.train * len(order) + dataset.train.labels
    train, judged = _sides(dataset, order, evaluate_on, *holdout(cells, holdout_share, holdout_seed, keep_lone=True))
    train_domain = domains.train[train.index]
    judged_domain = (domains.train if evaluate_on == "holdout" else domains.test)[judged.index]
    _refuse_empty(dataset, [dataset.classes[c] for c in order], train.labels, "classes", "training")
    _refuse_empty(dataset, domains.names, train_domain, "domains", "training")
    _refuse_empty(dataset, domains.names, judged_domain, "domains", "evaluation")

    sessions = tuple(
        Session(
            number + 1,
            range(len(order)) if number == 0 else range(len(order), len(order)),
            train.where(train_domain == number),
            judged.where(judged_domain == number),
            name,
        )
        for number, name in enumerate(domains.names)
    )
    return Stream(sessions, tuple(order), "val" if evaluate_on == "holdout" else "test")


def _sides(
    dataset: Dataset, order: Sequence[int], evaluate_on: str, kept: Tensor, held: Tensor
) -> tuple[Subset, Subset]:
    """Return all images that are trained on and all that judge; test images are not looked at under holdout."""
    arrival = torch.empty(len(order), dtype=torch.int64)
    arrival[torch.tensor(order)] = torch.arange(len(order))
    train = Subset(dataset.train, kept, arrival[dataset.train.labels[kept]])
    if evaluate_on == "holdout":
        return train, Subset(dataset.train, held, arrival[dataset.train.labels[held]])
    return train, Subset(dataset.test, torch.arange(len(dataset.test)), arrival[dataset.test.labels])


def _refuse_empty(dataset: Dataset, names: Sequence[str], group: Tensor, kind: str, what: str) -> None:
    """Refuse a group (0 .. len(names) - 1) that no image belongs to."""
    empty = sorted(set(range(len(names))) - set(group.unique().tolist()))
    if empty:
        shown = ", ".join(names[i] for i in empty[:5])
        raise UserError(f"{len(empty)} {kind} of {dataset.name} have no {what} image: {shown}")
