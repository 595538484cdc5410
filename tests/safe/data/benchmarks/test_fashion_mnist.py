"""Fashion-MNIST's idx files: read as they are, refused in words where they are damaged, and fetched as a folder."""

from __future__ import annotations

import gzip
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from safe.config import load_config
from safe.data.__main__ import main
from safe.data.benchmarks.fashion_mnist import load_fashion_mnist
from safe.data.loading import load_dataset
from safe.datasets.facts import IDX_FILES, require_dataset
from safe.errors import UserError
from safe.training.trainer import SafeTrainer

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
EACH = {"train": 3, "t10k": 2}  # images of a class


def idx(numbers: np.ndarray) -> bytes:
    """The idx format: two zeros, type 8 (bytes), how many axes, their lengths (highest byte first), the bytes."""
    return struct.pack(f">HBB{numbers.ndim}I", 0, 8, numbers.ndim, *numbers.shape) + numbers.astype(np.uint8).tobytes()


def write(root: Path, file: str, content: bytes) -> None:
    with gzip.open(root / file, "wb") as packed:
        packed.write(content)


def pixels(split: str) -> np.ndarray:
    return np.random.RandomState(EACH[split]).randint(0, 256, (10 * EACH[split], 28, 28)).astype(np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "fashion_mnist"
    folder.mkdir(parents=True)
    for split, count in EACH.items():
        write(folder, f"{split}-images-idx3-ubyte.gz", idx(pixels(split)))
        write(folder, f"{split}-labels-idx1-ubyte.gz", idx(np.arange(10 * count) % 10))
    return folder


def test_pixels_and_labels_are_those_of_the_files(root: Path) -> None:
    dataset = load_fashion_mnist(root)
    assert dataset.classes[0] == "T-shirt/top"
    assert dataset.classes[9] == "Ankle boot"
    for images, split in ((dataset.train, "train"), (dataset.test, "t10k")):
        read = images.read(torch.arange(len(images)))
        assert read.shape == (10 * EACH[split], 3, 28, 28)
        for channel in read.unbind(1):
            assert np.array_equal(channel.numpy(), pixels(split))
        assert images.labels.tolist() == list(range(10)) * EACH[split]
    before = dataset.digest
    write(root, LABELS, idx(np.arange(30) // 3))
    assert load_fashion_mnist(root).digest != before


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (IMAGES, b"", "no idx file of bytes with 3 axes: it begins with $"),
        (IMAGES, b"\x89PNG", "no idx file of bytes with 3 axes: it begins with 89 50 4e 47"),
        (LABELS, idx(np.zeros((30, 28, 28))), "no idx file of bytes with 1 axes: it begins with 00 00 08 03"),
        (IMAGES, idx(pixels("train"))[:-1], "holds 23520 bytes, and there are only 23519"),
        (IMAGES, idx(pixels("train")) + b"x", "holds 23520 bytes, and there are more"),
        (IMAGES, struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 4), r"holds \[2147483648, 2147483648, 4\] bytes"),
        (IMAGES, struct.pack(">HBB2I", 0, 8, 3, 30, 28), r"holds \[30, 28\] bytes: it is damaged"),
        (IMAGES, idx(np.zeros((0, 28, 28))), r"holds no image: \(0, 28, 28\)"),
        (LABELS, idx(np.arange(29) % 10), "holds 30 images, but .*labels-idx1-ubyte.gz 29 labels"),
        (LABELS, idx(np.arange(30) % 11), "holds the label 10, but there are 10 classes from 0"),
    ],
)
def test_files_that_are_not_what_they_should_be(root: Path, file: str, content: bytes, message: str) -> None:
    write(root, file, content)
    with pytest.raises(UserError, match=message) as error:
        load_fashion_mnist(root)
    assert str(root / file) in str(error.value)


@pytest.mark.parametrize("damage", ["cut", "bytes", "plain", "missing"])
def test_a_damaged_archive_is_named(root: Path, damage: str) -> None:
    path = root / IMAGES
    packed = path.read_bytes()
    changed = {"cut": packed[:-400], "bytes": packed[:600] + b"\0" * 40 + packed[640:], "plain": b"not gzip at all"}
    path.unlink()
    if damage in changed:
        path.write_bytes(changed[damage])
    with pytest.raises(UserError, match=r"cannot read .*fetch it again") as error:
        load_fashion_mnist(root)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.filterwarnings("ignore:.*are published")
def test_it_is_fetched_from_a_folder_or_an_archive(
    root: Path, tmp_path: Path, packed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    source, other = root, tmp_path / "other"
    if packed:
        source = tmp_path / "fashion.tar"
        with tarfile.open(source, "w") as archive:
            for file in IDX_FILES:
                archive.add(root / file, f"FashionMNIST/raw/{file}")
    assert main(["fetch", "fashion-mnist", "--root", str(other), "--from", str(source)]) == 0
    assert sorted(path.name for path in (other / "fashion_mnist").iterdir()) == sorted(IDX_FILES)
    assert load_dataset("fashion_mnist", other, 56).digest == load_fashion_mnist(root).digest
    (other / "fashion_mnist" / IMAGES).unlink()
    with pytest.raises(UserError, match=rf"(?s)no {IMAGES} under .*fetch fashion_mnist"):
        require_dataset("fashion_mnist", other)


@pytest.mark.filterwarnings("ignore:.*are published")
def test_the_preset_runs_over_five_sessions_of_two_classes(root: Path, tiny_vit: VisionTransformer) -> None:
    config = load_config("fashion_mnist")
    assert (config.backbone.name, config.backbone.image_size) == ("vit_small_patch14_dinov2.lvd142m", 56)
    assert config.backbone.input_norm == "pretrained"
    small = {"backbone.image_size": None, "slow.epochs": 1, "fast.epochs": 1, "head.projection_dim": 32}
    config = load_config("fashion_mnist", overrides={**small, "data.root": str(root.parent), "runtime.device": "cpu"})
    trainer = SafeTrainer(config, backbone=tiny_vit)
    assert [len(session.classes) for session in trainer.stream.sessions] == [2] * 5
    assert [len(session.train) for session in trainer.stream.sessions] == [6] * 5
    result = trainer.run_session()
    assert result.classes_seen == 2
