"""Checking a data set on disk: its layout, its counts against the published ones, and that every image is readable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from safe.data.images import FileImages, require_readable
from safe.data.loading import count_differences, read_dataset
from safe.datasets.facts import dataset_info, require_dataset
from safe.errors import UserError
from safe.io.progress import progress

_BATCH = 1024
_MAX_THREADS = 16


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        name: of the data set.
        folder: where it was looked for.
        classes, train, test: counts; 0 where it could not be read.
        digest: of what the images hold, the one that goes into every result.
        problems: layout and counts, in sentences.
        notes: of the data set, which are no problems.
        unreadable: one sentence for every image that cannot be read, with its path.
    """

    name: str
    folder: Path
    classes: int = 0
    train: int = 0
    test: int = 0
    digest: str = ""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems and not self.unreadable


def check(name: str, root: str | Path) -> Report:
    """Check a data set by name, alias or folder; reads every image with all cores, and shows how far it is.

    Args:
        name: of the data set.
        root: folder of all data sets.

    Raises:
        UserError: an unknown name; whatever is wrong with the data set itself is in the report.
    """
    info = dataset_info(name)
    folder = info.folder(root)
    try:
        require_dataset(info.name, root)
        dataset = read_dataset(info, root, image_size=224, strict=False)
    except UserError as error:
        return Report(info.name, folder, problems=(str(error),))
    paths = [path for side in (dataset.train, dataset.test) if isinstance(side, FileImages) for path in side.paths]
    unreadable = []
    with progress("checking images", len(paths)) as advance:
        for problem in _problems(paths):
            advance()
            unreadable += [problem] if problem else []
    return Report(
        info.name,
        folder,
        len(dataset.classes),
        len(dataset.train),
        len(dataset.test),
        dataset.digest,
        tuple(count_differences(info, dataset)),
        dataset.notes,
        tuple(unreadable),
    )


def _problems(paths: list[str]) -> Iterator[str]:
    """Yield for every path, in order, what is wrong with it or an empty string."""
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), _BATCH):
            yield from pool.map(_problem, paths[start : start + _BATCH])


def _problem(path: str) -> str:
    try:
        require_readable(path)
    except UserError as error:
        return str(error)
    return ""
