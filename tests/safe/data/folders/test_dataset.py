"""Folder data sets: labels by sorted names, sizes, and refusals that name the file."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from safe.backbones.resize import Resize
from safe.data.folders.dataset import load_folder
from safe.data.images import FileImages
from safe.datasets.listing import IMAGE_SUFFIXES
from safe.errors import UserError
from safe.seeding import generator

CLASSES = ("10_cat", "2_dog", "Bird", "ant")  # sorted as Python sorts strings


def write(path: Path, width: int = 20, height: int = 30, colour: tuple[int, int, int] = (10, 20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), colour).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, name in enumerate(reversed(CLASSES)):
        for split, count in (("train", 3), ("test", 2)):
            for i in range(count):
                write(tmp_path / split / name / f"{i}.png", colour=(40 * number, i, 9 * (split == "test")))
    return tmp_path


def test_labels_follow_sorted_folder_names(root: Path) -> None:
    dataset = load_folder("pets", root, 32)
    assert (dataset.name, dataset.classes) == ("pets", CLASSES)
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert dataset.test.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert dataset.train.labels.dtype == torch.int64
    reds = dataset.train.read(torch.tensor([0, 3, 6, 9]))[:, 0].flatten(1).float().mean(dim=1)
    assert reds.tolist() == [120, 80, 40, 0]
    greens = dataset.train.read(torch.tensor([2, 0, 1]))[:, 1].flatten(1).float().mean(dim=1)
    assert greens.tolist() == [2, 0, 1]


def test_hidden_folders_and_other_files_are_not_images(root: Path) -> None:
    before = load_folder("pets", root, 32)
    write(root / "train" / ".cache" / "0.png")
    write(root / "train" / "ant" / ".hidden.png")
    (root / "train" / "ant" / "notes.txt").write_text("no image")
    (root / "train" / "list.csv").write_text("no folder")
    after = load_folder("pets", root, 32)
    assert after.classes == before.classes
    assert len(after.train) == len(before.train)
    assert after.digest == before.digest


def test_suffixes_in_any_case_are_images(root: Path) -> None:
    write(root / "train" / "ant" / "x.JPEG")
    write(root / "train" / "ant" / "y.bmp")
    assert len(load_folder("pets", root, 32).train) == 14


@pytest.mark.parametrize(("size", "share", "side"), [(224, 0.875, 256), (32, 0.86, 37), (16, 0.86, 18)])
@pytest.mark.parametrize(("width", "height"), [(300, 260), (20, 90), (256, 256), (5, 5)])
def test_images_have_one_size_whatever_their_own(
    root: Path, size: int, share: float, side: int, width: int, height: int
) -> None:
    write(root / "test" / "ant" / "0.png", width, height, colour=(7, 8, 9))
    images = load_folder("pets", root, size, resize=Resize(share, "bicubic")).test.read(torch.tensor([6, 7]))
    assert images.shape == (2, 3, side, side)
    assert images.dtype == torch.uint8
    assert images[0].flatten(1).unique(dim=1).squeeze(1).tolist() == [7, 8, 9]


def test_the_centre_is_kept(root: Path) -> None:
    """A picture three times as wide as high, in three colours: the middle third remains."""
    strip = np.zeros((37, 111, 3), dtype=np.uint8)
    strip[:, :37], strip[:, 37:74], strip[:, 74:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(strip).save(root / "test" / "ant" / "0.png")
    image = load_folder("pets", root, 32).test.read(torch.tensor([6]))[0]
    assert image.flatten(1).unique(dim=1).squeeze(1).tolist() == [0, 255, 0]


def test_grey_palette_and_transparent_images_become_colour(root: Path) -> None:
    for i, mode in enumerate(("L", "P", "RGBA")):
        Image.new(mode, (40, 40), 0).save(root / "train" / "ant" / f"{i}.png")
    assert load_folder("pets", root, 32).train.read(torch.tensor([9, 10, 11])).shape == (3, 3, 37, 37)


def test_train_and_test_must_have_the_same_classes(root: Path) -> None:
    shutil.rmtree(root / "test" / "Bird")
    with pytest.raises(UserError, match=r"train has 4 class folders, test has 3; .* differ in Bird"):
        load_folder("pets", root, 32)


def test_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(UserError, match="must be the same and at least one"):
        load_folder("pets", tmp_path, 32)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n broken"])
def test_an_unreadable_image_is_named(root: Path, content: bytes) -> None:
    path = root / "train" / "ant" / "1.png"
    path.write_bytes(content)
    images = load_folder("pets", root, 32).train
    with pytest.raises(UserError, match="cannot read the image") as error:
        images.read(torch.tensor([9, 10]))
    assert str(path) in str(error.value)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # it warns of the damage
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_a_damaged_image_is_read_or_named_but_never_another_error(root: Path, suffix: str) -> None:
    path = root / "train" / "ant" / f"9.{suffix}"
    noise = torch.randint(256, (24, 24, 3), generator=generator(0), dtype=torch.uint8)
    Image.fromarray(noise.numpy()).save(path)
    content, named = path.read_bytes(), 0
    images = load_folder("pets", root, 32).train
    draw = generator(1)
    for attempt in range(60):
        damaged = bytearray(content)
        for position in torch.randint(len(content), (1 + attempt % 4,), generator=draw).tolist():
            damaged[position] ^= 0xFF
        path.write_bytes(damaged[: len(content) // 2] if attempt % 10 == 0 else damaged)
        message = str(path)
        try:
            images.read(torch.tensor([12]))
        except UserError as error:
            message = str(error)
            named += 1
        assert str(path) in message
    assert named > 0


def test_the_digest_follows_bytes_and_order(root: Path) -> None:
    first = load_folder("pets", root, 32).digest
    assert load_folder("pets", root, 64).digest == first
    (root / "train" / "ant" / "0.png").rename(root / "train" / "ant" / "5.png")
    renamed = load_folder("pets", root, 32).digest
    with (root / "train" / "ant" / "5.png").open("ab") as file:
        file.write(b"\0")
    assert len({first, renamed, load_folder("pets", root, 32).digest}) == 3


def test_images_in_subfolders_belong_to_their_class(root: Path) -> None:
    write(root / "train" / "ant" / "more" / "deep" / "7.png")
    write(root / "train" / "ant" / ".thumbnails" / "8.png")
    dataset = load_folder("pets", root, 32)
    assert dataset.train.labels.tolist()[9:] == [3] * 4
    assert isinstance(dataset.train, FileImages)
    assert [Path(p).name for p in dataset.train.paths[9:]] == ["0.png", "1.png", "2.png", "7.png"]


def test_loops_of_links_end_and_add_nothing(root: Path) -> None:
    before = load_folder("pets", root, 32)
    (root / "train" / "ant" / "itself").symlink_to("itself")
    (root / "train" / "ant" / "here").symlink_to(".")
    (root / "train" / "ant" / "up").symlink_to("..")
    (root / "train" / "ant" / "sub").mkdir()
    (root / "train" / "ant" / "sub" / "back").symlink_to("../../ant")
    after = load_folder("pets", root, 32)
    assert after.train.labels.tolist() == before.train.labels.tolist()
    assert after.digest == before.digest


def test_linked_folders_and_images_count(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(elsewhere / "x" / "1.png")
    (root / "train" / "ant" / "linked").symlink_to(elsewhere / "x")
    (root / "train" / "ant" / "single.png").symlink_to(elsewhere / "x" / "1.png")
    assert load_folder("pets", root, 32).train.labels.tolist()[9:] == [3] * 5


def test_a_link_to_nothing_is_named(root: Path) -> None:
    (root / "train" / "ant" / "9.png").symlink_to("gone.png")
    with pytest.raises(UserError, match=r"cannot read 1 of 21 images: .*/9\.png: No such file"):
        load_folder("pets", root, 32)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_folder_without_images_is_named(root: Path, split: str) -> None:
    for path in (root / split / "ant").iterdir():
        path.rename(path.with_suffix(".avif"))
    count = 3 if split == "train" else 2
    with pytest.raises(UserError) as error:
        load_folder("pets", root, 32)
    message = str(error.value)
    assert message.startswith(f"1 class folders under {root / split} hold no image (.jpg, ")
    assert message.endswith(f": ant; {count} files are passed over (.avif: {count})")


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_suffix_of_an_image_is_read(root: Path, suffix: str) -> None:
    """In the format that Pillow writes for it, of which an animation shows its first frame."""
    made = Image.registered_extensions()[suffix]
    frames = {"save_all": True, "append_images": [Image.new("RGB", (40, 40), "black")]} if made == "GIF" else {}
    Image.new("RGB", (40, 40), "white").save(root / "train" / "ant" / f"9{suffix.upper()}", made, **frames)
    dataset = load_folder("pets", root, 32)
    assert dataset.train.read(torch.tensor([12])).float().mean() > 250
    assert dataset.notes == ()


def test_what_is_passed_over_is_counted_by_suffix_and_kind(root: Path) -> None:
    ant, listener = root / "train" / "ant", socket.socket(socket.AF_UNIX)
    for name in ("a.avif", "b.AVIF", "c.heic", "README", "d.\x1b[2J"):
        (ant / name).write_bytes(b"")
    os.mkfifo(ant / "pipe.png")
    os.mkfifo(ant / "pipe")
    listener.bind(os.path.relpath(ant / "s.jpg"))  # a relative path, since that of a socket may have 107 letters
    listener.close()
    (ant / "zero.png").symlink_to("/dev/zero")
    (ant / "link to a pipe.png").symlink_to("pipe.png")
    (root / "test" / "list.csv").write_bytes(b"")
    write(root / "test" / "stray.png")
    os.mkfifo(ant / ".hidden.png")
    dataset = load_folder("pets", root, 32)
    assert len(dataset.train) == 12
    (note,) = dataset.notes
    kinds = "named pipe: 3, .avif: 2, '.\\x1b[2j': 1, .csv: 1, .heic: 1, device: 1, image in no class folder: 1"
    assert note == (
        f"{root}: 12 files are passed over ({kinds}, no suffix: 1, other: 1); images are {', '.join(IMAGE_SUFFIXES)}"
    )


def test_a_link_to_an_image_is_one(root: Path) -> None:
    (root / "train" / "ant" / "8.png").symlink_to("0.png")
    dataset = load_folder("pets", root, 32)
    assert (len(dataset.train), dataset.notes) == (13, ())


def test_names_with_spaces_umlauts_and_foreign_bytes(root: Path) -> None:
    write(root / "train" / "ant" / "ein Bär №1.png")
    first = load_folder("pets", root, 32)
    assert len(first.train) == 13
    (root / "train" / "ant" / "1.png").rename(root / "train" / "ant" / b"\xff\xfe.png".decode(errors="surrogateescape"))
    second = load_folder("pets", root, 32)
    assert first.digest != second.digest
    assert second.train.read(torch.arange(9, 13)).shape == (4, 3, 37, 37)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot list the data set 'pets': .*train"):
        load_folder("pets", tmp_path, 32)
