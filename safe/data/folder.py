"""Folder data sets: `<root>/{train,test}/<class folder>/<image>`.

A class's index is its folder's position in the sorted names, torchvision's ImageFolder rule. Images in subfolders of a
class folder belong to it; hidden files and folders and other files are passed over.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch

from safe.data.contents import Contents
from safe.data.images import FileImages
from safe.data.listing import IMAGE_SUFFIXES, class_folders, image_files, lying_flat, passed_over
from safe.data.sources import Dataset
from safe.errors import UserError, shown


def load_folder(name: str, root: Path, size: int, contents: Contents | None = None) -> Dataset:
    """Return the data set in `root`; its digest is of the classes and of what their images hold, in order.

    Args:
        name: what the data set is called.
        root: holds `train` and `test`.
        size: side in pixels of what the network sees; for the plain view images are kept a little larger.
        contents: what is known of the files already.

    Raises:
        UserError: no classes, classes that differ between train and test, a class folder without images, a folder that
            cannot be listed, or files that cannot be read.
    """
    try:
        classes = {split: class_folders(root / split) for split in ("train", "test")}
        if not classes["train"] or classes["train"] != classes["test"]:
            only = [shown(name) for name in sorted(set(classes["train"]) ^ set(classes["test"]))[:5]]
            raise UserError(
                f"{root}: train has {len(classes['train'])} class folders, test has {len(classes['test'])}; "
                f"they must be the same{', but differ in ' + ', '.join(only) if only else ' and at least one'}"
            )
        others: Counter[str] = Counter()
        sets = {split: _images(root, split, names, size, others) for split, names in classes.items()}
    except OSError as error:
        raise UserError(f"cannot list the data set {name!r}: {error}") from None
    told = passed_over(others)
    notes = (f"{root}: {told}; images are {', '.join(IMAGE_SUFFIXES)}",) if told else ()
    paths = [path for images in sets.values() for path in images.paths]
    places = ((split, classes[split][label]) for split, images in sets.items() for label in images.labels.tolist())
    digest = (contents or Contents()).digest(paths, places)
    return Dataset(name, tuple(classes["train"]), sets["train"], sets["test"], digest, notes=notes)


def _images(root: Path, split: str, classes: list[str], size: int, others: Counter[str]) -> FileImages:
    """Return the images of a split; what is passed over is added to `others`."""
    paths: list[str] = []
    labels: list[int] = []
    empty: list[str] = []
    for label, name in enumerate(classes):
        files, passed = image_files(root / split / name)
        others.update(passed)
        if not files:
            empty.append(name)
        paths += files
        labels += [label] * len(files)
    if empty:
        told = passed_over(others)
        raise UserError(
            f"{len(empty)} class folders under {root / split} hold no image ({', '.join(IMAGE_SUFFIXES)}): "
            f"{', '.join(map(shown, empty[:5]))}{told and f'; {told}'}"
        )
    flat, passed = lying_flat(root / split)
    others.update(passed + Counter({"image in no class folder": flat}))
    return FileImages(tuple(paths), torch.tensor(labels, dtype=torch.int64), size)
