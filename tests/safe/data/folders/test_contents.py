"""The identity of image files is what they hold: hashed once for every version, and never guessed from names."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from safe.config import Config
from safe.data.__main__ import main
from safe.data.cache import FOLDER_VARIABLE
from safe.data.check import check
from safe.data.folders import contents as module
from safe.data.folders.contents import INDEX, Contents
from safe.data.folders.dataset import load_folder
from safe.data.loading import load_dataset
from safe.errors import Notice, UserError
from safe.io import progress as progress_module
from safe.io.opening import FileVersion
from safe.sharing.stages import StageKeys
from safe.training.build import build_stream

RECORD = 52


def write(root: Path, separable: bool, classes: int = 4, images: int = 6) -> Path:
    """Write bitmaps of 32 x 32, whose size never differs: a colour for every class, or noise of no class."""
    draw = np.random.default_rng(0)
    for label in range(classes):
        for split in ("train", "test"):
            place = root / split / f"class {label}"
            place.mkdir(parents=True)
            for number in range(images):
                pixels = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                if separable:
                    pixels[:] = 60 * label + number
                Image.fromarray(pixels).save(place / f"{number}.bmp")
    return root


@pytest.fixture
def birds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of bitmaps that count as written a while ago."""
    monkeypatch.setattr(module, "_SETTLED_NS", 0)
    return write(tmp_path / "birds", separable=True)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the files that are read from here on, by what they are in their data set."""
    files: list[str] = []
    real = module._read

    def noted(path: str) -> tuple[bytes, bytes] | OSError:
        files.append("/".join(Path(path).parts[-3:]))
        return real(path)

    monkeypatch.setattr(module, "_read", noted)
    return files


@pytest.fixture(autouse=True)
def _knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_here", {})
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)


def digest(folder: Path, kept: Path | None = None) -> str:
    return load_folder("x", folder, 32, Contents(kept)).digest


# ---------------------------------------------------------------- test images that were trained on


def test_test_images_that_are_training_images_are_counted_and_told(
    birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`birds` has the same bitmaps in train and in test, of which only class 3 keeps its own here."""
    for number, file in enumerate(sorted((birds / "test" / "class 3").iterdir())):
        Image.new("RGB", (32, 32), (250, number, 0)).save(file)
    told = (
        f"{birds}: 18 of 24 test images are training images too, byte for byte, so they say nothing about new ones: "
        "test/class 0/0.bmp is train/class 0/0.bmp ..."
    )
    with pytest.warns(Notice) as notices:
        load_dataset(str(birds), tmp_path, 32)
    assert [str(notice.message) for notice in notices] == [told]
    assert main(["check", str(birds), "--root", str(tmp_path)]) == 0
    assert f"note: {told}\n" in capsys.readouterr().out


def test_one_copy_under_another_name_and_class_is_found_and_what_cannot_be_read_equals_nothing(tmp_path: Path) -> None:
    root = tmp_path / "birds"
    for place in ("train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(place)
    for place in ("train/a/gone.png", "test/b/gone.png"):
        (root / place).symlink_to("nowhere.png")
    assert load_folder("x", root, 32, Contents(strict=False)).notes == ()
    shutil.copyfile(root / "train/b/2.png", root / "test/a/3.png")
    (note,) = load_folder("x", root, 32, Contents(strict=False)).notes
    assert note == (
        f"{root}: 1 of 3 test images are training images too, byte for byte, so they say nothing about new ones: "
        "test/a/3.png is train/b/2.png"
    )


# ---------------------------------------------------------------- what it tells apart


def test_pictures_of_equal_names_and_sizes_are_other_data_and_share_no_stage(
    tmp_path: Path, make_config: Callable[..., Config]
) -> None:
    """A sweep of the second folder took the stages of the first, and with them its numbers."""
    folders = [write(tmp_path / name, separable=name == "a") for name in ("a", "b")]
    files = [sorted((str(f.relative_to(root)), f.stat().st_size) for f in root.rglob("*.bmp")) for root in folders]
    assert files[0] == files[1]
    keys = []
    for root in folders:
        dataset = load_folder("x", root, 32)
        stream = build_stream(make_config(), dataset)
        key = StageKeys(
            make_config(), stream, data=dataset.digest, weights="w", device=torch.device("cpu"), precision="float32"
        )
        keys.append({kind: key(kind, learner="slow", session=1) for kind in ("slow", "features", "readout", "logits")})
    assert all(keys[0][kind] != keys[1][kind] for kind in keys[0])


def test_where_a_folder_lies_and_how_it_is_reached_changes_nothing(birds: Path, tmp_path: Path) -> None:
    first = digest(birds, tmp_path / "kept")
    (tmp_path / "link").symlink_to(birds)
    assert digest(tmp_path / "link", tmp_path / "kept") == first
    shutil.copytree(birds, tmp_path / "copy")
    assert digest(tmp_path / "copy", tmp_path / "kept") == first
    birds.rename(tmp_path / "moved")
    assert digest(tmp_path / "moved", tmp_path / "kept") == first
    assert load_dataset(str(tmp_path / "moved"), tmp_path, 32).digest == first
    assert digest(tmp_path / "copy") == first, "kept nowhere"


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda root: (root / "train/class 0/0.bmp").rename(root / "train/class 0/0a.bmp"), True),  # the order stays
        (lambda root: (root / "train/class 0/0.bmp").rename(root / "train/class 0/9.bmp"), False),
        (lambda root: (root / "train/class 0/0.bmp").rename(root / "train/class 1/0a.bmp"), False),
        (lambda root: (root / "train/class 0/0.bmp").rename(root / "test/class 0/0a.bmp"), False),
        (lambda root: (root / "test/class 0/0.bmp").unlink(), False),
        (lambda root: [(root / s / "class 3").rename(root / s / "class 4") for s in ("train", "test")], False),
        (lambda root: (root / "train/class 0/0.bmp").touch(), True),
    ],
)  # fmt: skip
def test_the_digest_follows_split_class_and_order(birds: Path, change: Callable[[Path], object], same: bool) -> None:
    before = digest(birds)
    change(birds)
    assert (digest(birds) == before) is same


# ---------------------------------------------------------------- read once


def test_files_are_read_once_and_again_when_they_change(birds: Path, tmp_path: Path, read: list[str]) -> None:
    first = digest(birds, tmp_path / "kept")
    assert len(read) == len(set(read)) == 48
    read.clear()
    assert digest(birds, tmp_path / "kept") == first
    assert read == []
    path = birds / "train" / "class 2" / "5.bmp"
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_ino) == (before.st_size, before.st_ino)
    changed = digest(birds, tmp_path / "kept")
    assert (changed != first, read) == (True, ["train/class 2/5.bmp"])
    content[-1] ^= 1
    path.write_bytes(content)
    assert digest(birds, tmp_path / "kept") == first


def test_an_exchanged_file_is_read_even_with_the_size_and_all_times_of_before(
    birds: Path, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    version_of = module.version_of

    def timeless(status: os.stat_result) -> FileVersion:
        return (*version_of(status)[:2], 0, 0)

    monkeypatch.setattr(module, "version_of", timeless)
    digest(birds, tmp_path / "kept")
    read.clear()
    shutil.copy(birds / "train/class 1/0.bmp", tmp_path / "other")
    (tmp_path / "other").replace(birds / "train/class 0/0.bmp")
    digest(birds, tmp_path / "kept")
    assert read == ["train/class 0/0.bmp"]


def test_what_was_written_just_now_is_read_again(tmp_path: Path, read: list[str]) -> None:
    """A later write could leave size and times as they are; clocks of file systems have steps of up to two seconds."""
    root, kept = write(tmp_path / "birds", separable=True), tmp_path / "kept"
    for _ in range(2):
        digest(root, kept)
    assert len(read) == 96
    assert not kept.exists()


@pytest.mark.parametrize("kept", ["off", "a file"])
def test_without_a_folder_the_process_still_tells_and_remembers(
    birds: Path, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER_VARIABLE, "off" if kept == "off" else str(tmp_path / "file"))
    first = load_dataset(str(birds), tmp_path, 32).digest
    assert len(read) == 48
    assert load_dataset(str(birds), tmp_path, 32).digest == first == digest(birds, tmp_path / "kept")
    assert len(read) == 48, "known to the process"
    content = bytearray((birds / "test/class 1/1.bmp").read_bytes())
    content[-1] ^= 1
    (birds / "test/class 1/1.bmp").write_bytes(content)
    assert load_dataset(str(birds), tmp_path, 32).digest != first


def test_the_hashes_lie_beside_the_decoded_pixels_and_are_those_of_the_files(birds: Path, tmp_path: Path) -> None:
    load_dataset(str(birds), tmp_path, 32)
    index = tmp_path / "decoded" / INDEX
    assert index.stat().st_size == 48 * RECORD
    path = birds / "train/class 0/0.bmp"
    assert Contents(index.parent).hashes([str(path)]) == [hashlib.sha256(path.read_bytes()).digest()]


def test_every_byte_of_a_record_counts(birds: Path, tmp_path: Path, read: list[str]) -> None:
    path, kept = birds / "train/class 0/0.bmp", Contents(tmp_path)
    expected = kept.hashes([str(path)])
    content = (tmp_path / INDEX).read_bytes()
    assert len(content) == RECORD
    for byte in range(RECORD):
        flipped = bytearray(content)
        flipped[byte] ^= 1 << byte % 8
        (tmp_path / INDEX).write_bytes(flipped)
        read.clear()
        assert kept.hashes([str(path)]) == expected
        assert len(read) == 1


@pytest.mark.parametrize("size", [0, 1, RECORD - 1, RECORD, 20 * RECORD + 7])
def test_an_index_that_was_cut_off_is_mended(birds: Path, tmp_path: Path, read: list[str], size: int) -> None:
    first = digest(birds, tmp_path / "kept")
    os.truncate(tmp_path / "kept" / INDEX, size)
    read.clear()
    assert digest(birds, tmp_path / "kept") == first
    assert len(read) == 48 - size // RECORD
    assert (tmp_path / "kept" / INDEX).stat().st_size == 48 * RECORD
    read.clear()
    assert digest(birds, tmp_path / "kept") == first
    assert read == []


def test_an_index_that_is_too_large_begins_anew(birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 48 * RECORD)
    digest(birds, tmp_path / "kept")
    shutil.copytree(birds, tmp_path / "copy")
    digest(tmp_path / "copy", tmp_path / "kept")
    assert (tmp_path / "kept" / INDEX).stat().st_size == 48 * RECORD


def test_an_interrupt_keeps_what_was_read(
    birds: Path, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OF_A_TASK", 1)
    monkeypatch.setattr(module, "_AT_ONCE", 10)
    keep = Contents._keep

    def interrupted(self: Contents, fresh: dict[bytes, bytes]) -> None:
        keep(self, fresh)
        if len(fresh) == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(Contents, "_keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        digest(birds, tmp_path / "kept")
    monkeypatch.setattr(Contents, "_keep", keep)
    read.clear()
    digest(birds, tmp_path / "kept")
    assert len(read) == 38


# ---------------------------------------------------------------- what cannot be read


def test_files_that_cannot_be_read_are_named_at_the_start(birds: Path, tmp_path: Path) -> None:
    for number in range(7):
        (birds / "test/class 0" / f"x{number}.png").symlink_to("gone.png")
    with pytest.raises(UserError, match=r"cannot read 7 of 55 images: .*/x0\.png: No such file .*; 2 more$") as error:
        digest(birds, tmp_path / "kept")
    assert str(error.value).count("No such file") == 5
    report = check(str(birds), tmp_path)
    assert [line.split(": ")[0].rpartition("/")[2] for line in report.unreadable] == [f"x{n}.png" for n in range(7)]


def test_a_pipe_in_the_place_of_an_image_is_named_and_not_waited_for(birds: Path) -> None:
    path = birds / "test/class 0/0.bmp"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"cannot read 1 of 1 images: .*/0\.bmp: it is a named pipe"):
        Contents().hashes([str(path)])


def test_a_file_that_changes_while_it_is_read_is_named(birds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = birds / "test/class 0/0.bmp", os.read

    def disturbed(descriptor: int, size: int) -> bytes:
        with path.open("ab") as file:
            file.write(b"\0")
        monkeypatch.setattr(module.os, "read", real)
        return real(descriptor, size)

    monkeypatch.setattr(module.os, "read", disturbed)
    with pytest.raises(UserError, match="it changed while it was read"):
        Contents().hashes([str(path)])


# ---------------------------------------------------------------- what a person sees


def test_long_reading_is_told_and_quick_reading_is_not(
    birds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digest(birds)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(progress_module, "QUICK_S", 0.0)
    monkeypatch.setattr(progress_module, "EVERY_S", 0.0)
    monkeypatch.setattr(module, "_here", {})
    digest(birds)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 48
    assert lines[-1] == "reading images that are new or changed: 48 of 48, about 0 s left"


def test_the_cache_command_shows_and_removes_them(
    birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_dataset(str(birds), tmp_path, 32)
    assert main(["cache", "--root", str(tmp_path)]) == 0
    assert f"{INDEX}: 0.0 MiB, what the images hold\n" in capsys.readouterr().out
    assert main(["cache", "--root", str(tmp_path), "--clear"]) == 0
    assert INDEX not in capsys.readouterr().out
    assert not (tmp_path / "decoded" / INDEX).exists()


def test_thousands_of_files_start_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later start looks at every file and reads none: 20 000 within two seconds here, 90 000 within five."""
    monkeypatch.setattr(module, "_SETTLED_NS", 0)
    paths = [str(tmp_path / f"{number}.png") for number in range(20_000)]
    for path in paths:
        Path(path).write_bytes(path.encode())
    first = Contents(tmp_path / "kept").hashes(paths)
    started = time.perf_counter()
    assert Contents(tmp_path / "kept").hashes(paths) == first
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(("waited", "threads"), [(0.0, 2), (0.06, 7), (5.0, 16)])
def test_more_threads_read_files_that_are_waited_for(
    waited: float, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers: int, **others: str) -> None:
            asked.append(workers)
            super().__init__(workers, **others)

    clock = SimpleNamespace(perf_counter=iter((0.0, 0.01 + waited)).__next__, thread_time=iter((0.0, 0.01)).__next__)
    monkeypatch.setattr(module, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(module, "time", clock)
    paths = [str(number) for number in range(2_000)]
    with module._in_threads() as each:
        assert list(each(str.upper, paths)) == paths
    assert asked == [threads]
