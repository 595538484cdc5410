"""Folder data sets: `<root>/{train,test}/<class folder>/<image>`.

A class's index is its folder's position in the sorted names, torchvision's ImageFolder rule. Images in subfolders of a
class folder belong to it; hidden files and folders and other files are passed over.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch

from safe.data.images import IMAGE_SUFFIXES, FileImages
from safe.data.sources import Dataset
from safe.errors import UserError, shown


def load_folder(name: str, root: Path, size: int) -> Dataset:
    """Return the data set in `root`; its digest is of the relative paths and file sizes.

    Args:
        name: what the data set is called.
        root: holds `train` and `test`.
        size: side in pixels of what the network sees; for the plain view images are kept a little larger.

    Raises:
        UserError: no classes, classes that differ between train and test, a class folder without images, or a folder
            that cannot be listed.
    """
    try:
        classes = {split: class_folders(root / split) for split in ("train", "test")}
        if not classes["train"] or classes["train"] != classes["test"]:
            only = [shown(name) for name in sorted(set(classes["train"]) ^ set(classes["test"]))[:5]]
            raise UserError(
                f"{root}: train has {len(classes['train'])} class folders, test has {len(classes['test'])}; "
                f"they must be the same{', but differ in ' + ', '.join(only) if only else ' and at least one'}"
            )
        digest = hashlib.sha256()
        sets = {split: _images(root, split, names, size, digest) for split, names in classes.items()}
    except OSError as error:
        raise UserError(f"cannot list the data set {name!r}: {error}") from None
    return Dataset(name, tuple(classes["train"]), sets["train"], sets["test"], digest.hexdigest())


def class_folders(folder: Path) -> list[str]:
    """Return the sorted names of the class folders in `folder`."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def image_files(folder: Path) -> list[tuple[str, int]]:
    """Return path and size in bytes of every image below a class folder, sorted by path.

    Links to folders are followed, but every folder is entered once and none of its parents, so that a loop ends. The
    size of a link to nothing is 0; reading it is what names it.
    """
    entered = {_identity(parent) for parent in folder.absolute().parents}
    found: list[tuple[str, int]] = []
    pending = [str(folder)]
    while pending:
        here = pending.pop()
        if (identity := _identity(here)) in entered:
            continue
        entered.add(identity)
        for entry in sorted(os.scandir(here), key=lambda e: e.name, reverse=True):
            if entry.name.startswith("."):
                continue
            if os.path.isdir(entry.path):
                pending.append(entry.path)
            elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                found.append((entry.path, os.path.getsize(entry.path) if os.path.exists(entry.path) else 0))
    return sorted(found)


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _images(root: Path, split: str, classes: list[str], size: int, digest: hashlib._Hash) -> FileImages:
    paths: list[str] = []
    labels: list[int] = []
    empty: list[str] = []
    for label, name in enumerate(classes):
        files = image_files(root / split / name)
        if not files:
            empty.append(name)
        for path, length in files:
            digest.update(os.fsencode(os.path.relpath(path, root)) + f"\0{length}\n".encode())
        paths += [path for path, _ in files]
        labels += [label] * len(files)
    if empty:
        raise UserError(
            f"{len(empty)} class folders under {root / split} hold no image ({', '.join(IMAGE_SUFFIXES)}): "
            f"{', '.join(map(shown, empty[:5]))}"
        )
    return FileImages(tuple(paths), torch.tensor(labels, dtype=torch.int64), size)
