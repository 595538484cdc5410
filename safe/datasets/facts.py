"""The data sets by name: what each one holds and where its files lie; nothing is read here.

Facts of the folder data sets: the splits of Zhou et al. (arXiv 2303.07338) and RanPAC (arXiv 2307.02251); of CIFAR-100
and DomainNet (cleaned version): the counts that their pages publish; of Fashion-MNIST: arXiv 1708.07747.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safe.datasets.layout import mend, require_classes, test_folder
from safe.errors import UserError, choices, tell

Kind = Literal["embedded", "folder", "cifar", "idx", "domains"]


CIFAR_FILES = ("train.bin", "test.bin", "fine_label_names.txt")
IDX_FILES = tuple(f"{split}-{what}-ubyte.gz" for split in ("train", "t10k") for what in ("images-idx3", "labels-idx1"))
DOMAINS = ("real", "quickdraw", "painting", "sketch", "infograph", "clipart")  # in RanPAC's order of arrival
# Training and test images of each, in that order, of the cleaned version.
DOMAIN_IMAGES = (
    (120_906, 52_041), (120_750, 51_750), (50_416, 21_850), (48_212, 20_916), (36_023, 15_582), (33_525, 14_604),
)  # fmt: skip
DOMAIN_LISTS = tuple(f"{domain}_{split}.txt" for domain in DOMAINS for split in ("train", "test"))

_FILES: dict[Kind, tuple[str, ...]] = {"cifar": CIFAR_FILES, "idx": IDX_FILES}  # kinds that are a few files


@dataclass(frozen=True)
class DatasetInfo:
    """One row of the table: name, other names, and what the files should hold (`None`: nothing is published)."""

    name: str
    classes: int
    train_images: int | None
    test_images: int | None
    aliases: tuple[str, ...] = ()
    kind: Kind = "folder"

    @property
    def embedded(self) -> bool:
        """Whether the data set needs no files."""
        return self.kind == "embedded"

    def folder(self, root: str | Path) -> Path:
        """Return where the files lie; a data set whose name is an absolute path lies there, whatever the root."""
        return Path(root) / self.name

    def missing(self, root: str | Path) -> list[str]:
        """Return the files and folders, relative to `folder`, without which the data set is not there."""
        folder = self.folder(root)
        if self.kind in _FILES:
            return [file for file in _FILES[self.kind] if not (folder / file).is_file()]
        if self.kind == "domains":
            lists = [file for file in DOMAIN_LISTS if not (folder / file).is_file()]
            return lists + [domain for domain in DOMAINS if not (folder / domain).is_dir()]
        if self.embedded:
            return []
        there = {"train": folder / "train", "test": folder / test_folder(folder)}
        return [split for split, place in there.items() if not place.is_dir()]

    def layout(self, root: str | Path) -> str:
        """Return in words which files belong where."""
        folder = self.folder(root)
        counts = (
            f"{self.train_images} training and {self.test_images} test images"
            if self.train_images is not None and self.test_images is not None
            else "training and test images"
        )
        if self.kind in _FILES:
            version = " (its binary version)" if self.kind == "cifar" else ""
            return f"expected {', '.join(str(folder / file) for file in _FILES[self.kind])}{version}: {counts}"
        if self.kind == "domains":
            return (
                f"expected {folder}/<domain>_train.txt and {folder}/<domain>_test.txt (lines '<path> <label>') and the "
                f"images they list, {folder}/<domain>/<class>/<image>, for {', '.join(DOMAINS)}: {counts}"
            )
        classes = f"{self.classes} class folders" if self.classes else "the same class folders"
        return (
            f"expected {folder}/train/<class folder>/<image> and {folder}/test/<class folder>/<image>: "
            f"{classes} in each, {counts}"
        )


_TABLE = (
    DatasetInfo("digits", 10, 1_438, 359, kind="embedded"),
    DatasetInfo("glyphs", 100, 6_000, 2_500, kind="embedded"),
    DatasetInfo("quickstart", 30, 1_800, 750, kind="embedded"),
    DatasetInfo("cifar100", 100, 50_000, 10_000, ("cifar224", "cifar-100"), kind="cifar"),
    DatasetInfo("fashion_mnist", 10, 60_000, 10_000, ("fashion-mnist", "fashionmnist"), kind="idx"),
    DatasetInfo("imagenet_r", 200, 24_000, 6_000, ("imagenetr", "imagenet-r")),
    DatasetInfo("imagenet_a", 200, 5_981, 1_519, ("imageneta", "imagenet-a")),
    DatasetInfo("cub200", 200, 9_430, 2_358, ("cub",)),
    DatasetInfo("omnibenchmark", 300, 89_697, 5_985),
    DatasetInfo("vtab", 50, 1_796, 8_619),
    DatasetInfo("domainnet", 345, 409_832, 176_743, kind="domains"),
    DatasetInfo("cars", 196, None, None, ("stanford_cars",)),
)


DATASETS = {info.name: info for info in _TABLE}
_BY_ALIAS = {alias: info.name for info in _TABLE for alias in (info.name, *info.aliases)}


def add_dataset(info: DatasetInfo) -> None:
    """Add an entry; `ValueError` if its name is taken or could be mistaken for a path."""
    if not info.name.isidentifier() or info.name != info.name.lower():
        raise ValueError(f"a data set is named in lower-case letters, digits and _, got {info.name!r}")
    if info.name in _BY_ALIAS:
        raise ValueError(f"there is a data set {info.name!r} already; choose another name")
    DATASETS[info.name] = info
    _BY_ALIAS[info.name] = info.name


def canonical_name(name: str) -> str:
    """Return the data set's own name for a name or alias in any case, or the absolute path of a folder.

    A folder is what holds a path separator or is there. `UserError` lists the choices for any other word.
    """
    word = name.strip()
    if word.lower() in _BY_ALIAS:
        return _BY_ALIAS[word.lower()]
    # os.path, unlike pathlib, takes a user that does not exist and a name too long for a path for what is not there.
    path = os.path.expanduser(word)
    if os.sep in word or word == "~" or (word and os.path.isdir(path)):
        return os.path.abspath(path)
    raise UserError(f"{choices(name, DATASETS, 'data set')} Or give the path of a folder with train/ and test/.")


def dataset_info(name: str) -> DatasetInfo:
    """Return the entry of a data set by name, alias or folder; of a folder only the layout is expected."""
    name = canonical_name(name)
    return DATASETS.get(name) or DatasetInfo(name, 0, None, None)


def require_dataset(name: str, root: str | Path) -> DatasetInfo:
    """Return the entry of a data set whose files are present; cheap, lists no class folder and reads no image.

    That `val/` stands for a `test/` that is not there is told.

    Raises:
        UserError: the name is unknown, files are missing, or train and test have other classes: what is there instead,
            the expected path, layout and counts, and what mends it.
    """
    info = dataset_info(name)
    folder = info.folder(root)
    missing = info.missing(root)
    if missing:
        there, remedy = mend(folder) if info.kind == "folder" else ("", "")
        told = (
            f"the data set {info.name!r} is not there: no {' or '.join(missing[:3])} under {folder}. {there}".rstrip()
        )
        if info.name in DATASETS or not remedy:
            remedy = f"{info.layout(root)}.\nPut it there"
        if info.name in DATASETS:
            remedy += f" (python -m safe.data fetch {info.name}), or point data.root to the folder that holds it"
        raise UserError(f"{told}\n{remedy}.")
    if info.kind == "folder":
        try:
            require_classes(folder)
        except OSError as error:
            raise UserError(f"cannot list the data set {info.name!r}: {error}") from None
        if (test := test_folder(folder)) != "test":
            tell(f"{folder} has no test/, so {test}/ holds the test images")
    return info
