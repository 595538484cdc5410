"""CIFAR-100 from its binary version: plain bytes, so nothing is unpickled.

Source: A. Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html, "CIFAR-100 binary version".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from safe.data.sources import ArrayImages, Dataset, arrays_digest
from safe.errors import UserError

SIDE = 32
_RECORD = 2 + 3 * SIDE * SIDE  # coarse label, fine label, then red, green and blue rows


def load_cifar100(root: Path) -> Dataset:
    """Return the images at their own 32x32 pixels.

    The training view crops from these pixels and the plain view enlarges them bicubically to the network's size, both
    as in the published settings.

    Raises:
        UserError: a file that is missing or is not whole records, or a label without a name.
    """
    try:
        names = tuple((root / "fine_label_names.txt").read_text("utf-8").split())
        train, test = (_read(root / f"{split}.bin", len(names)) for split in ("train", "test"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read CIFAR-100 in {root}: {error}") from None
    return Dataset("cifar100", names, train, test, arrays_digest(train, test))


def _read(path: Path, classes: int) -> ArrayImages:
    content = np.fromfile(path, dtype=np.uint8)
    if not len(content) or len(content) % _RECORD:
        raise UserError(f"{path} has {len(content)} bytes, not a whole number of records of {_RECORD}")
    records = torch.from_numpy(content).view(-1, _RECORD)
    labels = records[:, 1].long()
    if int(labels.max()) >= classes:
        raise UserError(f"{path} has the label {int(labels.max())}, but fine_label_names.txt names {classes} classes")
    return ArrayImages(records[:, 2:].reshape(-1, 3, SIDE, SIDE), labels)
