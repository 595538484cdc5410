"""Training views of image files against torchvision's RandomResizedCrop of the whole picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as by_pillow

from safe.data.images import FileImages
from safe.data.sources import ArrayImages
from safe.data.transforms import random_crop_boxes, train_view
from safe.seeding import generator

HEIGHT, WIDTH, SIZE = 120, 240, 32
SCALE, RATIO = (0.05, 1.0), (0.75, 4 / 3)


@pytest.fixture
def ramp(tmp_path: Path) -> FileImages:
    """Return one picture twice as wide as high, whose red is the column and whose green is the row of a pixel."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    Image.fromarray(np.stack([x, y, 0 * x], axis=2).astype(np.uint8)).save(tmp_path / "ramp.png")
    return FileImages((str(tmp_path / "ramp.png"),), torch.zeros(1, dtype=torch.int64), SIZE)


def views(images: FileImages, index: Tensor, seed: int, flip: float = 0.0) -> Tensor:
    settings = {"crop_scale": SCALE, "crop_ratio": RATIO, "horizontal_flip": flip}
    return train_view(images.whole(index), SIZE, **settings, generator=generator(seed))


def statistics(boxes: Tensor) -> Tensor:
    """Return, for boxes of top, left, height and width: area, ratio, place, and which borders are nearly reached."""
    top, left, h, w = boxes.double().unbind(1)
    reached = [(left < 6), (left + w > WIDTH - 6), (top < 6), (top + h > HEIGHT - 6)]
    area = h * w / (HEIGHT * WIDTH)
    return torch.stack([area, area**2, (w / h).log(), left, left**2, top, *(side.double() for side in reached)], dim=1)


def test_crops_of_a_file_have_torchvisions_distribution_over_the_whole_picture(ramp: FileImages) -> None:
    count = 1500
    pixels = views(ramp, torch.zeros(count, dtype=torch.int64), seed=1).double() * 255
    # A linear ramp stays one when it is resized: its mean is the crop's middle, its slope the crop's length.
    across, down = pixels[:, 0].mean(dim=1), pixels[:, 1].mean(dim=2)
    near, far, steps = SIZE // 4, SIZE - SIZE // 4 - 1, SIZE // 2 - 1
    w, h = ((ramp_[:, far] - ramp_[:, near]) / steps * SIZE for ramp_ in (across, down))
    left, top = across.mean(dim=1) + 0.5 - w / 2, down.mean(dim=1) + 0.5 - h / 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        picture = torch.empty(3, HEIGHT, WIDTH)
        boxes = [RandomResizedCrop.get_params(picture, list(SCALE), list(RATIO)) for _ in range(4000)]
    ours, theirs = statistics(torch.stack([top, left, h, w], dim=1)), statistics(torch.tensor(boxes))
    error = (ours.var(dim=0) / len(ours) + theirs.var(dim=0) / len(theirs)).sqrt()
    difference = (ours.mean(dim=0) - theirs.mean(dim=0)).abs()
    assert (difference <= 4.5 * error + 1e-9).all(), (ours.mean(dim=0), theirs.mean(dim=0), error)
    assert (left < WIDTH / 4).double().mean() > 0.3  # the centre square begins there: no such crop would reach it


def test_a_view_is_pillows_crop_and_resize_of_the_same_box(tmp_path: Path) -> None:
    paths, sizes = [], [(200, 90), (40, 70), (33, 33), (10, 12)]
    for i, (width, height) in enumerate(sizes):
        noise = torch.randint(256, (height, width, 3), generator=generator(i, "noise"), dtype=torch.uint8)
        Image.fromarray(noise.numpy()).save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
    index, draw = torch.tensor([2, 0, 3, 1]), generator(5)
    got = views(FileImages(tuple(paths), torch.zeros(4, dtype=torch.int64), SIZE), index, seed=5, flip=0.5)
    flips = []
    for view, i in zip(got, index.tolist(), strict=True):
        width, height = sizes[i]
        top, left, h, w = (int(side) for side in random_crop_boxes(1, height, width, SCALE, RATIO, draw)[0])
        expected = by_pillow.resized_crop(Image.open(paths[i]), top, left, h, w, [SIZE, SIZE])
        flips.append(bool(torch.rand(1, generator=draw) < 0.5))
        expected = by_pillow.to_tensor(by_pillow.hflip(expected) if flips[-1] else expected)
        assert (view - expected).abs().max() <= 1.01 / 255, i  # Pillow rounds once more between its two passes
    assert len(set(flips)) == 2


def test_views_of_files_come_from_the_generator(ramp: FileImages) -> None:
    index = torch.zeros(6, dtype=torch.int64)
    first = views(ramp, index, seed=1, flip=0.5)
    assert torch.equal(first, views(ramp, index, seed=1, flip=0.5))
    assert not torch.equal(first, views(ramp, index, seed=2, flip=0.5))
    assert len(first.flatten(1).unique(dim=0)) == 6


def test_arrays_are_whole_as_they_are_read() -> None:
    pixels = torch.randint(256, (9, 1, 20, 20), generator=generator(0), dtype=torch.uint8)
    images, index = ArrayImages(pixels, torch.zeros(9, dtype=torch.int64)), torch.tensor([4, 4, 0])
    assert torch.equal(images.whole(index), images.read(index))
