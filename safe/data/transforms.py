"""Training and plain views of uint8 images, on the device, in one vectorised pass per batch.

Images of different sizes are cropped and resized one by one before they form a batch, always on the CPU, so that the
pixels are the same for every device. Views are in [0, 1]; `NetworkInput.normalised` scales them as the network wants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from safe.backbones.network_input import NetworkInput
from safe.data.parallel import in_threads

Floats = NDArray[np.float32]
AT_ONCE = 8  # images that a thread takes at a time and so holds whole: photographs may be large


def to_unit(batch: Tensor) -> Tensor:
    """Return uint8 pixels as float32 in [0, 1]."""
    return batch.to(torch.float32).div_(255.0)


def random_crop_boxes(
    count: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Draw crop boxes as torchvision's RandomResizedCrop does, for a whole batch at once.

    Area uniform in `scale` times the image's, aspect ratio (width / height) log-uniform in `ratio`; up to ten draws,
    then the largest central crop whose aspect ratio lies in range.

    Returns:
        float32 (count, 4): top, left, height, width, in whole pixels.
    """
    draws = _crop_draws(count, scale, ratio, generator)
    return torch.from_numpy(_boxes(draws, [height] * count, [width] * count, ratio))


# Share of the area and aspect ratio of ten candidates, and place; float32 of shapes (B, 10), (B, 10), (B, 2).
_CropDraws = tuple[Tensor, Tensor, Tensor]


def _crop_draws(
    count: int, scale: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator
) -> _CropDraws:
    """Draw all that is random in crop boxes, which needs no image yet."""
    share = torch.empty(count, 10).uniform_(scale[0], scale[1], generator=generator)
    aspect = torch.empty(count, 10).uniform_(math.log(ratio[0]), math.log(ratio[1]), generator=generator).exp()
    place = torch.rand(count, 2, generator=generator)
    return share, aspect, place


def _boxes(draws: _CropDraws, heights: Sequence[int], widths: Sequence[int], ratio: tuple[float, float]) -> Floats:
    """Return the boxes in images of these sizes; see `random_crop_boxes`."""
    share, aspect, place = draws
    area = share * torch.tensor([h * w for h, w in zip(heights, widths, strict=True)]).unsqueeze(1)
    height, width = (np.asarray(side, dtype=np.float32) for side in (heights, widths))
    # From here on in numpy, whose small operations cost less; its square root rounds otherwise than torch's.
    w, h = (square.sqrt().round().numpy() for square in (area * aspect, area / aspect))
    fits = (w > 0) & (w <= width[:, None]) & (h > 0) & (h <= height[:, None])
    every, first = np.arange(len(fits)), fits.argmax(axis=1)
    w, h = w[every, first], h[every, first]

    centre = ~fits[every, first]  # none fits
    for i in np.flatnonzero(centre).tolist():
        image_ratio = widths[i] / heights[i]
        w[i] = widths[i] if image_ratio <= ratio[1] else round(heights[i] * ratio[1])
        h[i] = heights[i] if image_ratio >= ratio[0] else round(widths[i] / ratio[0])
    free = np.stack([height - h, width - w], axis=1)
    corner = np.where(centre[:, None], np.floor(free / 2), np.floor(place.numpy() * (free + 1)))
    return np.concatenate([corner, h[:, None], w[:, None]], axis=1)


def crop_and_resize(batch: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    """Cut a box out of every image and resize it bilinearly to (size, size), flipped left to right where `flip`.

    Equals torchvision's resize without antialiasing of each crop: samples stay inside the crop.

    Args:
        batch: float (B, C, H, W).
        boxes: float (B, 4) as `random_crop_boxes` gives.
        flip: bool (B,).
        size: side of the result in pixels.
    """
    height, width = batch.shape[-2:]
    steps = (torch.arange(size, device=batch.device, dtype=batch.dtype) + 0.5) / size
    top, left, h, w = (column.unsqueeze(1) for column in boxes.to(batch).unbind(1))

    def pixels(start: Tensor, length: Tensor) -> Tensor:
        """Source coordinate of every target pixel, clamped to the crop's first and last pixel centre."""
        return start + torch.minimum((steps * length - 0.5).clamp(min=0), length - 1)

    y, x = pixels(top, h), pixels(left, w)
    x = torch.where(flip.to(batch.device).unsqueeze(1), x.flip(1), x)
    grid = torch.stack(
        [
            ((2 * x + 1) / width - 1).unsqueeze(1).expand(-1, size, -1),
            ((2 * y + 1) / height - 1).unsqueeze(2).expand(-1, -1, size),
        ],
        dim=-1,
    )
    return F.grid_sample(batch, grid, mode="bilinear", padding_mode="border", align_corners=False)


def train_view(
    images: Tensor | Sequence[Callable[[], Tensor]],
    size: int,
    *,
    crop_scale: tuple[float, float],
    crop_ratio: tuple[float, float],
    horizontal_flip: float,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return an augmented batch on `device`: random resized crop, then a left-right flip with the given probability.

    Args:
        images: uint8 (B, 3, H, W), or what gives each image, uint8 (3, H, W) of any size: those are resized with
            antialiasing, as torchvision does with image files, and side by side in threads.
        size: side of the result.
        crop_scale, crop_ratio, horizontal_flip: see `DataConfig`.
        generator: CPU generator that every draw comes from.
    """
    if isinstance(images, Tensor):
        count, _, height, width = images.shape
        boxes = random_crop_boxes(count, height, width, crop_scale, crop_ratio, generator)
        flip = torch.rand(count, generator=generator) < horizontal_flip
        return crop_and_resize(to_unit(images.to(device)), boxes, flip, size)
    draws, flips = [], []
    for _ in images:
        draws.append(_crop_draws(1, crop_scale, crop_ratio, generator))
        flips.append(bool(torch.rand(1, generator=generator) < horizontal_flip))
    batch = torch.empty(len(images), 3, size, size, dtype=torch.uint8)

    def draw(positions: range) -> None:
        """Draw the views of a few images, whose boxes cost as much as those of one."""
        whole = [images[position]().permute(1, 2, 0).numpy() for position in positions]
        share, aspect, place = (torch.cat(parts) for parts in zip(*(draws[p] for p in positions), strict=True))
        heights, widths = ([image.shape[side] for image in whole] for side in (0, 1))
        boxes = _boxes((share, aspect, place), heights, widths, crop_ratio).astype(int).tolist()
        for position, image, (top, left, h, w) in zip(positions, whole, boxes, strict=True):
            # Cut out by numpy: torch would copy with threads of its own inside each of ours.
            crop = torch.from_numpy(np.ascontiguousarray(image[top : top + h, left : left + w]))
            view = V.resize(crop.permute(2, 0, 1), [size, size], antialias=True)
            batch[position] = view.flip(2) if flips[position] else view

    every = range(len(images))
    in_threads(draw, [every[start : start + AT_ONCE] for start in every[::AT_ONCE]])
    return to_unit(batch.to(device))


def plain_view(batch: Tensor, size: int, interpolation: str = "bicubic") -> Tensor:
    """Return the un-augmented view: the centre `size` x `size` pixels in [0, 1]; smaller images are resized up."""
    height, width = batch.shape[-2:]
    if height < size or width < size:
        return F.interpolate(to_unit(batch), size=(size, size), mode=interpolation, antialias=True).clamp(0, 1)
    top, left = (height - size) // 2, (width - size) // 2
    return to_unit(batch[..., top : top + size, left : left + size])


def network_view(batch: Tensor, seen: NetworkInput) -> Tensor:
    """Return the plain view of uint8 images as a network takes it."""
    return seen.normalised(plain_view(batch, seen.size, seen.resize.interpolation))
