"""Suite `data`: images a second from a folder of JPEG files, against torchvision's transforms of PIL images.

The straightforward way is that of the released code: `ImageFolder`, transforms, `DataLoader`. Its workers, one per
core, are kept alive between epochs, which the released code does not do.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import functional as by_pillow

from safe.backbones.network_input import NetworkInput
from safe.config import validate
from safe.data.cache import ImageCache
from safe.data.folders.dataset import load_folder
from safe.data.images import FileImages
from safe.data.parallel import ahead
from safe.data.sources import Dataset
from safe.data.transforms import plain_view, random_crop_boxes, train_view
from safe.seeding import generator
from safe.training.build import build_stream
from safe.training.features import FeatureExtractor
from safe.training.steps import GradientSteps

IMAGES, CLASSES, WIDTH, HEIGHT, QUALITY = 300, 5, 500, 375, 90
SIZE, BATCH, SCALE, RATIO = 224, 48, (0.05, 1.0), (3 / 4, 4 / 3)
STEPS = 2.01 / 255  # between pixels: Pillow rounds once more between its two passes, and its bicubic coefficients
CPU = torch.device("cpu")

TRAIN = transforms.Compose(
    [transforms.RandomResizedCrop(SIZE, SCALE, RATIO), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)
TEST = transforms.Compose(
    [
        transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(SIZE),
        transforms.ToTensor(),
    ]
)


def items() -> list[dict[str, Any]]:
    """Prove that both ways give the same pixels; return them to be timed, after an epoch that filled the cache."""
    folder = tempfile.TemporaryDirectory(prefix="bench-data-")
    root = Path(folder.name)
    draw_files(root / "pictures")
    dataset = load_folder("pictures", root / "pictures", SIZE)
    kept = in_cache(dataset, root / "decoded")
    _prove(dataset, kept)

    fresh = iter(range(10**6))

    def first_epoch() -> int:
        return _count(train_batches(in_cache(dataset, root / f"fresh-{next(fresh)}"), epoch=0))

    epochs = iter(range(10**6))
    plain_train, plain_test = _loader(root, "train", TRAIN, shuffle=True), _loader(root, "test", TEST, shuffle=False)
    named: list[tuple[str, Callable[[], int], Callable[[], int]]] = [
        ("training views, later epochs", plain_train, lambda: _count(train_batches(kept, next(epochs)))),
        ("training views, first epoch, filling the cache", plain_train, first_epoch),
        ("training views, no cache", plain_train, lambda: _count(train_batches(dataset, next(epochs)))),
        ("evaluation views, once kept", plain_test, lambda: _count(test_batches(kept))),
    ]
    rows = []
    for name, plain, ours in named:
        for way in (plain, ours):
            if way() != IMAGES:
                raise AssertionError(f"{name}: not every image was read once")
        rows.append({"name": f"{name} ({IMAGES} images {WIDTH}x{HEIGHT})", "plain": plain, "ours": ours})
    weakref.finalize(rows[0]["ours"], folder.cleanup)
    return rows


def draw_files(root: Path) -> None:
    """Write `IMAGES` JPEG files of coarse colours and noise, about as large as photographs, and name them test too."""
    draw = np.random.default_rng(0)
    for number in range(IMAGES):
        path = root / "train" / f"class-{number % CLASSES}" / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(draw.integers(256, size=(24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = smooth + draw.integers(-18, 19, smooth.shape, dtype=np.int16)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=QUALITY)
    os.symlink("train", root / "test")


def in_cache(dataset: Dataset, folder: Path) -> Dataset:
    """Return the data set with its images kept in a folder of its own."""
    cache = ImageCache(folder, 2**40)
    sides = {side: getattr(dataset, side) for side in ("train", "test")}
    return replace(dataset, **{side: images.kept_in(cache, side) for side, images in sides.items()})


def train_batches(dataset: Dataset, epoch: int) -> Iterator[Tensor]:
    """Give the augmented batches of an epoch, as a training run gets them."""
    config = validate({"data.init_classes": CLASSES, "slow.batch_size": BATCH})
    features = FeatureExtractor(CPU, NetworkInput(SIZE), BATCH, "float32")
    session = build_stream(config, dataset).sessions[0]
    steps = GradientSteps(config, NetworkInput(SIZE), CPU, "float32", features)
    return (images for images, _ in steps.batches(session, epoch, BATCH))


def test_batches(dataset: Dataset) -> Iterator[Tensor]:
    """Give the un-augmented batches, as a training run gets them."""
    chosen = torch.arange(len(dataset.test)).split(BATCH)
    return (plain_view(batch, SIZE) for batch in ahead(map(dataset.test.read, chosen)))


def _loader(root: Path, split: str, transform: Any, *, shuffle: bool) -> Callable[[], int]:
    files, workers = ImageFolder(str(root / "pictures" / split), transform), torch.get_num_threads()
    loader = DataLoader(files, BATCH, shuffle=shuffle, num_workers=workers, persistent_workers=True)
    return lambda: _count(images for images, _ in loader)


def _count(batches: Iterator[Tensor]) -> int:
    return sum(len(batch) for batch in batches)


def _prove(dataset: Dataset, kept: Dataset) -> None:
    """Evaluation pixels are torchvision's; so are crops of the same boxes; and what is kept is what is decoded."""
    files = ImageFolder(str(Path(dataset.test.paths[0]).parents[1])) if isinstance(dataset.test, FileImages) else None
    assert files is not None
    for part, batch in zip(torch.arange(IMAGES).split(BATCH), test_batches(dataset), strict=True):
        expected = torch.stack([TEST(files[i][0]) for i in part.tolist()])
        if float((batch - expected).abs().max()) > STEPS or float((batch - expected).abs().mean()) > STEPS / 10:
            raise AssertionError("evaluation pixels differ from torchvision's")
    if [label for _, label in files.samples] != dataset.test.labels.tolist():
        raise AssertionError("labels differ from ImageFolder's")
    draw, part = generator(1), torch.arange(0, IMAGES, 10)
    settings: dict[str, Any] = {"crop_scale": SCALE, "crop_ratio": RATIO, "horizontal_flip": 0.5}
    views = train_view(dataset.train.whole(part), SIZE, **settings, generator=generator(1))
    for view, i in zip(views, part.tolist(), strict=True):
        top, left, h, w = (int(side) for side in random_crop_boxes(1, HEIGHT, WIDTH, SCALE, RATIO, draw)[0])
        crop = by_pillow.resized_crop(files[i][0], top, left, h, w, [SIZE, SIZE])
        crop = by_pillow.hflip(crop) if bool(torch.rand(1, generator=draw) < 0.5) else crop
        if float((view - by_pillow.to_tensor(crop)).abs().max()) > STEPS:
            raise AssertionError("a crop differs from torchvision's crop of the same box")
    for epoch in (0, 1):  # filled in the first, read in the second
        if not all(map(torch.equal, train_batches(dataset, epoch), train_batches(kept, epoch))):
            raise AssertionError("training views differ with the cache")
        if not all(map(torch.equal, test_batches(dataset), test_batches(kept))):
            raise AssertionError("evaluation views differ with the cache")
