"""How many sessions a stream has and how many images, before any image is read."""

from __future__ import annotations

from pathlib import Path

from safe.config import Config
from safe.data.folders.dataset import list_folder
from safe.data.loading import class_count, load_dataset
from safe.data.split import session_sizes
from safe.datasets.facts import DOMAINS, require_dataset


def session_count(config: Config) -> int:
    """Return the number of sessions of a configuration's stream.

    Raises:
        UserError: the data set is not there, or the first session asks for more classes than it has.
    """
    data = config.data
    if require_dataset(config.dataset, data.root).kind == "domains" and data.scenario == "auto":
        return len(DOMAINS)
    return len(session_sizes(class_count(config.dataset, data.root), data.init_classes, data.increment))


def image_counts(name: str, root: str | Path) -> tuple[int, int]:
    """Return how many training and test images a data set has: the published numbers, or those that are there.

    Raises:
        UserError: the data set is not there, or its folder is none.
    """
    info = require_dataset(name, root)
    if info.train_images is not None and info.test_images is not None:
        return info.train_images, info.test_images
    if info.embedded:  # one that a user registered, of which nothing is published
        dataset = load_dataset(name, root, image_size=224)
        return len(dataset.train), len(dataset.test)
    files = list_folder(info.name, info.folder(root)).files
    train, test = (sum(map(len, files[split])) for split in ("train", "test"))
    return train, test
