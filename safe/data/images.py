"""Image files: whatever is in them becomes upright RGB, whole or its centre square, or an error that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from safe.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
MAX_PIXELS = 178_956_970  # where Pillow itself begins to refuse, stated here so that nobody's setting moves it
MAX_ASPECT = 16  # longer strips are cut to this before resizing: only their centre is kept anyway
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class FileImages:
    """Image files, decoded on reading: whole, or shorter side resized to 256/224 of `size` (bicubic), centre kept."""

    paths: tuple[str, ...]
    labels: Tensor
    size: int

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: Tensor) -> Tensor:
        return torch.stack([read_square(self.paths[i], self.size) for i in index.tolist()])

    def whole(self, index: Tensor) -> Iterator[Tensor]:
        return (V.pil_to_tensor(read_rgb(self.paths[i])) for i in index.tolist())


def read_square(path: str | Path | BinaryIO, size: int) -> Tensor:
    """Return an image file as uint8 (3, S, S), S = 256/224 of `size`, as `FileImages` gives it; see `read_rgb`."""
    return _square(read_rgb(path), round(size * 256 / 224))


def read_rgb(path: str | Path | BinaryIO) -> Image.Image:
    """Return an image file, named or opened, as upright RGB.

    EXIF orientation is applied, transparency shown on white, 16-bit grey scaled to 8 bit, and of an animation the
    first frame taken.

    Raises:
        UserError: a file that is missing, empty, truncated or damaged, has float pixels, or more than `MAX_PIXELS`.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS}")
            image.load()
            return _rgb(_upright(image))
    except Exception as error:  # damaged files raise whatever their decoder meets; it all means the same
        raise UserError(f"cannot read the image {path}: {error}") from None


def require_readable(path: str | Path) -> None:
    """Raise the `UserError` of `read_rgb`, also for damage that decoding passes over (checksums of the container)."""
    read_rgb(path)
    try:
        with Image.open(path) as image:
            image.verify()
    except Exception as error:
        raise UserError(f"cannot read the image {path}: {error}") from None


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a damaged EXIF block says nothing about the pixels
        turn = None
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        # Pillow would cut 16-bit values off at 255.
        image = Image.fromarray(((np.asarray(image).clip(0, 65_535).astype(np.int64) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
    return image.convert("RGB")


def _square(image: Image.Image, side: int) -> Tensor:
    longest = MAX_ASPECT * min(image.size)
    pixels = V.pil_to_tensor(image)
    if max(image.size) > longest:
        pixels = V.center_crop(pixels, [min(image.height, longest), min(image.width, longest)])
    resized = V.resize(pixels, [side], interpolation=V.InterpolationMode.BICUBIC, antialias=True)
    return V.center_crop(resized, [side, side])
