"""What lies in a folder of images: class folders, image files, and what is passed over."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from safe.errors import shown
from safe.io.opening import special_kind

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp"),
    *(".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
)
_MOST_KINDS = 8  # that are told; folders of people hold a few
_LONGEST_SUFFIX = 20


def class_folders(folder: Path) -> list[str]:
    """Return the sorted names of the class folders in `folder`."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def image_files(folder: Path) -> tuple[list[str], Counter[str]]:
    """Return the path of every image below a class folder, sorted, and what is passed over.

    Regular files with one of `IMAGE_SUFFIXES` are images; other files are counted by suffix or kind, hidden ones are
    not. Links to files and folders are followed, but every folder is entered once and none of its parents, so that a
    loop ends. A link to nothing counts as an image; reading it is what names it.
    """
    entered = {_identity(parent) for parent in folder.absolute().parents}
    images: list[str] = []
    others: Counter[str] = Counter()
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
                continue
            if kind := _look(entry):
                others[kind] += 1
            else:
                images.append(entry.path)
    return sorted(images), others


def lying_flat(folder: Path) -> tuple[int, Counter[str]]:
    """Return how many images lie directly in a folder, and what else does (as `image_files` counts it)."""
    images, others = 0, Counter[str]()
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and not entry.is_dir():
                kind = _look(entry)
                others[kind] += bool(kind)
                images += not kind
    return images, +others


def passed_over(kinds: Mapping[str, int]) -> str:
    """Return in words how many files of which kinds are passed over, or an empty word if there are none."""
    if not kinds:
        return ""
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{kind}: {count}" for kind, count in ordered[:_MOST_KINDS]]
    if rest := sum(count for _, count in ordered[_MOST_KINDS:]):
        words.append(f"other: {rest}")
    total = sum(kinds.values())
    return f"{total} {'file is' if total == 1 else 'files are'} passed over ({', '.join(words)})"


def _look(entry: os.DirEntry[str]) -> str:
    """Return what a file is that is not read as an image, an empty word for an image."""
    try:
        kind = special_kind(os.stat(entry.path).st_mode)
    except OSError:  # a link to nothing
        kind = ""
    suffix = os.path.splitext(entry.name)[1].lower()
    if not kind and suffix not in IMAGE_SUFFIXES:
        kind = shown(suffix[:_LONGEST_SUFFIX]) or "no suffix"
    return kind


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
