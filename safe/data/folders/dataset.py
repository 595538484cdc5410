"""Folder data sets: `<root>/{train,test}/<class folder>/<image>`, where `val` stands for a `test` that is not there.

A class's index is its folder's position in the sorted names, torchvision's ImageFolder rule. Images in subfolders of a
class folder belong to it; hidden files and folders and other files are passed over.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from safe.backbones.resize import UNSTATED, Resize
from safe.data.folders.contents import Contents, digest_of, trained_on_too
from safe.data.images import FileImages
from safe.data.sources import Dataset
from safe.datasets.layout import require_classes, test_folder
from safe.datasets.listing import IMAGE_SUFFIXES, class_folders, image_files, lying_flat, passed_over
from safe.errors import UserError, shown


@dataclass(frozen=True)
class Listed:
    """What a folder data set holds: its classes, their files for train and for test, and sentences about it."""

    classes: tuple[str, ...]
    files: dict[str, list[list[str]]]
    notes: tuple[str, ...]


def load_folder(
    name: str, root: Path, size: int, contents: Contents | None = None, resize: Resize = UNSTATED
) -> Dataset:
    """Return the data set in `root`; its digest is of the classes and of what their images hold, in order.

    Args:
        name: what the data set is called.
        root: holds `train` and `test`.
        size: side in pixels of what the network sees.
        contents: what is known of the files already.
        resize: how images are resized for the plain view.

    Raises:
        UserError: as `list_folder`, or files that cannot be read.
    """
    there = list_folder(name, root)
    paths: list[str] = []
    places: list[tuple[str, str]] = []
    sets = {}
    for split, classes in there.files.items():
        labels = [label for label, files in enumerate(classes) for _ in files]
        sets[split] = FileImages(
            tuple(path for files in classes for path in files), torch.tensor(labels, dtype=torch.int64), size, resize
        )
        paths += sets[split].paths
        places += [(split, there.classes[label]) for label in labels]
    hashes = (contents or Contents()).hashes(paths)
    twice = trained_on_too(root, paths, hashes, len(sets["train"]))
    notes = (*there.notes, twice) if twice else there.notes
    return Dataset(name, there.classes, sets["train"], sets["test"], digest_of(hashes, places), notes=notes)


def list_folder(name: str, root: Path) -> Listed:
    """Return what a folder data set holds; reads no file.

    Raises:
        UserError: no classes, classes that differ between train and test, a class folder without images, or a folder
            that cannot be listed.
    """
    others: Counter[str] = Counter()
    try:
        require_classes(root)
        classes = tuple(class_folders(root / "train"))
        folders = {"train": "train", "test": test_folder(root)}
        files = {split: _files(root / folder, classes, others) for split, folder in folders.items()}
    except OSError as error:
        raise UserError(f"cannot list the data set {name!r}: {error}") from None
    told = passed_over(others)
    notes = (f"{root}: {told}; images are {', '.join(IMAGE_SUFFIXES)}",) if told else ()
    return Listed(classes, files, notes)


def _files(folder: Path, classes: tuple[str, ...], others: Counter[str]) -> list[list[str]]:
    """Return the images of a split by class; what is passed over is added to `others`."""
    by_class = []
    for name in classes:
        files, passed = image_files(folder / name)
        others.update(passed)
        by_class.append(files)
    if empty := [name for name, files in zip(classes, by_class, strict=True) if not files]:
        told = passed_over(others)
        raise UserError(
            f"{len(empty)} class folders under {folder} hold no image ({', '.join(IMAGE_SUFFIXES)}): "
            f"{', '.join(map(shown, empty[:5]))}{told and f'; {told}'}"
        )
    flat, passed = lying_flat(folder)
    others.update(passed + Counter({"image in no class folder": flat}))
    return by_class
