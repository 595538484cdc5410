"""CIFAR-100's binary records, and the views that the network gets of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from safe.data.benchmarks.cifar import load_cifar100
from safe.data.loading import load_dataset
from safe.data.transforms import plain_view
from safe.datasets.facts import require_dataset
from safe.errors import UserError

NAMES = ("apple", "aquarium_fish", "baby")


def write(root: Path, split: str, labels: list[int], seed: int = 0) -> np.ndarray:
    """Write records with random pixels; return the pixels (N, 3, 32, 32)."""
    pixels = np.random.RandomState(seed).randint(0, 256, (len(labels), 3, 32, 32)).astype(np.uint8)
    records = [bytes([19, label]) + picture.tobytes() for label, picture in zip(labels, pixels, strict=True)]
    (root / f"{split}.bin").write_bytes(b"".join(records))
    return pixels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar100"
    folder.mkdir()
    write(folder, "train", [2, 0, 1, 0])
    write(folder, "test", [1, 2, 0], seed=1)
    (folder / "fine_label_names.txt").write_text("\n".join(NAMES) + "\n\n")
    return folder


def test_fine_labels_names_and_pixels_are_those_of_the_records(root: Path) -> None:
    pixels = write(root, "train", [2, 0, 1, 0])
    dataset = load_cifar100(root)
    assert (dataset.name, dataset.classes) == ("cifar100", NAMES)
    assert dataset.train.labels.tolist() == [2, 0, 1, 0]
    assert dataset.test.labels.tolist() == [1, 2, 0]
    assert torch.equal(dataset.train.read(torch.tensor([3, 0])), torch.from_numpy(pixels[[3, 0]]))


def test_the_plain_view_is_the_picture_enlarged_bicubically(root: Path) -> None:
    # Moderate contrast: Pillow cuts overshoot off after each of its two passes, which is not what is compared here.
    picture = load_cifar100(root).test.read(torch.tensor([0])) // 2 + 64
    view = plain_view(picture, 224)[0]
    enlarged = Image.fromarray(picture[0].permute(1, 2, 0).numpy()).resize((224, 224), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.array(enlarged)).permute(2, 0, 1) / 255
    assert view.shape == (3, 224, 224)
    assert float((view - expected).abs().max()) <= 1.25 / 255  # Pillow rounds to bytes after each of its passes


def test_the_digest_follows_the_bytes(root: Path) -> None:
    first = load_cifar100(root).digest
    assert load_cifar100(root).digest == first
    write(root, "test", [1, 2, 0], seed=2)
    assert load_cifar100(root).digest != first


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("cut", [1, 3073])
def test_a_file_that_is_cut_off_is_refused(root: Path, split: str, cut: int) -> None:
    path = root / f"{split}.bin"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UserError, match="not a whole number of records of 3074") as error:
        load_cifar100(root)
    assert str(path) in str(error.value)


def test_an_empty_file_and_a_label_without_name_are_refused(root: Path) -> None:
    (root / "test.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"test\.bin has 0 bytes"):
        load_cifar100(root)
    write(root, "test", [0, 3])
    with pytest.raises(UserError, match=r"test\.bin has the label 3, but fine_label_names\.txt names 3 classes"):
        load_cifar100(root)


def test_missing_files_are_named_with_their_place(root: Path) -> None:
    (root / "test.bin").unlink()
    for call in (require_dataset, lambda name, where: load_dataset(name, where, 32)):
        with pytest.raises(UserError, match=r"no test\.bin under") as error:
            call("cifar224", root.parent)
        for part in (str(root / "fine_label_names.txt"), "binary version", "50000", "safe.data fetch cifar100"):
            assert part in str(error.value)
    with pytest.raises(UserError, match="cannot read CIFAR-100"):
        load_cifar100(root)
