"""Training and plain views of uint8 images, on the device, in one vectorised pass per batch.

Images of different sizes are cropped and resized one by one before they are a batch. Pixels go to the network in
[0, 1] without mean and standard deviation, as in the published settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as V


def to_unit(batch: Tensor) -> Tensor:
    """Return uint8 pixels as float32 in [0, 1]."""
    return batch.to(torch.float32) / 255.0


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
    area = torch.empty(count, 10).uniform_(scale[0], scale[1], generator=generator) * (height * width)
    aspect = torch.empty(count, 10).uniform_(math.log(ratio[0]), math.log(ratio[1]), generator=generator).exp()
    place = torch.rand(count, 2, generator=generator)
    w = (area * aspect).sqrt().round()
    h = (area / aspect).sqrt().round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.to(torch.int8).argmax(dim=1, keepdim=True)
    w, h = w.gather(1, first).squeeze(1), h.gather(1, first).squeeze(1)

    centre = ~fits.any(dim=1)
    image_ratio = width / height
    fallback_w = width if image_ratio <= ratio[1] else round(height * ratio[1])
    fallback_h = height if image_ratio >= ratio[0] else round(width / ratio[0])
    w = torch.where(centre, float(fallback_w), w)
    h = torch.where(centre, float(fallback_h), h)
    top = torch.where(centre, ((height - h) / 2).floor(), (place[:, 0] * (height - h + 1)).floor())
    left = torch.where(centre, ((width - w) / 2).floor(), (place[:, 1] * (width - w + 1)).floor())
    return torch.stack([top, left, h, w], dim=1)


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
    images: Tensor | Iterable[Tensor],
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
        images: uint8 (B, 3, H, W), or one (3, H, W) of any size after the other: those are resized with antialiasing,
            as torchvision does with image files.
        size: side of the result.
        crop_scale, crop_ratio, horizontal_flip: see `DataConfig`.
        generator: CPU generator that every draw comes from.
    """
    if isinstance(images, Tensor):
        count, _, height, width = images.shape
        boxes = random_crop_boxes(count, height, width, crop_scale, crop_ratio, generator)
        flip = torch.rand(count, generator=generator) < horizontal_flip
        return crop_and_resize(to_unit(images.to(device)), boxes, flip, size)
    crops, flips = [], []
    for image in images:
        height, width = image.shape[-2:]
        box = random_crop_boxes(1, height, width, crop_scale, crop_ratio, generator)[0]
        top, left, h, w = (int(side) for side in box)
        crops.append(V.resized_crop(image, top, left, h, w, [size, size], antialias=True))
        flips.append(torch.rand(1, generator=generator) < horizontal_flip)
    batch = to_unit(torch.stack(crops).to(device))
    return torch.where(torch.stack(flips).to(device).view(-1, 1, 1, 1), batch.flip(3), batch)


def plain_view(batch: Tensor, size: int) -> Tensor:
    """Return the un-augmented view: the centre `size` x `size` pixels in [0, 1]; smaller images are resized up."""
    height, width = batch.shape[-2:]
    unit = to_unit(batch)
    if height < size or width < size:
        return F.interpolate(unit, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (height - size) // 2, (width - size) // 2
    return unit[..., top : top + size, left : left + size]
