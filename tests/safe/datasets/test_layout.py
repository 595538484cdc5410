"""Folders that are not train/ and test/: told with what they hold, and mended by the one command that is named."""

from __future__ import annotations

import re
import shlex
import shutil
import unicodedata
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest
from PIL import Image

from safe.data.__main__ import main as data_main
from safe.data.folders.dataset import load_folder
from safe.data.loading import class_count, load_dataset, survey
from safe.datasets.facts import require_dataset
from safe.datasets.layout import mend
from safe.errors import Notice, UserError

CLASSES = ("ant", "bee", "cat")
_numbers = cycle(range(256))


def put(folder: Path, count: int, shade: int = 0) -> None:
    """Write pictures directly into a folder, which are others than in any other folder."""
    folder.mkdir(parents=True, exist_ok=True)
    own = next(_numbers)
    for number in range(count):
        Image.new("RGB", (16, 16), (shade, 10 * number, own)).save(folder / f"{number}.png")


def classes(folder: Path, count: int, names: tuple[str, ...] = CLASSES) -> None:
    """Write class folders with so many pictures each."""
    for shade, name in enumerate(names):
        put(folder / name, count, 40 * shade)


def pair(train: str, test: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        classes(root / train, 4)
        classes(root / test, 2)

    return write


def with_annotations(root: Path) -> None:
    classes(root / "images", 5)
    (root / "attributes").mkdir()
    (root / "attributes" / "names.txt").write_text("x")


def flat_test(root: Path) -> None:
    classes(root / "train", 5)
    put(root / "test", 3)


def many(root: Path) -> None:
    classes(root, 5, tuple("abcdefg"))


# What is in the folder, what is said of it, and how many training and test images the command makes of it.
MENDED: dict[str, tuple[Callable[[Path], None], str, tuple[int, int]]] = {
    "validation": (pair("train", "validation"), "It holds train/ and validation/, not train/ and test/.", (12, 6)),
    "valid": (pair("train", "valid"), "It holds train/ and valid/, not train/ and test/.", (12, 6)),
    "capitals": (pair("Train", "Test"), "It holds Train/ and Test/, not train/ and test/.", (12, 6)),
    "Val": (pair("train", "Val"), "It holds train/ and Val/, not train/ and test/.", (12, 6)),
    "gerunds": (pair("training", "testing"), "It holds training/ and testing/, not train/ and test/.", (12, 6)),
    "other names, deeper": (pair("x/Train", "x/Test"), "Images for training and test lie in ROOT/x.", (12, 6)),
    "classes deeper": (pair("train/images", "test/images"), "lie too deep, in train/images and test/images.", (12, 6)),
    "classes of test deeper": (pair("train", "test/images"), "lie too deep, in train and test/images.", (12, 6)),
    "no split": (lambda root: classes(root, 5), "It holds 3 folders with images: ant, bee, cat.", (12, 3)),
    "no split, many": (many, "It holds 7 folders with images: a, b, c, d, e, ....", (28, 7)),
    "no split, deeper": (with_annotations, "ROOT/images holds 3 folders with images: ant, bee, cat.", (12, 3)),
    "train alone": (lambda root: classes(root / "train", 5), "It holds train/; class folders are in", (12, 3)),
    "flat test": (flat_test, "3 images lie flat in test/: nothing says their class", (12, 3)),
}


@pytest.mark.parametrize("layout", MENDED)
def test_the_command_that_a_message_names_mends_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str
) -> None:
    make, told, counts = MENDED[layout]
    root = tmp_path / "my birds"
    make(root)
    with pytest.raises(UserError) as error:
        require_dataset(str(root), "data")
    message = str(error.value)
    assert told.replace("ROOT", str(root)) in message
    (command,) = re.findall(r"^Mend it with: python -m safe\.data (.*)$", message, re.MULTILINE)
    assert command.endswith(" --test 0.2 --seed 0")
    assert data_main(shlex.split(command)) == 0
    (target,) = re.findall(r"^Then give (.*) as the data set\.$", message, re.MULTILINE)
    assert f"use it: --dataset {target}\n" in capsys.readouterr().out
    (name,) = shlex.split(target)
    made = load_dataset(name, "data", 16)
    assert (len(made.train), len(made.test), made.notes) == (*counts, ())
    assert set(made.classes) in ({*CLASSES}, {*"abcdefg"})


def test_a_folder_too_high_is_told_the_one_below(tmp_path: Path) -> None:
    pair("x/birds 1/train", "x/birds 1/val")(tmp_path)
    inner = tmp_path / "x" / "birds 1"
    with pytest.raises(UserError) as error:
        require_dataset(str(tmp_path), "data")
    assert f"train/ and val/ lie deeper, in {inner}.\nGive that folder as the data set: '{inner}'." in str(error.value)
    with pytest.warns(Notice, match="val/ holds the test images"):
        assert require_dataset(str(inner), "data").name == str(inner)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda root: put(root, 4), "It holds 4 images in no class folder: nothing says their class"),
        (lambda root: [put(root / side, 2) for side in ("Train", "Test")], "Train/ and Test/ without class folders:"),
        (lambda root: [put(root / side, 2) for side in ("train", "test")], "2 images lie flat in train/: nothing says"),
        (lambda root: root.mkdir(), "It holds nothing, and no folder with images."),
        (lambda root: (root / "notes").mkdir(parents=True), "It holds notes, and no folder with images."),
        (lambda root: root.write_text("zip"), "is a file, not a folder."),
    ],
    ids=["flat", "flat under other names", "flat in both", "empty", "no images", "a file"],
)
def test_what_no_command_mends_is_told(tmp_path: Path, make: Callable[[Path], object], told: str) -> None:
    make(tmp_path / "birds")
    with pytest.raises(UserError) as error:
        require_dataset(str(tmp_path / "birds"), "data")
    assert told in str(error.value)
    assert "Mend it" not in str(error.value)


def test_a_benchmark_is_told_what_is_there_but_its_split_is_never_made_up(tmp_path: Path) -> None:
    pair("vtab/Train", "vtab/Test")(tmp_path)
    with pytest.raises(UserError) as error:
        require_dataset("vtab", tmp_path)
    message = str(error.value)
    assert "It holds Train/ and Test/, not train/ and test/." in message
    assert "safe.data fetch vtab" in message
    assert "safe.data split" not in message


def test_val_stands_for_a_test_that_is_not_there_and_this_is_told(tmp_path: Path) -> None:
    pair("train", "val")(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    (tmp_path / "other" / "val").rename(tmp_path / "other" / "test")
    with pytest.warns(Notice, match=r"one has no test/, so val/ holds the test images") as told:
        one = load_dataset(str(tmp_path / "one"), "data", 16)
    assert len(told) == 1
    other = load_dataset(str(tmp_path / "other"), "data", 16)
    assert (len(one.train), len(one.test), one.digest) == (len(other.train), len(other.test), other.digest)
    assert class_count(str(tmp_path / "other"), "data") == 3


def test_test_goes_before_val(tmp_path: Path) -> None:
    pair("train", "test")(tmp_path)
    classes(tmp_path / "val", 7)
    assert len(load_folder("birds", tmp_path, 16).test) == 6
    (tmp_path / "test").rename(tmp_path / "Testing")
    with pytest.raises(UserError, match="It holds train/ and Testing/, not train/ and test/"):
        require_dataset(str(tmp_path), "data")


@pytest.mark.parametrize(
    ("train", "test", "told"),
    [
        (
            unicodedata.normalize("NFC", "café"),
            unicodedata.normalize("NFD", "café"),
            r"but differ in 'caf\xe9' (train), 'cafe\u0301' (test); those that look alike",
        ),
        ("dog", "dog ", "but differ in 'dog' (train), 'dog ' (test); those that look alike"),
        ("dog\u00a0", "dog", r"but differ in 'dog\xa0' (train), 'dog' (test); those that look alike"),
        ("dog", "Dog", "but differ in Dog (test), dog (train)"),
        ("dog ", "wolf", "but differ in 'dog ' (train), wolf (test)"),
        ("dög", "wolf", "but differ in dög (train), wolf (test)"),
    ],
    ids=["form", "space", "wide space", "case", "a space alone", "plain"],
)
def test_names_that_look_alike_are_quoted_and_escaped(tmp_path: Path, train: str, test: str, told: str) -> None:
    classes(tmp_path / "train", 2, ("ant", train))
    classes(tmp_path / "test", 2, ("ant", test))
    with pytest.raises(UserError) as error:
        require_dataset(str(tmp_path), "data")
    assert told in str(error.value)
    assert ("look alike" in str(error.value)) == ("look alike" in told)


def test_few_of_many_names_are_told(tmp_path: Path) -> None:
    classes(tmp_path / "train", 1, tuple(f"{number:02}" for number in range(30)))
    classes(tmp_path / "test", 1, ("00", "x"))
    with pytest.raises(UserError, match=r"differ in 01 \(train\), .*05 \(train\) and 25 more$"):
        require_dataset(str(tmp_path), "data")


def test_a_survey_tells_what_is_passed_over_and_refuses_empty_classes(tmp_path: Path) -> None:
    pair("train", "test")(tmp_path)
    (tmp_path / "train" / "ant" / "x.avif").write_bytes(b"")
    with pytest.warns(Notice, match=r"1 file is passed over \(\.avif: 1\)"):
        survey(str(tmp_path), "data")
    survey("digits", tmp_path)
    for file in (tmp_path / "test" / "bee").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"1 class folders under .*test hold no image .*: bee"):
        survey(str(tmp_path), "data")


def test_a_name_that_steers_the_terminal_is_escaped(tmp_path: Path) -> None:
    classes(tmp_path / "a\x1b[2J", 2)
    (tmp_path / "a\x1b[2J").rename(tmp_path / "\x1b[2J")
    assert all(text.replace("\n", "").isprintable() for text in mend(tmp_path))
