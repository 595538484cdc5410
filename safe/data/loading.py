"""Loading a data set by its name; what there is to load stands in `safe.datasets`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from safe.backbones.resize import UNSTATED, Resize
from safe.datasets.facts import DatasetInfo, add_dataset, dataset_info, require_dataset
from safe.errors import UserError, tell

if TYPE_CHECKING:
    from safe.data.sources import Dataset, Images


Loader = Callable[[Path], tuple[Sequence[str], "Images", "Images"]]
_LOADERS: dict[str, Loader] = {}


def register_dataset(name: str, *, classes: int) -> Callable[[Loader], Loader]:
    """Register `load(root) -> (names of the classes, training images, test images)` as the data set called `name`.

    `root` is the folder of the data sets (`data.root`), and the images are `safe.data.sources.Images`, such as
    `ArrayImages(pixels, labels)`. The data set is known by its content: all pixels and labels are hashed when it is
    loaded.

    Args:
        name: for `--dataset`; lower-case letters, digits and `_`.
        classes: how many there are, at least 1.

    Raises:
        ValueError: the name is taken or is none, or `classes` is below 1.
    """
    if classes < 1:
        raise ValueError(f"a data set has at least 1 class, got {classes}")

    def add(load: Loader) -> Loader:
        add_dataset(DatasetInfo(name, classes, None, None, kind="embedded"))
        _LOADERS[name] = load
        return load

    return add


def survey(name: str, root: str | Path) -> None:
    """List the files of a data set, read none, and tell what its user should know.

    Raises:
        UserError: as `require_dataset`, or a class folder without images.
    """
    info = require_dataset(name, root)
    if info.kind == "folder":
        from safe.data.folders.dataset import list_folder

        for note in list_folder(info.name, info.folder(root)).notes:
            tell(note)


def class_count(name: str, root: str | Path) -> int:
    """Return how many classes a data set has: the published number, or the class folders of a path.

    Raises:
        UserError: as `require_dataset`, where no number is published.
    """
    info = dataset_info(name)
    if info.classes:
        return info.classes
    return len(class_names(name, root))


def class_names(name: str, root: str | Path) -> tuple[str, ...]:
    """Return the classes of a data set in its own order; of folders no image is read.

    Raises:
        UserError: as `require_dataset`.
    """
    info = require_dataset(name, root)
    if info.kind != "folder":
        return load_dataset(name, root, image_size=224).classes
    from safe.datasets.listing import class_folders

    return tuple(class_folders(info.folder(root) / "train"))


def load_dataset(name: str, root: str | Path, image_size: int, resize: Resize = UNSTATED) -> Dataset:
    """Return a data set by name, alias or folder; its notes and counts other than the published ones are told.

    Args:
        name: name, alias or path of a folder with `train` and `test`.
        root: folder that holds the data sets and the cache of generated ones.
        image_size: side in pixels of what the network sees; the embedded data sets and CIFAR-100 are 32 whatever it is.
        resize: how image files are resized for the plain view.

    Image files are kept once they are decoded; see `safe.data.cache`.
    """
    info = require_dataset(name, root)
    dataset = read_dataset(info, root, image_size, resize=resize)
    for sentence in (*count_differences(info, dataset), *dataset.notes):
        tell(sentence)
    return kept_on_disk(dataset, root)


def kept_on_disk(dataset: Dataset, root: str | Path) -> Dataset:
    """Return a data set whose image files, if it has any, are kept once they are decoded; see `image_cache`."""
    from safe.data.cache import image_cache
    from safe.data.images import FileImages

    if not isinstance(dataset.train, FileImages) or not isinstance(dataset.test, FileImages):
        return dataset
    cache, name = image_cache(root), Path(dataset.name).name
    if cache is None:
        return dataset
    train, test = dataset.train.kept_in(cache, f"{name}-train"), dataset.test.kept_in(cache, f"{name}-test")
    return replace(dataset, train=train, test=test)


def read_dataset(
    info: DatasetInfo, root: str | Path, image_size: int, *, strict: bool = True, resize: Resize = UNSTATED
) -> Dataset:
    """Return the data set of an entry, whatever it holds; see `load_dataset`, and `Contents` for `strict`."""
    from safe.data.folders.contents import Contents

    if info.name in _LOADERS:
        return _registered(info, Path(root))
    folder, contents = info.folder(root), Contents.of(root, strict=strict)
    if info.name == "digits":
        from safe.data.benchmarks.digits import load_digits

        return load_digits()
    if info.name == "glyphs":
        from safe.data.benchmarks.glyphs import load_glyphs

        return load_glyphs(folder)
    if info.name == "quickstart":
        from safe.data.benchmarks.glyphs import load_quickstart

        return load_quickstart(Path(root) / "glyphs")
    if info.kind == "cifar":
        from safe.data.benchmarks.cifar import load_cifar100

        return load_cifar100(folder)
    if info.kind == "idx":
        from safe.data.benchmarks.fashion_mnist import load_fashion_mnist

        return load_fashion_mnist(folder)
    if info.kind == "domains":
        from safe.data.benchmarks.domainnet import load_domainnet

        return load_domainnet(info.name, folder, image_size, contents, resize)
    from safe.data.folders.dataset import load_folder

    return load_folder(info.name, folder, image_size, contents, resize)


def _registered(info: DatasetInfo, root: Path) -> Dataset:
    """Return what a user's function gives, after a look at whether it is what it should be."""
    from safe.data.sources import Dataset, content_digest

    classes, train, test = _LOADERS[info.name](root)
    for split, images in (("training", train), ("test", test)):
        labels = images.labels
        if not len(images) or int(labels.min()) < 0 or int(labels.max()) >= len(classes):
            raise UserError(
                f"the data set {info.name!r} gave {len(images)} {split} images and {len(classes)} classes: there must "
                f"be images, and labels in [0, {len(classes)})"
            )
    if len(classes) != info.classes:
        raise UserError(f"the data set {info.name!r} was registered with {info.classes} classes and has {len(classes)}")
    return Dataset(info.name, tuple(classes), train, test, content_digest(classes, train, test))


def count_differences(info: DatasetInfo, dataset: Dataset) -> list[str]:
    """Return one sentence for every count that differs from the published one."""
    counts = (
        (len(dataset.classes), info.classes or None, "classes"),
        (len(dataset.train), info.train_images, "training images"),
        (len(dataset.test), info.test_images, "test images"),
    )
    return [
        f"{info.name} has {count} {what}, but {expected} are published; numbers will not compare"
        for count, expected, what in counts
        if expected is not None and count != expected
    ]
