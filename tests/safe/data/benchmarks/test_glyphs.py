"""The rendered letters: counts, digest, and their cache on disk."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from safe.data.benchmarks import glyphs
from safe.data.benchmarks.characters import render_all
from safe.data.benchmarks.distort import PLAIN, PRETRAINING, Look, distort
from safe.data.benchmarks.glyphs import CLASSES, GLYPHS, draw_split, load_glyphs
from safe.data.sources import ArrayImages, Dataset, arrays_digest
from safe.seeding import generator


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_glyphs(tmp_path_factory.mktemp("glyphs"))


def test_a_hundred_classes_of_equal_size(data: Dataset) -> None:
    assert len(data.classes) == 100
    assert len(set(data.classes)) == 100
    assert torch.bincount(data.train.labels).tolist() == [glyphs.TRAIN_PER_CLASS] * 100
    assert torch.bincount(data.test.labels).tolist() == [glyphs.TEST_PER_CLASS] * 100
    pixels = data.train.read(torch.tensor([0, 5999]))
    assert pixels.shape == (2, 3, 32, 32)
    assert pixels.dtype == torch.uint8


def test_training_and_test_pictures_differ(data: Dataset) -> None:
    train, test = (part.read(torch.arange(25))[:, 0].flatten(1).float() for part in (data.train, data.test))
    assert float(torch.cdist(train, test).min()) > 0


def test_the_digest_repeats_whatever_the_global_random_state(data: Dataset, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        before = torch.get_rng_state()
        assert load_glyphs(tmp_path).digest == data.digest
        assert torch.equal(torch.get_rng_state(), before)


def test_a_class_does_not_depend_on_the_others_nor_on_the_order_of_reading() -> None:
    whole = draw_split("test", 3)
    shuffled = torch.randperm(300, generator=generator(1, "order"))
    assert torch.equal(whole.read(shuffled), whole.read(torch.arange(300))[shuffled])
    masks = render_all("".join(CLASSES))
    owner = torch.tensor([label for label, members in enumerate(CLASSES) for _ in members])[masks.character]
    random = generator(glyphs.SEED, "glyphs", "test", 42)
    own, foreign = (owner == 42).nonzero()[:, 0], (owner != 42).nonzero()[:, 0]
    chosen = own[torch.randint(len(own), (3,), generator=random)]
    others = foreign[torch.randint(len(foreign), (3,), generator=random)]
    alone = distort(masks.pixels[chosen], masks.pixels[others], GLYPHS, random)
    printed = (1 - glyphs.HATCH) * alone + glyphs.HATCH * glyphs.hatched_sheet()
    assert torch.equal((printed * 255).round().to(torch.uint8), whole.pixels[126:129])


def test_every_picture_is_printed_over_by_the_one_sheet() -> None:
    sheet = glyphs.hatched_sheet()
    assert set(sheet.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(sheet[6:], sheet[:-6]), "the lines repeat after the stated period"
    hatched, plain = (draw_split("test", 2, hatch).pixels.float() / 255 for hatch in (glyphs.HATCH, 0.0))
    rest = (hatched - (1 - glyphs.HATCH) * plain) / glyphs.HATCH
    assert torch.allclose(rest, sheet.expand_as(rest), atol=0.02)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "TRAIN_PER_CLASS", 2)
    monkeypatch.setattr(glyphs, "TEST_PER_CLASS", 1)


def _digest(data: Dataset) -> str:
    assert isinstance(data.train, ArrayImages)
    assert isinstance(data.test, ArrayImages)
    return arrays_digest(data.train, data.test)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("damage", ["truncate", "flip a pixel", "not safetensors"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: str) -> None:
    digest = load_glyphs(tmp_path).digest
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    bad = {"truncate": good[:-50], "flip a pixel": good[:-1] + bytes([good[-1] ^ 1]), "not safetensors": b"x" * 99}
    path.write_bytes(bad[damage])
    data = load_glyphs(tmp_path)
    assert data.digest == digest == _digest(data)
    assert glyphs._read(path) is not None, "the cache is good again"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("small")
def test_a_good_cache_is_read_and_one_of_another_recipe_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_glyphs(tmp_path).digest

    def never(*_: object) -> ArrayImages:
        raise AssertionError("drew although there is a cache")

    monkeypatch.setattr(glyphs, "draw_split", never)
    assert load_glyphs(tmp_path).digest == first
    monkeypatch.setattr(glyphs, "GLYPHS", replace(GLYPHS, noise=(0.5, 0.5)))
    with pytest.raises(AssertionError, match="although"):
        load_glyphs(tmp_path)


@pytest.mark.usefixtures("small")
def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "cache"
    with pytest.warns(UserWarning, match="drawn again each time") as told:
        data = load_glyphs(folder)
    assert len(told) == 1
    assert str(told[0].message).startswith(f"{folder} cannot be written (Not a directory): ")
    assert data.digest == load_glyphs(tmp_path / "good").digest


@pytest.mark.usefixtures("small")
def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        load_glyphs(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o007, 0o660)])
def test_the_cache_has_the_permissions_of_any_new_file(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        load_glyphs(tmp_path)
    finally:
        os.umask(before)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == mode


def test_a_family_between_two_others_mixes_every_range() -> None:
    quickstart = PLAIN.towards(PRETRAINING, 0.5)
    assert quickstart.zoom == pytest.approx(((0.8 + 0.6) / 2, (0.95 + 1.0) / 2))
    assert PLAIN.towards(PRETRAINING, 0.0) == PLAIN


def _still(**changes: tuple[float, float]) -> Look:
    nothing = dict.fromkeys(Look.__dataclass_fields__, (0.0, 0.0))
    return Look(**{**nothing, "zoom": (40 / 48, 40 / 48), "contrast": (1.0, 1.0), "dark": (-1.0, -1.0), **changes})


def test_distortions_do_what_their_names_say() -> None:
    masks = render_all(["Ж"]).pixels[:1].repeat(64, 1, 1)

    def drawn(**changes: tuple[float, float]) -> torch.Tensor:
        return distort(masks, masks.flip(2), _still(**changes), generator(0, "distort"))

    plain = drawn()
    assert plain.shape == (64, 1, 32, 32)
    assert torch.equal(plain, plain[:1].expand_as(plain)), "no distortion: all pictures are one"
    faint = drawn(contrast=(0.25, 0.25))
    assert float((faint.amax((1, 2, 3)) - faint.amin((1, 2, 3))).max()) < 0.26
    assert torch.allclose(drawn(dark=(1.0, 1.0)), 1 - plain, atol=1e-5)
    assert float(drawn(thicken=(1.0, 1.0)).mean()) > 1.1 * float(plain.mean())
    assert float(drawn(thicken=(-1.0, -1.0)).mean()) < 0.9 * float(plain.mean())
    assert float(drawn(outline=(1.0, 1.0)).mean()) < 0.9 * float(plain.mean())
    assert float(drawn(rough=(0.3, 0.3)).mean()) < 0.9 * float(plain.mean())
    for adds in ("clutter", "lines"):
        assert float(drawn(**{adds: (1.0, 1.0)}).mean()) > 1.02 * float(plain.mean()), adds
    for spreads in ("rotation", "shift", "elastic", "noise", "stripes", "shading"):
        assert float(drawn(**{spreads: (0.2, 9.0)}).std(0).max()) > 0.1, spreads
    columns = torch.arange(32.0)
    right = drawn(shift=(3.0, 3.0))[0, 0]
    moved = [float((image.sum(0) * columns).sum() / image.sum()) for image in (plain[0, 0], right)]
    assert moved[1] - moved[0] == pytest.approx(3 * 0.83, abs=0.6)


def test_the_quickstart_is_the_first_classes(data: Dataset, tmp_path: Path) -> None:
    quickstart = glyphs.load_quickstart(tmp_path)
    assert quickstart.classes == data.classes[:30]
    assert (len(quickstart.train), len(quickstart.test)) == (1_800, 750)
    assert torch.equal(quickstart.train.read(torch.arange(1_800)), data.train.read(torch.arange(1_800)))
    assert torch.equal(quickstart.test.labels, data.test.labels[:750])
    assert quickstart.digest != data.digest
