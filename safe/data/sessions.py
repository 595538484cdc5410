"""How many sessions a stream has and how many images, before any image is read."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

from safe.config import Config
from safe.config.settings import DataConfig
from safe.config.values import ORDERS
from safe.data.folders.dataset import list_folder
from safe.data.loading import class_count, class_names, load_dataset
from safe.data.split import class_order, session_sizes
from safe.datasets.facts import DOMAIN_IMAGES, dataset_info, require_dataset
from safe.errors import UserError


class SessionImages(NamedTuple):
    """Images that a session brings, and classes known after it.

    Attributes:
        train: images that it trains on.
        judged: images that judge it and every later session.
        classes: seen so far.
    """

    train: int
    judged: int
    classes: int


def sizes_of(data: DataConfig, classes: int) -> list[int]:
    """Return how many of `classes` classes each session brings; see `session_sizes`."""
    return session_sizes(classes, data.init_classes, data.increment, data.sessions)


def session_count(config: Config) -> int:
    """Return the number of sessions of a configuration's stream, where numbers are published without any file.

    Raises:
        UserError: the data set is not there, or sessions ask for other classes than it has.
    """
    if in_domains(config):
        return len(DOMAIN_IMAGES)
    return len(sizes_of(config.data, class_count(config.dataset, config.data.root)))


def in_domains(config: Config) -> bool:
    """Whether the sessions are a data set's domains; `UserError` if sizes of sessions are given all the same."""
    if dataset_info(config.dataset).kind != "domains" or config.data.scenario == "class":
        return False
    refuse_sizes(config)
    return True


def refuse_sizes(config: Config) -> None:
    """Refuse sizes of sessions, which are a data set's domains."""
    if config.data.sessions is not None:
        raise UserError(
            f"the sessions of {config.dataset} are its domains, which data.sessions cannot cut; set "
            "data.scenario=class for sessions of classes"
        )


def require_sessions(config: Config) -> None:
    """Refuse an order or numbers of classes that are not those of the data set, which has to be there.

    Raises:
        UserError: see `safe.data.split`.
    """
    name, data = config.dataset, config.data
    if not in_domains(config):
        sizes_of(data, class_count(name, data.root))
    if data.class_order not in ORDERS:
        class_order(class_names(name, data.root), data.class_order, config.class_order_seed)


def expected_sessions(config: Config) -> list[SessionImages]:
    """Return the sessions of a configuration's stream before any image is read; classes are taken to be equal.

    Raises:
        UserError: as `session_count` and `image_counts`.
    """
    data = config.data
    classes = class_count(config.dataset, data.root)
    if in_domains(config):
        parts = [(train, test, classes) for train, test in DOMAIN_IMAGES]
    else:
        train, test = image_counts(config.dataset, data.root)
        known = [0, *itertools.accumulate(sizes_of(data, classes))]
        parts = [
            (_between(train, before, now, classes), _between(test, before, now, classes), now)
            for before, now in itertools.pairwise(known)
        ]
    sessions = []
    for train, test, classes in parts:
        held = round(train * data.holdout_share)
        sessions.append(SessionImages(train - held, held if data.evaluate_on == "holdout" else test, classes))
    return sessions


def _between(count: int, before: int, now: int, classes: int) -> int:
    """Return the images of the classes from `before` to `now`, of `count` images of `classes` equal classes."""
    return round(count * now / classes) - round(count * before / classes)


def image_counts(name: str, root: str | Path) -> tuple[int, int]:
    """Return how many training and test images a data set has: the published numbers, or those that are there.

    Raises:
        UserError: no numbers are published and the data set is not there, or its folder is none.
    """
    info = dataset_info(name)
    if info.train_images is not None and info.test_images is not None:
        return info.train_images, info.test_images
    info = require_dataset(name, root)
    if info.embedded:  # one that a user registered, of which nothing is published
        dataset = load_dataset(name, root, image_size=224)
        return len(dataset.train), len(dataset.test)
    files = list_folder(info.name, info.folder(root)).files
    train, test = (sum(map(len, files[split])) for split in ("train", "test"))
    return train, test
