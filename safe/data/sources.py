"""Labelled images: the one interface that every dataset is read through.

An `Images` object hands out uint8 batches by index; everything after it (holdout, sessions, transforms)
only sees indices and labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Images(Protocol):
    """A labelled list of images."""

    @property
    def labels(self) -> Tensor:
        """Class index of every image, int64, shape (N,), in [0, C)."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: Tensor) -> Tensor:
        """Return the images at `index` (int64, shape (B,)) as uint8, shape (B, 3, H, W), for the plain view."""
        ...

    def whole(self, index: Tensor) -> Tensor | Sequence[Callable[[], Tensor]]:
        """Return the images at `index` without a cut, for random crops.

        Either one batch, as `read` gives it, or one function per image, which returns it as uint8 (3, H, W).
        """
        ...


@dataclass(frozen=True)
class ArrayImages:
    """Images held in memory.

    `pixels` is uint8 of shape (N, 3, H, W) or, for grey images, (N, 1, H, W): the one channel is repeated on reading.
    """

    pixels: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4 or self.pixels.shape[1] not in (1, 3):
            raise ValueError(
                f"pixels must be uint8 (N, 1 or 3, H, W), got {self.pixels.dtype} {tuple(self.pixels.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != (len(self.pixels),):
            raise ValueError(f"labels must be int64 ({len(self.pixels)},), got {tuple(self.labels.shape)}")

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: Tensor) -> Tensor:
        batch = self.pixels[index]
        return batch.expand(-1, 3, -1, -1) if batch.shape[1] == 1 else batch

    def whole(self, index: Tensor) -> Tensor:
        return self.read(index)

    def digest(self) -> str:
        """SHA-256 of pixels, labels and shape: equal exactly when the images are."""
        h = hashlib.sha256(repr(tuple(self.pixels.shape)).encode())
        h.update(self.pixels.contiguous().numpy().tobytes())
        h.update(self.labels.contiguous().numpy().tobytes())
        return h.hexdigest()


@dataclass(frozen=True)
class Domains:
    """Which domain every image of a domain-incremental data set belongs to.

    Attributes:
        names: the domains in order of arrival.
        train, test: int64, shapes (N_train,) and (N_test,): position in `names` of every image.
    """

    names: tuple[str, ...]
    train: Tensor
    test: Tensor


@dataclass(frozen=True)
class Dataset:
    """One benchmark: its classes, its training images and its test images.

    `digest` identifies the data and goes into every result. With `domains`, sessions are domains, not classes. `notes`
    are sentences that whoever uses the data should read.
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    test: Images
    digest: str
    domains: Domains | None = None
    notes: tuple[str, ...] = ()


def arrays_digest(train: ArrayImages, test: ArrayImages) -> str:
    """Return the SHA-256 of training and test images that are held in memory."""
    return hashlib.sha256((train.digest() + test.digest()).encode()).hexdigest()


def content_digest(classes: Sequence[str], train: Images, test: Images) -> str:
    """Return the SHA-256 of the names of classes, and of all pixels and labels as they are read."""
    h = hashlib.sha256(repr(list(classes)).encode())
    for images in (train, test):
        h.update(f"{len(images)}".encode())
        h.update(images.labels.contiguous().numpy().tobytes())
        for index in torch.arange(len(images)).split(256):
            pixels = images.read(index)
            h.update(f"{tuple(pixels.shape)}".encode())
            h.update(pixels.contiguous().numpy().tobytes())
    return h.hexdigest()
