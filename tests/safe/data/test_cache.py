"""Decoded pictures that are kept: the same pixels with the cache and without, whatever happens to its files."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.config import Config
from safe.data import cache as module
from safe.data import images as images_module
from safe.data.__main__ import main
from safe.data.cache import ImageCache, image_cache
from safe.data.folders.dataset import load_folder
from safe.data.images import FileImages
from safe.data.loading import kept_on_disk, load_dataset
from safe.data.sources import Dataset
from safe.data.transforms import train_view
from safe.errors import UserError
from safe.seeding import generator
from safe.training.trainer import SafeTrainer

SIZES = [(40, 30), (33, 47), (90, 20), (17, 17), (64, 48), (31, 32)]  # width and height; six files
BYTES = sum(3 * width * height for width, height in SIZES)
SIZE, SIDE = 28, 32
EVERY = torch.arange(len(SIZES))
LARGE = 2**30
RECORD = 60  # bytes of an image's entry in an index
pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # nothing is wrong unless a test says so


@pytest.fixture(autouse=True)
def _no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (module.FOLDER_VARIABLE, module.LIMIT_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def files(tmp_path: Path) -> FileImages:
    """Return six pictures of noise in several formats, one of them grey, one turned by its EXIF block."""
    paths = []
    for i, (width, height) in enumerate(SIZES):
        noise = torch.randint(256, (height, width, 3), generator=generator(i, "noise"), dtype=torch.uint8).numpy()
        image, exif = Image.fromarray(noise if i != 3 else noise[:, :, 0]), Image.Exif()
        if i == 4:
            exif[0x0112] = 6
        path = tmp_path / "pictures" / f"{i}.{('jpg', 'png', 'webp', 'png', 'jpg', 'bmp')[i]}"
        path.parent.mkdir(exist_ok=True)
        image.save(path, exif=exif) if i != 5 else image.save(path)
        paths.append(str(path))
    return FileImages(tuple(paths), torch.zeros(len(paths), dtype=torch.int64), SIZE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "decoded"


def kept(files: FileImages, folder: Path, limit: int = LARGE) -> FileImages:
    return files.kept_in(ImageCache(folder, limit), "some")


def wholes(files: FileImages) -> list[Tensor]:
    return [decode() for decode in files.whole(EVERY)]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(first, second, strict=True))


def pixels_of(folder: Path, kind: str) -> Path:
    (path,) = folder.glob(f"some-{kind}-*.pixels")
    return path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the files that are decoded from here on."""
    paths: list[str] = []
    real = images_module.read_rgb

    def noted(path: str) -> Image.Image:
        paths.append(path)
        return real(path)

    monkeypatch.setattr(images_module, "read_rgb", noted)
    return paths


# ---------------------------------------------------------------- kept or not, the same


def test_pixels_and_their_layout_are_the_same_before_and_after_they_are_kept(
    files: FileImages, folder: Path, decoded: list[str]
) -> None:
    expected, squares = wholes(files), files.read(EVERY)
    decoded.clear()
    first = kept(files, folder)
    assert same(wholes(first), expected)
    assert decoded == list(files.paths)
    assert torch.equal(first.read(EVERY), squares)  # made from the wholes
    again = kept(files, folder)
    for images in (first, again):
        assert same(wholes(images), expected)
        batch = images.read(torch.tensor([5, 0, 5]))
        assert torch.equal(batch, squares[[5, 0, 5]])
        assert batch.stride() == squares[:3].stride()
    assert decoded == list(files.paths), "each file is decoded once"
    assert pixels_of(folder, "whole").stat().st_size == BYTES
    assert pixels_of(folder, f"{SIDE}px").stat().st_size == len(SIZES) * 3 * SIDE**2


def test_squares_alone_keep_no_wholes(files: FileImages, folder: Path, decoded: list[str]) -> None:
    squares = files.read(EVERY)
    decoded.clear()
    for _ in range(2):
        assert torch.equal(kept(files, folder).read(EVERY), squares)
    assert sorted(decoded) == list(files.paths)
    assert pixels_of(folder, "whole").stat().st_size == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_training_views_are_the_same(files: FileImages, folder: Path, threads: int) -> None:
    settings = {"crop_scale": (0.05, 1.0), "crop_ratio": (0.75, 4 / 3), "horizontal_flip": 0.5}
    index, before = torch.tensor([4, 0, 0, 2, 5, 1, 3, 3]), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = [train_view(files.whole(index), SIZE, **settings, generator=generator(s)) for s in range(3)]
        torch.set_num_threads(threads)
        for seed in range(3):
            view = train_view(kept(files, folder).whole(index), SIZE, **settings, generator=generator(seed))
            assert torch.equal(view, expected[seed])
    finally:
        torch.set_num_threads(before)


def test_a_training_run_is_the_same(
    tmp_path: Path, make_config: Callable[..., Config], tiny_vit: VisionTransformer, tiny_dataset: Dataset
) -> None:
    for split, images in (("train", tiny_dataset.train), ("test", tiny_dataset.test)):
        for i, pixels in enumerate(images.read(torch.arange(len(images)))):
            path = tmp_path / "tiny" / split / f"{int(images.labels[i])}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((50 + i % 9, 44)).save(path)
    plain = load_folder("tiny", tmp_path / "tiny", 32)
    cached = load_dataset(str(tmp_path / "tiny"), tmp_path, 32)
    results, config = [], make_config({"slow.epochs": 1, "fast.epochs": 1})
    for dataset in (plain, cached, load_dataset(str(tmp_path / "tiny"), tmp_path, 32)):
        trainer = SafeTrainer(config, dataset, tiny_vit)
        sessions = [trainer.run_session() for _ in range(2)]
        results.append([(s.losses, s.row, s.metrics, s.ridge) for s in sessions])
    assert results[1] == results[0]
    assert results[2] == results[0]
    assert len(list((tmp_path / "decoded").glob("tiny-*.pixels"))) == 4
    assert cached.digest == plain.digest


# ---------------------------------------------------------------- what may happen to files


def test_a_changed_file_is_decoded_again_even_with_its_size_and_time_of_before(
    files: FileImages, folder: Path, decoded: list[str]
) -> None:
    images, path = kept(files, folder), Path(files.paths[5])
    images.picture(5), images.read(EVERY)
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-40:] = bytes(40)  # a bitmap: pixels as they are
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    for reader in (images, kept(files, folder)):
        assert torch.equal(reader.picture(5), files.picture(5))
        assert torch.equal(reader.read(EVERY), files.read(EVERY))
    assert int(images.picture(5)[0].eq(0).sum()) >= 13


def test_an_exchanged_file_is_decoded_again_even_with_all_times_of_before(
    files: FileImages, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on file systems that keep one time for all: the files of two data sets, one after the other at one place."""
    inode_and_size = module.version_of
    monkeypatch.setattr(module, "version_of", lambda status: (*inode_and_size(status)[:2], 0, 0))
    kept(files, folder).picture(5)
    path, content = Path(files.paths[5]), bytearray(Path(files.paths[5]).read_bytes())
    content[-40:] = bytes(40)
    (path.parent / "new").write_bytes(content)
    (path.parent / "new").rename(path)
    assert torch.equal(kept(files, folder).picture(5), files.picture(5))


def test_a_file_that_is_gone_is_told_as_without_the_cache(files: FileImages, folder: Path) -> None:
    images = kept(files, folder)
    images.picture(0)
    Path(files.paths[0]).unlink()
    for reader in (files, images):
        with pytest.raises(UserError, match="cannot read the image") as error:
            reader.picture(0)
        assert files.paths[0] in str(error.value)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_unreadable_file_of_a_batch_is_named(files: FileImages, folder: Path, threads: int) -> None:
    before = torch.get_num_threads()
    Path(files.paths[2]).write_bytes(b"no image")
    Path(files.paths[4]).write_bytes(b"no image")
    try:
        torch.set_num_threads(threads)
        for reader in (files, kept(files, folder), kept(files, folder)):
            with pytest.raises(UserError, match="cannot read the image") as error:
                reader.read(EVERY)
            assert files.paths[2] in str(error.value)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("part", ["pixels", "index"])
def test_a_flipped_bit_is_found_named_and_mended(files: FileImages, folder: Path, part: str) -> None:
    expected = wholes(files)
    wholes(kept(files, folder))
    path = pixels_of(folder, "whole").with_suffix(f".{part}")
    place = sum(3 * w * h for w, h in SIZES[:2]) + 1000 if part == "pixels" else 2 * RECORD + 11
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    images = kept(files, folder)
    with pytest.warns(UserWarning, match="is damaged .* decoded again") as told:
        assert same(wholes(images), expected)
    assert len(told) == 1
    assert files.paths[2] in str(told[0].message)
    assert str(pixels_of(folder, "whole")) in str(told[0].message)
    assert same(wholes(images), expected)
    assert same(wholes(kept(files, folder)), expected)


def test_every_byte_of_a_record_counts(files: FileImages, folder: Path) -> None:
    expected = files.picture(3)
    kept(files, folder).picture(3)
    path = pixels_of(folder, "whole").with_suffix(".index")
    content = path.read_bytes()
    for byte in range(3 * RECORD, 4 * RECORD):
        flipped = bytearray(content)
        flipped[byte] ^= 1 << byte % 8
        path.write_bytes(flipped)
        with pytest.warns(UserWarning, match="is damaged"):
            assert torch.equal(kept(files, folder).picture(3), expected)


@pytest.mark.parametrize("part", ["pixels", "index"])
@pytest.mark.parametrize("size", [0, 1, 100, 5000])
@pytest.mark.parametrize("opened", [False, True])
def test_a_file_that_was_cut_off(files: FileImages, folder: Path, part: str, size: int, opened: bool) -> None:
    expected, images = wholes(files), kept(files, folder)
    assert same(wholes(images), expected)
    path = pixels_of(folder, "whole").with_suffix(f".{part}")
    length = path.stat().st_size
    os.truncate(path, min(size, length))
    reader = images if opened else kept(files, folder)
    if part == "pixels":
        with pytest.warns(UserWarning, match="is damaged") as told:
            assert same(wholes(reader), expected)
        assert 1 <= len(told) <= 5, "only so many are named"
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert same(wholes(reader), expected)
    assert same(wholes(kept(files, folder)), expected)


def test_a_picture_that_was_half_written_is_never_taken(
    files: FileImages, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process ends within the pixels, or between the pixels and the record, or within the record."""
    expected, write = wholes(files), module._write
    for bytes_written in (0, 1000, 3 * 40 * 30, 3 * 40 * 30 + 20):
        left = [bytes_written]

        def cut(descriptor: int, content: memoryview, offset: int, left: list[int] = left) -> None:
            write(descriptor, content[: left[0]], offset)
            left[0] -= min(left[0], len(content))
            if left[0] == 0:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(module, "_write", cut)
        with pytest.warns(UserWarning, match=r"cannot be written \(No space left on device\)"):
            assert torch.equal(kept(files, folder).picture(0), expected[0])
        monkeypatch.setattr(module, "_write", write)
        reader = kept(files, folder)
        if bytes_written > 3 * 40 * 30:
            with pytest.warns(UserWarning, match="another checksum"):
                assert torch.equal(reader.picture(0), expected[0])
        assert same(wholes(reader), expected)
        assert same(wholes(kept(files, folder)), expected)
        del reader
        ImageCache(folder, LARGE).clear()
        assert not list(folder.glob("some-*"))


def test_what_is_changed_by_mistake_stays_in_the_process(files: FileImages, folder: Path) -> None:
    expected = files.picture(0)
    images = kept(files, folder)
    images.picture(0)
    images.picture(0).zero_()
    assert torch.equal(kept(files, folder).picture(0), expected)


# ---------------------------------------------------------------- several processes


def fill(files: FileImages, folder: Path, gate: Barrier) -> None:
    """Read everything in random orders, in a process of its own; any other pixels than decoded ones end it."""
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    images = kept(files, folder)
    gate.wait()
    for _ in range(3):
        for i in torch.randperm(len(files), generator=generator(os.getpid())).tolist():
            assert torch.equal(images.picture(i), files.picture(i)), i
        assert torch.equal(images.read(torch.arange(len(files))), files.read(torch.arange(len(files))))


def test_processes_that_fill_one_cache_at_once_keep_every_picture_once(tmp_path: Path, folder: Path) -> None:
    paths, shapes = [], [(25, 30 + i) for i in range(40)]
    for i, (height, width) in enumerate(shapes):
        noise = torch.randint(256, (height, width, 3), generator=generator(i), dtype=torch.uint8)
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(noise.numpy()).save(paths[-1])
    files = FileImages(tuple(paths), torch.zeros(40, dtype=torch.int64), SIZE)
    fork = multiprocessing.get_context("fork")  # a fresh interpreter would import torch for seconds
    gate = fork.Barrier(3)
    running = [fork.Process(target=fill, args=(files, folder, gate)) for _ in range(3)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0, 0, 0]
    assert pixels_of(folder, "whole").stat().st_size == sum(3 * height * width for height, width in shapes)
    assert pixels_of(folder, f"{SIDE}px").stat().st_size == 40 * 3 * SIDE**2


# ---------------------------------------------------------------- how large, and where


def test_what_does_not_fit_is_decoded_each_time(files: FileImages, folder: Path, decoded: list[str]) -> None:
    expected = wholes(files)
    limit = sum(3 * w * h for w, h in SIZES[:3])
    images = kept(files, folder, limit)
    decoded.clear()
    with pytest.warns(UserWarning, match="as much as it may: images that it lacks are decoded each time"):
        assert same(wholes(images), expected)
    assert same(wholes(images), expected)
    assert decoded == [*files.paths, *files.paths[3:]]
    assert pixels_of(folder, "whole").stat().st_size == limit


def test_an_idle_pack_makes_room_and_one_in_use_does_not(files: FileImages, folder: Path) -> None:
    limit = BYTES + 100
    other = FileImages(files.paths[:4], files.labels[:4], SIZE)
    in_use = kept(other, folder, limit)
    in_use.picture(0)
    with pytest.warns(UserWarning, match="as much as it may"):
        wholes(kept(files, folder, limit))
    assert len(list(folder.glob("*.pixels"))) == 2
    assert torch.equal(in_use.picture(0), files.picture(0))
    del in_use
    reader = kept(files, folder, limit)
    assert same(wholes(reader), wholes(files))
    assert pixels_of(folder, "whole").stat().st_size == BYTES


def test_another_decoder_or_list_is_another_pack(
    files: FileImages, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ImageCache(folder, LARGE)
    names = {cache.pack("some", files.paths).name, cache.pack("some", files.paths[:5]).name}
    names |= {cache.pack("other", files.paths).name, cache.pack("some", files.paths[::-1]).name}
    monkeypatch.setattr(module, "decoder", lambda: "another Pillow")
    names.add(cache.pack("some", files.paths).name)
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    names.add(cache.pack("some", files.paths).name)
    assert len(names) == 6


def test_a_folder_that_cannot_be_written_only_warns(files: FileImages, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    images = kept(files, tmp_path / "file" / "decoded")
    with pytest.warns(UserWarning, match=r"cannot be written \(Not a directory\): .* decoded each time"):
        assert torch.equal(images.picture(0), files.picture(0))
    assert same(wholes(images), wholes(files))


def test_a_cache_removed_while_in_use_changes_nothing(files: FileImages, folder: Path) -> None:
    images, expected = kept(files, folder), wholes(files)
    images.picture(0)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.warns(UserWarning, match="cannot be written"):
        assert same(wholes(images), expected)


@pytest.mark.parametrize("given", ["-1", "nan", "inf", "much", "1,5"])
def test_a_size_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str) -> None:
    monkeypatch.setenv(module.LIMIT_VARIABLE, given)
    with pytest.raises(UserError, match="SAFE_IMAGE_CACHE_GIB must be a number of GiB from 0, for example 20, got"):
        image_cache(tmp_path)


def test_the_environment_says_where_and_how_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cache = image_cache(tmp_path / "not there yet")
    assert cache is not None
    assert cache.folder == tmp_path / "not there yet" / "decoded"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < cache.limit <= memory // 2
    monkeypatch.setenv(module.LIMIT_VARIABLE, "1.5")
    monkeypatch.setenv(module.FOLDER_VARIABLE, str(tmp_path / "x"))
    assert image_cache(tmp_path) == ImageCache(tmp_path / "x", 3 * 2**29)
    monkeypatch.setenv(module.FOLDER_VARIABLE, "off")
    assert image_cache(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_arrays_are_not_kept(tmp_path: Path, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.LIMIT_VARIABLE, "no number, and not looked at")
    assert kept_on_disk(tiny_dataset, tmp_path) is tiny_dataset


def test_the_command_shows_and_clears(
    files: FileImages, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", "--root", str(tmp_path)]) == 0
    assert f"{folder}: empty" in capsys.readouterr().out
    reader = kept(files, folder)
    wholes(reader)
    assert main(["cache", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert reader.wholes is not None
    assert reader.wholes.name in shown
    assert main(["cache", "--root", str(tmp_path), "--clear"]) == 0
    assert "in use, stays" in capsys.readouterr().out
    assert same(wholes(reader), wholes(files))
    del reader
    assert main(["cache", "--root", str(tmp_path), "--clear"]) == 0
    assert "removed" in capsys.readouterr().out
    assert not list(folder.glob("some-*"))


def test_kept_images_keep_labels_paths_and_size(files: FileImages, folder: Path) -> None:
    images = kept(files, folder)
    assert replace(images, wholes=None, squares=None) == files
    assert not folder.exists(), "nothing is written before an image is read"
