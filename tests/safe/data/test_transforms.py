"""Views of images against torchvision, image by image."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import v2 as vision

from safe.data import transforms
from safe.seeding import generator

SCALE, RATIO = (0.05, 1.0), (0.75, 4 / 3)
GOLDEN_BOXES = [
    [10.0, 10.0, 20.0, 17.0],
    [3.0, 0.0, 27.0, 32.0],
    [9.0, 9.0, 22.0, 22.0],
    [190.0, 0.0, 120.0, 90.0],
    [190.0, 0.0, 120.0, 90.0],
]
GOLDEN_SUMS = [8516.0, 7790.0, 18702.0, 18328.0]


def pictures(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(256, (count, 3, height, width), generator=generator(seed, "pictures"), dtype=torch.uint8)


def torchvision_boxes(count: int, height: int, width: int, scale: tuple, ratio: tuple) -> Tensor:
    image = torch.empty(3, height, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        boxes = [RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(count)]
    return torch.tensor(boxes, dtype=torch.float64)


def test_to_unit() -> None:
    assert transforms.to_unit(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40), (64, 20), (1, 1), (3, 3)])
def test_boxes_are_whole_pixels_inside_the_image_with_area_and_ratio_in_range(height: int, width: int) -> None:
    boxes = transforms.random_crop_boxes(2000, height, width, SCALE, RATIO, generator(1))
    top, left, h, w = boxes.double().unbind(1)
    assert torch.equal(boxes, boxes.round())
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (h >= 1).all()
    assert (w >= 1).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()
    if min(height, width) > 10:
        # Rounding moves each side by at most half a pixel.
        assert ((h + 0.5) * (w + 0.5) >= SCALE[0] * height * width).all()
        assert ((w + 0.5) / (h - 0.5) >= RATIO[0]).all()
        assert ((w - 0.5) / (h + 0.5) <= RATIO[1]).all()


@pytest.mark.parametrize(("height", "width", "scale"), [(32, 32, SCALE), (24, 40, SCALE), (64, 64, (0.6, 1.0))])
def test_boxes_have_torchvisions_distribution(height: int, width: int, scale: tuple[float, float]) -> None:
    ours = transforms.random_crop_boxes(20_000, height, width, scale, RATIO, generator(2)).double()
    theirs = torchvision_boxes(4_000, height, width, scale, RATIO)

    def statistics(boxes: Tensor) -> Tensor:
        top, left, h, w = boxes.unbind(1)
        area = h * w / (height * width)
        return torch.stack([area, area**2, (w / h).log(), (w / h).log() ** 2, top, left, top**2, h, w], dim=1)

    a, b = statistics(ours), statistics(theirs)
    error = (a.var(dim=0) / len(a) + b.var(dim=0) / len(b)).sqrt()
    assert ((a.mean(dim=0) - b.mean(dim=0)).abs() <= 4.5 * error).all(), (a.mean(dim=0), b.mean(dim=0), error)


@pytest.mark.parametrize(("height", "width"), [(20, 60), (60, 20), (30, 31), (21, 64)])
def test_the_fallback_is_torchvisions_central_crop(height: int, width: int) -> None:
    scale = (1.0, 1.0) if max(height, width) > 2 * min(height, width) else (1.5, 1.5)  # no draw can fit
    ours = transforms.random_crop_boxes(5, height, width, scale, RATIO, generator(3))
    assert torch.equal(ours.double(), torchvision_boxes(5, height, width, scale, RATIO))


def test_boxes_of_a_batch_differ_and_come_from_the_generator() -> None:
    first, again, other = (transforms.random_crop_boxes(50, 32, 32, SCALE, RATIO, generator(s)) for s in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({tuple(box) for box in first.tolist()}) > 45


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (37, 50, 32), (32, 32, 48), (40, 28, 16)])
def test_crop_and_resize_equals_torchvision_without_antialiasing(height: int, width: int, size: int) -> None:
    batch = transforms.to_unit(pictures(40, height, width))
    boxes = transforms.random_crop_boxes(40, height, width, SCALE, RATIO, generator(6))
    edges = [[0, 0, height, width], [height - 1, width - 1, 1, 1], [0, 0, 1, width], [height - 3, 0, 3, 2]]
    boxes[: len(edges)] = torch.tensor(edges, dtype=boxes.dtype)
    flip = torch.rand(40, generator=generator(7)) < 0.5
    got = transforms.crop_and_resize(batch, boxes, flip, size)
    for n in range(40):
        top, left, h, w = (int(v) for v in boxes[n])
        expected = vision.functional.resized_crop(
            batch[n], top, left, h, w, [size, size], vision.InterpolationMode.BILINEAR, antialias=False
        )
        expected = expected.flip(2) if flip[n] else expected
        assert (got[n] - expected).abs().max() <= 1e-5, (n, boxes[n].tolist(), bool(flip[n]))


def test_a_flip_of_the_whole_picture_is_exact() -> None:
    batch = transforms.to_unit(pictures(4, 16, 16))
    boxes = torch.tensor([[0.0, 0.0, 16.0, 16.0]]).expand(4, 4)
    flip = torch.tensor([True, False, True, False])
    got = transforms.crop_and_resize(batch, boxes, flip, 16)
    plain = transforms.crop_and_resize(batch, boxes, torch.zeros(4, dtype=torch.bool), 16)
    assert torch.equal(got, torch.where(flip.view(4, 1, 1, 1), plain.flip(3), plain))
    assert (plain - batch).abs().max() <= 1e-5


def train_view(batch: Tensor, seed: int, flip: float = 0.5, scale: tuple[float, float] = SCALE) -> Tensor:
    return transforms.train_view(
        batch, 16, crop_scale=scale, crop_ratio=RATIO, horizontal_flip=flip, generator=generator(seed)
    )


def test_train_views_come_from_the_generator_and_stay_in_range() -> None:
    batch = pictures(8, 24, 24)
    first = train_view(batch, 0)
    assert first.shape == (8, 3, 16, 16)
    assert 0 <= first.min() < first.max() <= 1 + 1e-6
    assert torch.equal(first, train_view(batch, 0))
    assert not torch.equal(first, train_view(batch, 1))


def test_flip_probability() -> None:
    batch = pictures(1, 16, 16).expand(400, -1, -1, -1)
    never, always = (train_view(batch, 2, p, (1.0, 1.0)) for p in (0.0, 1.0))
    assert torch.equal(always, never.flip(3))
    mixed = train_view(batch, 2, 0.3, (1.0, 1.0))
    flipped = (mixed == always).flatten(1).all(dim=1)
    assert torch.equal(mixed[~flipped], never[~flipped])
    assert flipped.double().mean().item() == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 400))


def test_plain_view_is_the_centre() -> None:
    batch = pictures(2, 37, 41)
    assert torch.equal(transforms.plain_view(batch, 32), batch[:, :, 2:34, 4:36].float() / 255)
    assert torch.equal(transforms.plain_view(batch[..., :37], 37), batch[..., :37].float() / 255)


def test_plain_view_enlarges_smaller_pictures_within_range() -> None:
    batch = pictures(2, 16, 16)
    view = transforms.plain_view(batch, 32)
    assert view.shape == (2, 3, 32, 32)
    assert view.min() >= 0
    assert view.max() <= 1
    expected = vision.functional.resize(
        batch.float() / 255, [32, 32], vision.InterpolationMode.BICUBIC, antialias=True
    ).clamp(0, 1)
    assert (view - expected).abs().max() <= 1e-5
    flat = torch.full((1, 3, 16, 16), 102, dtype=torch.uint8)
    assert torch.allclose(transforms.plain_view(flat, 32), torch.tensor(0.4), atol=1e-6)


def test_boxes_are_those_of_the_recorded_runs() -> None:
    """Golden: what the first version of this module drew, with torch alone; recorded results depend on every one."""
    boxes = transforms.random_crop_boxes(3, 32, 32, SCALE, RATIO, generator(11, "golden"))
    tall = transforms.random_crop_boxes(2, 500, 90, (0.9, 1.0), RATIO, generator(12, "golden"))
    assert torch.cat([boxes, tall]).tolist() == GOLDEN_BOXES
    draw = generator(13, "golden")
    sums = [0.0, 0.0, 0.0, 0.0]
    for height in range(1, 400, 7):
        boxes = transforms.random_crop_boxes(1 + height % 5, height, 200, SCALE, RATIO, draw)
        sums = [a + b for a, b in zip(sums, boxes.double().sum(dim=0).tolist(), strict=True)]
    assert sums == GOLDEN_SUMS
