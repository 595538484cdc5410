"""How fast this machine is with a configuration: one tiny epoch and one closing step, timed on real images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from safe.backbones.loading import load_backbone
from safe.backbones.network_input import network_input
from safe.config import Config, validate
from safe.data.loading import load_dataset
from safe.data.sessions import sizes_of
from safe.data.sources import Dataset, Domains, Images
from safe.training.build import build_stream
from safe.training.trainer import SafeTrainer
from safe.types import Working
from sweeps.studies.forecast import SessionSeconds

BATCHES = 4  # of training images, in the timed epoch


@dataclass(frozen=True)
class Speed:
    """Seconds per image of an epoch and of reading features, seconds of one learner's head, and images by session."""

    train: float
    read: float
    head: float
    images: tuple[int, ...]
    judged: tuple[int, ...]

    def session_seconds(self, config: Config) -> Sequence[SessionSeconds]:
        """Return the seconds of each session of a run."""
        seconds, apart = [], config.fast.epochs > 0
        for session, (images, new) in enumerate(zip(self.images, self.judged, strict=True)):
            epochs = (config.slow if session == 0 else config.fast).epochs
            # The frozen slow learner reads new images only, the fast one all that judge it.
            slow = (images + new) * self.read + self.head
            fast = (images + sum(self.judged[: session + 1])) * self.read + self.head if session and apart else 0.0
            seconds.append(SessionSeconds(epochs * images * self.train, slow, fast))
        return seconds


def probe(flat: dict[str, Any], tell: Callable[[Working], None] | None = None) -> Speed:
    """Return the speed of a run with this configuration; takes a few seconds and leaves nothing behind.

    `tell` is told about once a second how far the batches are.
    """
    config = validate(flat)
    short = validate({**flat, "slow.epochs": 2, "slow.schedule_epochs": None})
    chosen, root = config.backbone, config.data.root
    vit = load_backbone(chosen.name, chosen.weights, image_size=chosen.image_size, folder=root)
    seen = network_input(vit, chosen.image_size, chosen.input_norm, chosen.crop_pct)
    dataset = load_dataset(config.dataset, root, seen.size, seen.resize)
    stream = build_stream(config, dataset)
    trainer = SafeTrainer(short, dataset=_part(dataset, config), backbone=vit)
    trainer.watch.tell = tell
    trainer.advance()  # the first epoch also warms up
    timed = trainer.run_session().seconds
    first = trainer.stream.sessions[0]
    return Speed(
        # Both epochs are in it; the warm-up makes it a little pessimistic.
        train=timed["train"] / 2 / len(first.train),
        read=(timed["features"] + timed["evaluate"]) / (len(first.train) + len(first.evaluation)),
        head=timed["head"],
        images=tuple(len(session.train) for session in stream.sessions),
        judged=tuple(len(session.evaluation) for session in stream.sessions),
    )


class _Part:
    """Some images of a list."""

    def __init__(self, images: Images, index: Tensor) -> None:
        self._images, self._index = images, index
        self.labels = images.labels[index]

    def __len__(self) -> int:
        return len(self._index)

    def read(self, index: Tensor) -> Tensor:
        return self._images.read(self._index[index])

    def whole(self, index: Tensor) -> Tensor | Sequence[Callable[[], Tensor]]:
        return self._images.whole(self._index[index])


def _part(dataset: Dataset, config: Config) -> Dataset:
    """Return a data set with the first few images of every class, so that session 1 has a few batches."""
    classes = len(dataset.classes)
    of_session = classes if dataset.domains else sizes_of(config.data, classes)[0]
    each = max(2, -(-BATCHES * config.slow.batch_size // of_session))
    train, test = (_first(images, each) for images in (dataset.train, dataset.test))
    domains = dataset.domains
    if domains is not None:
        domains = Domains(domains.names, domains.train[train], domains.test[test])
    return replace(dataset, train=_Part(dataset.train, train), test=_Part(dataset.test, test), domains=domains)


def _first(images: Images, each: int) -> Tensor:
    return torch.cat([(images.labels == label).nonzero().squeeze(1)[:each] for label in images.labels.unique()])
