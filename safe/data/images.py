"""Image files read as upright RGB, whole or their centre square; an error names the file that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from safe.backbones.resize import UNSTATED, Resize
from safe.data.parallel import in_threads
from safe.errors import UserError, shown
from safe.io.opening import open_regular

if TYPE_CHECKING:
    from safe.data.cache import ImageCache, Pack

# What a file is read as, whatever its name says. Of Pillow's other formats some run a program (EPS starts Ghostscript).
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF", "GIF")
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
    """Image files, decoded on reading: whole, or shorter side resized for a network that sees `size`, centre kept.

    `wholes` and `squares` keep what was decoded; see `kept_in`.
    """

    paths: tuple[str, ...]
    labels: Tensor
    size: int
    resize: Resize = UNSTATED
    wholes: Pack | None = None
    squares: Pack | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def kept_in(self, cache: ImageCache, name: str) -> FileImages:
        """Return the same images, kept in a cache once they are decoded; `name` begins the names of its files."""
        wholes = cache.pack(f"{name}-whole", self.paths)
        by = "" if self.resize.interpolation == "bicubic" else f"-{self.resize.interpolation}"
        squares = cache.pack(f"{name}-{self.resize.side(self.size)}px{by}", self.paths)
        return replace(self, wholes=wholes, squares=squares)

    def read(self, index: Tensor) -> Tensor:
        return torch.stack(in_threads(self._square, index.tolist()))

    def whole(self, index: Tensor) -> Sequence[Callable[[], Tensor]]:
        return [partial(self.picture, i) for i in index.tolist()]

    def picture(self, i: int) -> Tensor:
        """Return image `i` whole, uint8 (3, H, W)."""
        decode = partial(self._decoded, i)
        return (self.wholes.get(i, decode) if self.wholes else decode()).permute(2, 0, 1)

    def _square(self, i: int) -> Tensor:
        decode = partial(self._made_square, i)
        return self.squares.get(i, decode) if self.squares else decode()

    def _made_square(self, i: int) -> Tensor:
        rows = self.wholes.find(i) if self.wholes else None
        whole = (self._decoded(i) if rows is None else rows).permute(2, 0, 1)
        return _square(whole, self.resize.side(self.size), self.resize.interpolation)

    def _decoded(self, i: int) -> Tensor:
        """Return image `i` as Pillow lays it out, row by row, (H, W, 3)."""
        return _pixels(read_rgb(self.paths[i]))


def read_square(path: str | Path | BinaryIO, side: int, interpolation: str = "bicubic") -> Tensor:
    """Return an image file as uint8 (3, side, side), as `FileImages` gives it; see `read_rgb`."""
    return _square(_pixels(read_rgb(path)).permute(2, 0, 1), side, interpolation)


def read_rgb(path: str | Path | BinaryIO) -> Image.Image:
    """Return an image file, named or opened, as upright RGB.

    EXIF orientation is applied, so that a picture stands as its photographer saw it; transparency is shown on white,
    16-bit grey scaled to 8 bit, and of an animation the first frame taken.

    Raises:
        UserError: a file that is missing, no regular file, empty, truncated or damaged, of none of `FORMATS`, has float
            pixels, or more than `MAX_PIXELS`.
    """
    try:
        with _opened(path) as file, Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS}")
            image.load()
            return _rgb(_upright(image))
    except Exception as error:  # damaged files raise whatever their decoder meets; it all means the same
        raise _unreadable(path, error) from None


def require_readable(path: str | Path) -> None:
    """Raise the `UserError` of `read_rgb`, also for damage that decoding passes over (checksums of the container)."""
    read_rgb(path)
    try:
        with _opened(path) as file, Image.open(file, formats=FORMATS) as image:
            image.verify()
    except Exception as error:
        raise _unreadable(path, error) from None


def _opened(path: str | Path | BinaryIO) -> AbstractContextManager[BinaryIO]:
    return open_regular(path) if isinstance(path, str | Path) else nullcontext(path)


def _unreadable(path: str | Path | BinaryIO, error: Exception) -> UserError:
    name = f" {shown(str(path))}" if isinstance(path, str | Path) else ""
    reason: object = (error.strerror if isinstance(error, OSError) else None) or error
    if isinstance(error, UnidentifiedImageError):
        reason = f"it is none of {', '.join(FORMATS)}"
    return UserError(f"cannot read the image{name}: {reason}")


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
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def _pixels(image: Image.Image) -> Tensor:
    """Return an RGB image as (H, W, 3); torchvision's way copies it once more."""
    return torch.from_numpy(np.array(image))


def _square(pixels: Tensor, side: int, interpolation: str) -> Tensor:
    height, width = pixels.shape[-2:]
    longest = MAX_ASPECT * min(height, width)
    if max(height, width) > longest:
        pixels = V.center_crop(pixels, [min(height, longest), min(width, longest)])
    resized = V.resize(pixels, [side], interpolation=V.InterpolationMode(interpolation), antialias=True)
    # One layout in memory, kept or not. By numpy: torch would copy with threads of its own inside each of ours.
    return torch.from_numpy(np.ascontiguousarray(V.center_crop(resized, [side, side]).numpy()))
