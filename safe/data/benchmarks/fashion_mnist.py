"""Fashion-MNIST from its four gzipped idx files, as they are published.

Source: H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747. An idx file is two zero bytes, the type of its numbers (8: one
byte), how many axes it has, the length of each axis (four bytes, the highest first), and the numbers.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from safe.data.sources import ArrayImages, Dataset, arrays_digest
from safe.errors import UserError
from safe.io.opening import open_regular

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
MOST_BYTES = 2**30  # of one file, unpacked; those that are published have 47 MB at most
_BYTES = 8  # the type of the numbers


def load_fashion_mnist(root: Path) -> Dataset:
    """Return the grey images at their own 28x28 pixels.

    Raises:
        UserError: names the file that is missing, damaged, no idx file, or does not fit its images or labels.
    """
    train, test = (_images(root, split) for split in ("train", "t10k"))
    return Dataset("fashion_mnist", CLASSES, train, test, arrays_digest(train, test))


def _images(root: Path, split: str) -> ArrayImages:
    paths = root / f"{split}-images-idx3-ubyte.gz", root / f"{split}-labels-idx1-ubyte.gz"
    pixels, labels = read_idx(paths[0], 3), read_idx(paths[1], 1).long()
    if not len(pixels) or not pixels[0].numel():
        raise UserError(f"{paths[0]} holds no image: {tuple(pixels.shape)}")
    if len(pixels) != len(labels):
        raise UserError(f"{paths[0]} holds {len(pixels)} images, but {paths[1]} {len(labels)} labels")
    if int(labels.max()) >= len(CLASSES):
        raise UserError(f"{paths[1]} holds the label {int(labels.max())}, but there are {len(CLASSES)} classes from 0")
    return ArrayImages(pixels.unsqueeze(1), labels)


def read_idx(path: Path, axes: int) -> Tensor:
    """Return the uint8 tensor of a gzipped idx file with so many axes.

    Raises:
        UserError: the file is missing, damaged, cut off, of another kind, or unpacks to more than `MOST_BYTES`.
    """
    try:
        with open_regular(path) as file, gzip.GzipFile(fileobj=file) as unpacked:
            magic = unpacked.read(4)
            if magic != bytes([0, 0, _BYTES, axes]):
                raise UserError(f"{path} is no idx file of bytes with {axes} axes: it begins with {magic.hex(' ')}")
            shape = np.frombuffer(unpacked.read(4 * axes), dtype=">u4").tolist()
            if len(shape) != axes or math.prod(shape) > MOST_BYTES:
                raise UserError(f"{path} says that it holds {shape} bytes: it is damaged")
            content = unpacked.read(math.prod(shape) + 1)
    except (OSError, EOFError, zlib.error) as error:
        again = "fetch it again (python -m safe.data fetch fashion_mnist)"
        raise UserError(f"cannot read {path}: {error}; {again}") from None
    if len(content) != math.prod(shape):
        more = "more" if len(content) > math.prod(shape) else f"only {len(content)}"
        raise UserError(f"{path} says that it holds {math.prod(shape)} bytes, and there are {more}: it is damaged")
    return torch.from_numpy(np.frombuffer(bytearray(content), dtype=np.uint8)).view(*shape)
