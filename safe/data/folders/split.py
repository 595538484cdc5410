"""A folder data set made from class folders: every class cut by a seed into train and test, by hard links or copies."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from safe.data.split import held_count
from safe.datasets.layout import classes_folder, differing, mend, split_folders
from safe.datasets.listing import IMAGE_SUFFIXES, class_folders, image_files, lying_flat
from safe.errors import UserError, shown
from safe.io.progress import progress
from safe.seeding import derive_seed

_MOST_NAMED = 5


@dataclass
class Outcome:
    """What was made, in counts of images.

    Attributes:
        kept: names of the folders whose split was taken as it is; empty where the seed made one.
        without: class folders that hold no image and were left out.
        others: files that were passed over, by kind.
    """

    classes: int = 0
    train: int = 0
    test: int = 0
    linked: int = 0
    copied: int = 0
    kept: tuple[str, ...] = ()
    without: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _File:
    source: str
    target: str  # relative to the new folder


def split_folder(
    source: str | Path,
    target: str | Path,
    *,
    share: float = 0.2,
    seed: int = 0,
) -> Outcome:
    """Make `target/{train,test}/<class>/...` of the class folders in `source`, which stays as it is.

    round(share * n) images of a class with n become test images, but at least one and at most n - 1; the choice depends
    on the seed, the class's name and its files' names alone. A source that has folders of train and of test under
    whatever names keeps that split. Files are hard links where the file system allows it, else copies. The target is
    there whole or not at all, and nothing is overwritten; tells how far it is.

    Args:
        source: holds class folders, or two folders of them.
        target: must not be there yet.
        share: of test images in each class, in (0, 1).
        seed: of the choice, from 0.

    Raises:
        UserError: an argument out of range, a target that is there or lies in the source, fewer than two classes, a
            class with one image, no room for copies, or a folder that cannot be read or written.
    """
    source, target = Path(source), Path(target)
    if not 0 < share < 1:
        raise UserError(f"--test is the share of test images and must lie between 0 and 1, got {share:g}")
    if seed < 0:
        raise UserError(f"--seed must be at least 0, got {seed}")
    if not source.is_dir():
        raise UserError(f"{source} is {'a file' if source.exists() else 'not there'}; give a folder of class folders")
    if os.path.lexists(target):
        raise UserError(f"{target} is there already, and nothing is overwritten: give another name")
    if target.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{target} lies in {source} itself: give a place outside of it")
    outcome = Outcome()
    try:
        files = _planned(source, share, seed, outcome)
    except OSError as error:
        raise UserError(f"cannot list {source}: {error}") from None
    try:
        _make(files, target, outcome)
    except OSError as error:
        raise UserError(f"cannot make {target}: {error}; nothing is left of it") from None
    return outcome


def _planned(source: Path, share: float, seed: int, outcome: Outcome) -> list[_File]:
    """Return every file of the new data set; fills in the counts of `outcome`."""
    train, test = split_folders(source)
    if train is not None and test is not None:
        sides = {"train": _by_class(train, outcome), "test": _by_class(test, outcome)}
        trained, tested = list(sides["train"]), list(sides["test"])
        if not trained or not tested:
            raise UserError("\n".join((f"{source} is divided already, but lacks images.", *mend(source))).rstrip())
        if trained != tested:
            raise UserError(f"{source}: {train} and {test} must hold the same classes{differing(trained, tested)}")
        outcome.kept = tuple(part.relative_to(source).parts[0] for part in (train, test))
    elif train is not None or test is not None:
        raise UserError("\n".join((f"{source} is no folder of class folders.", *mend(source))).rstrip())
    else:
        sides = _cut(classes_folder(source), share, seed, outcome)
    outcome.classes = len(sides["train"])
    outcome.train, outcome.test = (sum(map(len, classes.values())) for classes in sides.values())
    return [
        _File(path, os.path.join(split, name, relative))
        for split, classes in sides.items()
        for name, files in classes.items()
        for path, relative in files
    ]


Images = dict[str, list[tuple[str, str]]]  # by class: path, and path relative to the class folder


def _by_class(folder: Path, outcome: Outcome) -> Images:
    by_class: Images = {}
    for name in class_folders(folder):
        files, passed = image_files(folder / name)
        outcome.others.update(passed)
        if files:
            by_class[name] = [(path, os.path.relpath(path, folder / name)) for path in files]
        else:
            outcome.without.append(name)
    return by_class


def _cut(folder: Path, share: float, seed: int, outcome: Outcome) -> dict[str, Images]:
    classes = _by_class(folder, outcome)
    flat, passed = lying_flat(folder)
    if len(classes) < 2:
        lying = f"; {flat} images lie flat, so nothing says their class" if flat else ""
        raise UserError(
            f"{folder} holds {len(classes)} class folders with images ({', '.join(IMAGE_SUFFIXES)}){lying}. "
            "At least two are needed: one folder per class"
        )
    outcome.others.update(passed + Counter({"image in no class folder": flat}))
    if lone := [name for name, files in classes.items() if len(files) < 2]:
        raise UserError(
            f"{len(lone)} class folders of {folder} hold a single image, which cannot both be trained on and tested: "
            f"{', '.join(map(shown, lone[:_MOST_NAMED]))}. Add images, or move these folders away"
        )
    sides: dict[str, Images] = {"train": {}, "test": {}}
    for name, files in classes.items():
        random = np.random.RandomState(derive_seed(seed, "split", os.fsencode(name).hex()) % 2**32)
        held = set(random.permutation(len(files))[: held_count(len(files), share)].tolist())
        for number, file in enumerate(files):
            sides["test" if number in held else "train"].setdefault(name, []).append(file)
    return sides


def _make(files: list[_File], target: Path, outcome: Outcome) -> None:
    """Make everything beside the target, then give it its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:50]}."))
    try:
        tree = staging / "tree"
        with progress("linking or copying images", len(files)) as advance:
            for number, file in enumerate(files):
                place = tree / file.target
                place.parent.mkdir(parents=True, exist_ok=True)
                if _linked(file.source, place):
                    outcome.linked += 1
                else:
                    if not outcome.copied:
                        _require_room(files[number:], staging)
                    shutil.copy2(file.source, place)
                    outcome.copied += 1
                advance()
        os.rename(tree, target)  # refused by the system where something with content has appeared meanwhile
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _linked(source: str, place: Path) -> bool:
    """Make a hard link of a file, of what it leads to if it is a link; whether that is possible."""
    try:
        os.link(os.path.realpath(source), place)
    except OSError:  # another file system, one without links, somebody else's file, or too many links
        return False
    return True


def _require_room(files: list[_File], folder: Path) -> None:
    needed, free = sum(os.path.getsize(file.source) for file in files), shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"hard links are not possible there, and copies need {needed / 2**30:.2f} GiB of which {free / 2**30:.2f} "
            "are free: give a place on the disk of the images, or one with room"
        )
