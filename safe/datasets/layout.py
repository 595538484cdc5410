"""The layouts of a folder of images: which are taken as they are, and what is said of the others and how to mend them.

Taken as it is: `train/<class>/...` and `test/<class>/...`, or `val/` where there is no `test/`.
"""

from __future__ import annotations

import os
import shlex
import unicodedata
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from safe.datasets.listing import IMAGE_SUFFIXES, class_folders, lying_flat
from safe.errors import UserError, shown

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation")
_DEPTH = 2  # levels of folders that are looked into
_MOST_LOOKED_AT = 1000  # folders of a level, so that a name that leads to a whole disk is answered too
_MOST_NAMED = 5
_SORT = "nothing says their class, as one folder per class would"


def test_folder(folder: Path) -> str:
    """Return the name of the folder of the test images: `val` where there is that and nothing called after tests."""
    names = {name.lower() for name in listed(folder)}
    return "val" if (folder / "val").is_dir() and names.isdisjoint(("test", "testing")) else "test"


def split_folders(folder: Path) -> tuple[Path | None, Path | None]:
    """Return the folders of the classes of train and of test, whatever they are called; `None` for one that lacks.

    Names count in any case: `Train`, `training`, `validation`. Where the class folders lie deeper, that place counts.
    """
    there = {name.lower(): folder / name for name in sorted(listed(folder), key=str.islower)}
    train, test = (next((there[name] for name in names if name in there), None) for names in (_TRAIN, _TEST))
    return train and classes_folder(train), test and classes_folder(test)


def classes_folder(folder: Path) -> Path:
    """Return where the class folders lie: in `folder`, or in the only one in it that has images, if there are several.

    A folder beside class folders may lack images, as one of annotations does.
    """
    for _ in range(_DEPTH):
        inside = with_images(folder)
        if len(inside) != 1 or lying_flat(folder)[0] or lying_flat(inside[0])[0] or len(with_images(inside[0])) < 2:
            break
        folder = inside[0]
    return folder


def with_images(folder: Path) -> list[Path]:
    """Return the folders in a folder that hold an image, somewhere below."""
    return [folder / name for name in listed(folder)[:_MOST_LOOKED_AT] if _holds_image(folder / name)]


def listed(folder: Path) -> list[str]:
    """Return the names of the folders in a folder; none where it cannot be listed."""
    try:
        return class_folders(folder)
    except OSError:
        return []


def require_classes(folder: Path) -> None:
    """Make sure that the folders of train and test hold the same class folders, at least one; reads no image.

    Raises:
        UserError: says what is there instead, and what mends it.
        OSError: a folder that cannot be listed.
    """
    test = test_folder(folder)
    trained, tested = class_folders(folder / "train"), class_folders(folder / test)
    if trained == tested and len(trained) > 1:
        return
    deep = [part for part in split_folders(folder) if part is not None]
    if deep != [folder / "train", folder / test] and len({tuple(listed(part)) for part in deep}) == 1:
        places = " and ".join(shown(str(part.relative_to(folder))) for part in deep)
        raise UserError(f"{folder}: the class folders lie too deep, in {places}.\n{split_command(folder, folder)}.")
    if trained and trained == tested:
        return
    told = f"{folder}: train has {len(trained)} class folders, {test} has {len(tested)}; they must be the same"
    told += differing(trained, tested, test) if trained and tested else " and at least one"
    for split, classes_there in (("train", trained), (test, tested)):
        flat = 0 if classes_there else lying_flat(folder / split)[0]
        if flat:
            told += f". {flat} images lie flat in {split}/: {_SORT}"
    raise UserError(f"{told}.\n{split_command(folder / 'train', folder)}." if trained and not tested else told)


def mend(folder: Path) -> tuple[str, str]:
    """Return in sentences what a folder without train/ or test/ holds in their place, and what mends it.

    Both are empty where there is nothing to say, and the second where no command mends it.
    """
    if not folder.is_dir():
        return f"{folder} is a file, not a folder." if folder.exists() else "", ""
    train, test = split_folders(folder)
    if train is not None or test is not None:
        return _mend_splits(folder, train, test)
    for inner in _below(folder):
        if (inner / "train").is_dir() and (inner / test_folder(inner)).is_dir():
            problem = f"train/ and {test_folder(inner)}/ lie deeper, in {shown(str(inner))}."
            return problem, f"Give that folder as the data set: {quoted(inner)}"
        if None not in split_folders(inner):
            return f"Images for training and test lie in {shown(str(inner))}.", split_command(inner, folder)
    source = classes_folder(folder)
    if classes := with_images(source):
        names = ", ".join(shown(path.name) for path in classes[:_MOST_NAMED])
        more = ", ..." if len(classes) > _MOST_NAMED else ""
        where = "It" if source == folder else shown(str(source))
        return f"{where} holds {len(classes)} folders with images: {names}{more}.", split_command(source, folder)
    if flat := lying_flat(folder)[0]:
        return f"It holds {flat} images in no class folder: {_SORT}.", ""
    there = ", ".join(shown(name) for name in sorted(os.listdir(folder))[:_MOST_NAMED])
    return f"It holds {there or 'nothing'}, and no folder with images.", ""


def _mend_splits(folder: Path, train: Path | None, test: Path | None) -> tuple[str, str]:
    there = [part for part in (train, test) if part is not None]
    names = " and ".join(f"{shown(part.relative_to(folder).parts[0])}/" for part in there)
    with_classes = [part for part in there if listed(part)]
    if len(with_classes) == 2:
        return f"It holds {names}, not train/ and test/.", split_command(folder, folder)
    if not with_classes:
        return f"It holds {names} without class folders: {_SORT}.", ""
    source = with_classes[0]
    return f"It holds {names}; class folders are in {shown(str(source))} alone.", split_command(source, folder)


def split_command(source: Path, folder: Path) -> str:
    """Return in words the command that makes a data set of `source` beside `folder`."""
    target = folder.parent / f"{folder.name or 'data'}-split"
    command = f"python -m safe.data split {quoted(source)} {quoted(target)} --test 0.2 --seed 0"
    return f"Mend it with: {command}\nThen give {quoted(target)} as the data set"


def differing(trained: Sequence[str], tested: Sequence[str], test: str = "test") -> str:
    """Return in words which names stand on one side only; those that only look alike come first, quoted and escaped."""
    only = {"train": set(trained) - set(tested), test: set(tested) - set(trained)}
    alike = {_look(name) for name in only["train"]} & {_look(name) for name in only[test]}
    names = [(name, side) for side in only for name in only[side]]
    names.sort(key=lambda pair: (_look(pair[0]) not in alike, _look(pair[0]), pair[1] == test))
    words = [
        f"{shown(name) if _look(name) == name and name not in alike else ascii(name)} ({side})" for name, side in names
    ]
    more = f" and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else ""
    hint = "; those that look alike differ in Unicode form or in spaces at an end: rename one of them" if alike else ""
    return f", but differ in {', '.join(words[:_MOST_NAMED])}{more}{hint}"


def _look(name: str) -> str:
    """Return what a name looks like: the same for every Unicode form, and without spaces at its ends."""
    return unicodedata.normalize("NFC", name).strip()


def quoted(path: Path) -> str:
    """Return a path as a shell takes it, or escaped if it would do something to a terminal."""
    return shlex.quote(str(path)) if str(path).isprintable() else ascii(str(path))


def _below(folder: Path) -> list[Path]:
    """Return the folders in a folder and in those, nearest first."""
    below, level = list[Path](), [folder]
    for _ in range(_DEPTH):
        level = [place / name for place in level for name in listed(place)][:_MOST_LOOKED_AT]
        below += level
    return below


def _holds_image(folder: Path) -> bool:
    return any(
        not file.startswith(".") and file.lower().endswith(IMAGE_SUFFIXES)
        for _, _, files in islice(os.walk(folder), _MOST_LOOKED_AT)
        for file in files
    )
