"""`python -m safe.data split`: exact counts by seed, links or copies, whole or not at all, and nothing overwritten."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from PIL import Image

from safe.data.__main__ import main
from safe.data.folders import split as module
from safe.data.folders.split import split_folder
from safe.errors import UserError

COUNTS = {"ant": 2, "bee": 5, "cat": 10, "dög 1": 33}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "plain"
    for shade, (name, count) in enumerate(COUNTS.items()):
        for number in range(count):
            place = folder / name / ("deeper" if number % 3 == 0 else ".")
            place.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (shade, number, 0)).save(place / f"{number}.png")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
def test_every_image_is_on_one_side_and_counts_are_exact(source: Path, tmp_path: Path, share: float) -> None:
    before = files(source)
    made = split_folder(source, tmp_path / "made", share=share)
    train, test = files(tmp_path / "made" / "train"), files(tmp_path / "made" / "test")
    assert train | test == before == files(source)
    assert not set(train) & set(test)
    for name, count in COUNTS.items():
        held = sum(path.startswith(f"{name}/") for path in test)
        assert held == min(max(1, int(share * count + 0.5)), count - 1), name
    assert (made.classes, made.train, made.test, made.linked, made.copied) == (4, len(train), len(test), 50, 0)


def test_the_seed_decides_and_classes_do_not_touch_each_other(source: Path, tmp_path: Path) -> None:
    def tested(target: str, seed: int) -> set[str]:
        split_folder(source, tmp_path / target, seed=seed)
        return {name for name in files(tmp_path / target / "test") if name[:3] in ("cat", "dög")}

    first = tested("one", 0)
    assert len(first) == 2 + 7
    assert tested("again", 0) == first
    assert tested("other", 1) != first
    shutil.rmtree(source / "ant")
    assert tested("fewer", 0) == first


def test_links_share_the_file_and_lead_to_what_a_link_means(source: Path, tmp_path: Path) -> None:
    (source / "ant" / "linked.png").symlink_to("1.png")
    split_folder(source, tmp_path / "made")
    (linked,) = (tmp_path / "made").rglob("linked.png")
    assert not linked.is_symlink()
    assert linked.samefile(source / "ant" / "1.png")


def test_where_links_are_not_possible_files_are_copied_if_there_is_room(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(module.os, "link", no_link)
    made = split_folder(source, tmp_path / "made")
    assert (made.linked, made.copied) == (0, 50)
    copies = files(tmp_path / "made" / "train") | files(tmp_path / "made" / "test")
    assert copies == files(source)
    assert all(path.stat().st_nlink == 1 for path in (tmp_path / "made").rglob("*.png"))

    usage = namedtuple("usage", "total used free")
    needed = sum(len(content) for content in copies.values())
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(0, 0, needed - 1))
    with pytest.raises(UserError, match=r"hard links are not possible there, and copies need 0\.00 GiB of which 0\.00"):
        split_folder(source, tmp_path / "small")
    assert {path.name for path in tmp_path.iterdir()} == {"plain", "made"}


def test_a_failure_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.link, []

    def failing(source: str, target: Path) -> None:
        calls.append(target)
        if len(calls) == 20:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(module.os, "link", failing)
    with pytest.raises(KeyboardInterrupt):
        split_folder(source, tmp_path / "made")
    assert {path.name for path in tmp_path.iterdir()} == {"plain"}
    monkeypatch.undo()
    (source / "bee" / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"cannot make .*made: .*No such file .*gone\.png.*; nothing is left of it"):
        split_folder(source, tmp_path / "made")
    assert {path.name for path in tmp_path.iterdir()} == {"plain"}


def test_what_appears_meanwhile_is_not_overwritten(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def appear(source: Path, target: Path) -> None:
        target.mkdir()
        (target / "mine").write_text("mine")
        real(source, target)

    monkeypatch.setattr(module.os, "rename", appear)
    with pytest.raises(UserError, match=r"cannot make .*made: .*not empty.*; nothing is left of it"):
        split_folder(source, tmp_path / "made")
    assert files(tmp_path / "made") == {"mine": b"mine"}
    assert {path.name for path in tmp_path.iterdir()} == {"plain", "made"}


def test_a_kept_split_that_differs_is_refused(tmp_path: Path) -> None:
    for side, names in (("Train", "ab"), ("Test", "ac")):
        for name in names:
            (tmp_path / "s" / side / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "s" / side / name / "0.png")
    with pytest.raises(UserError, match=r"must hold the same classes, but differ in b \(train\), c \(test\)"):
        split_folder(tmp_path / "s", tmp_path / "made")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["PLAIN", "NEW", "--test", "0"], "must lie between 0 and 1, got 0"),
        (["PLAIN", "NEW", "--test", "1"], "must lie between 0 and 1, got 1"),
        (["PLAIN", "NEW", "--test", "nan"], "must lie between 0 and 1, got nan"),
        (["PLAIN", "NEW", "--seed", "-1"], "--seed must be at least 0, got -1"),
        (["GONE", "NEW"], "gone is not there; give a folder of class folders"),
        (["PLAIN/ant/1.png", "NEW"], "1.png is a file; give a folder of class folders"),
        (["PLAIN", "PLAIN"], "is there already, and nothing is overwritten"),
        (["PLAIN", "PLAIN/ant/1.png"], "is there already, and nothing is overwritten"),
        (["PLAIN", "PLAIN/made"], "made lies in"),
        (["PLAIN", "PLAIN/ant/1.png/made"], "made lies in"),
        (["PLAIN/ant", "NEW"], "ant holds 1 class folders with images"),
        (["LONE", "NEW"], "1 class folders of LONE hold a single image, which cannot both be trained on and tested: b"),
        (["PLAIN", "FILE/made"], "cannot make FILE/made: "),
    ],
)
def test_what_cannot_be_split_ends_in_one_message_and_leaves_nothing(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    for name, count in (("a", 2), ("b", 1)):
        (tmp_path / "lone" / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8)).save(tmp_path / "lone" / name / f"{number}.png")
    (tmp_path / "file").write_text("")
    places = {place.upper(): str(tmp_path / place) for place in ("plain", "new", "gone", "lone", "file")}
    before = files(tmp_path)

    def filled(text: str) -> str:
        for word, place in places.items():
            text = text.replace(word, place)
        return text

    assert main(["split", *map(filled, words)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert filled(told) in captured.err
    assert captured.out == ""
    assert files(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_what_is_left_out_is_told(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "empty").mkdir()
    (source / "bee" / "x.avif").write_bytes(b"")
    (source / "labels.csv").write_bytes(b"")
    assert main(["split", str(source), str(tmp_path / "new" / "deep")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 folders without an image are left out: empty",
        "2 files are passed over (.avif: 1, .csv: 1)",
        f"{tmp_path}/new/deep: 4 classes, 39 training and 11 test images (50 hard links, 0 copies)",
        f"use it: --dataset {tmp_path}/new/deep",
    ]


def test_the_help_says_what_happens(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["split", "--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("SRC DST", "never overwritten", "--test SHARE", "--seed SEED", "hard links", "their split is kept"):
        assert words in text
