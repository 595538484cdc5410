"""The `digits` data set: the 1 797 handwritten digits that scikit-learn ships."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits as load_digit_images
from torch.nn import functional

from safe.data.sources import ArrayImages, Dataset, arrays_digest
from safe.seeding import generator

IMAGE_SIZE = 32
TEST_SHARE = 0.2
SPLIT_SEED = 0


def load_digits() -> Dataset:
    """Return the digits as 32x32 pictures, 80 % of every class for training; the split is fixed.

    The 8x8 images with values 0..16 are scaled to 0..255 and enlarged bilinearly.
    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository (its test part).
    """
    bunch = load_digit_images()
    labels = torch.from_numpy(bunch.target).long()
    images = torch.from_numpy(bunch.images)[:, None] * (255.0 / 16.0)
    enlarged = functional.interpolate(images, size=IMAGE_SIZE, mode="bilinear", align_corners=False)
    pixels = enlarged.round().clamp(0, 255).to(torch.uint8)
    train, test = [], []
    for label in range(10):
        members = (labels == label).nonzero()[:, 0]
        shuffled = members[torch.randperm(len(members), generator=generator(SPLIT_SEED, "digits", "split", label))]
        held_out = round(TEST_SHARE * len(members))
        test.append(shuffled[:held_out].sort().values)
        train.append(shuffled[held_out:].sort().values)
    first, second = (ArrayImages(pixels[index], labels[index]) for index in (torch.cat(train), torch.cat(test)))
    return Dataset("digits", tuple(str(label) for label in range(10)), first, second, arrays_digest(first, second))
