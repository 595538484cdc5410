"""The table of data sets: names, aliases, what is missing and where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from safe.config import load_config
from safe.data.benchmarks.glyphs import CLASSES, TEST_PER_CLASS, TRAIN_PER_CLASS
from safe.data.loading import load_dataset
from safe.data.sources import Dataset
from safe.datasets.facts import DATASETS, canonical_name, require_dataset
from safe.errors import UserError


def test_names_and_aliases_in_any_case() -> None:
    for name, info in DATASETS.items():
        assert info.name == name
        for alias in (name, *info.aliases):
            assert canonical_name(alias) == canonical_name(f" {alias.upper()} ") == name
    assert canonical_name("ImageNet-R") == "imagenet_r"
    assert canonical_name("cub") == "cub200"


def test_no_alias_has_two_meanings() -> None:
    names = [alias for info in DATASETS.values() for alias in (info.name, *info.aliases)]
    assert len(names) == len(set(names))


def test_published_facts() -> None:
    """Classes, training and test images (RanPAC, arXiv 2303.07338, and the pages of CIFAR-100 and DomainNet)."""
    facts = {name: (i.classes, i.train_images, i.test_images) for name, i in DATASETS.items() if not i.embedded}
    assert facts == {
        "cifar100": (100, 50_000, 10_000),
        "fashion_mnist": (10, 60_000, 10_000),
        "imagenet_r": (200, 24_000, 6_000),
        "imagenet_a": (200, 5_981, 1_519),
        "cub200": (200, 9_430, 2_358),
        "omnibenchmark": (300, 89_697, 5_985),
        "vtab": (50, 1_796, 8_619),
        "domainnet": (345, 409_832, 176_743),
        "cars": (196, None, None),
    }


def test_an_unknown_name_lists_the_choices_and_the_nearest(tmp_path: Path) -> None:
    for call in (canonical_name, lambda name: load_dataset(name, tmp_path, 32)):
        with pytest.raises(UserError, match=r"unknown data set 'digit'; choose one of: digits, .*mean 'digits'"):
            call("digit")


@pytest.mark.parametrize("present", [(), ("train",), ("test",)])
def test_missing_folders_are_told_with_path_layout_and_counts(tmp_path: Path, present: tuple[str, ...]) -> None:
    for split in present:
        (tmp_path / "omnibenchmark" / split).mkdir(parents=True)
    with pytest.raises(UserError) as error:
        require_dataset("omnibenchmark", tmp_path)
    message = str(error.value)
    for part in (str(tmp_path / "omnibenchmark" / "train"), "300 class folders", "89697", "5985", "data.root"):
        assert part in message
    first_line = message.splitlines()[0]
    for split in ("train", "test"):
        assert (split in first_line.partition(" under ")[0]) == (split not in present)


def test_embedded_sets_need_no_files(tmp_path: Path) -> None:
    assert require_dataset("digits", tmp_path / "nowhere").embedded


@pytest.mark.filterwarnings("ignore:.*are published")
def test_a_folder_set_is_loaded_from_its_own_folder(tmp_path: Path) -> None:
    for split in ("train", "test"):
        folder = tmp_path / "vtab" / split / "one"
        folder.mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(folder / "0.png")
    dataset = load_dataset("VTAB", tmp_path, 32)
    assert (dataset.name, dataset.classes, len(dataset.train), len(dataset.test)) == ("vtab", ("one",), 1, 1)


def test_digits_hold_what_the_table_says(tmp_path: Path) -> None:
    dataset = load_dataset("digits", tmp_path, 32)
    assert isinstance(dataset, Dataset)
    info = DATASETS["digits"]
    assert (len(dataset.classes), len(dataset.train), len(dataset.test)) == (
        info.classes,
        info.train_images,
        info.test_images,
    )


def make_birds(folder: Path) -> Path:
    for split in ("train", "test"):
        for name in ("finch", "wren"):
            place = folder / split / name
            place.mkdir(parents=True)
            Image.new("RGB", (20, 20)).save(place / "0.png")
    return folder


def test_glyphs_hold_what_the_table_says() -> None:
    info = DATASETS["glyphs"]
    counts = (len(CLASSES), len(CLASSES) * TRAIN_PER_CLASS, len(CLASSES) * TEST_PER_CLASS)
    assert counts == (info.classes, info.train_images, info.test_images)


def test_a_path_is_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    birds = make_birds(tmp_path / "my birds")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (str(birds), f"{birds}/", "my birds", "./my birds", "~/my birds", f"{tmp_path}/x/../my birds"):
        assert canonical_name(name) == str(birds)
    dataset = load_dataset("my birds", tmp_path / "nowhere", 32)
    assert (dataset.name, dataset.classes, len(dataset.train)) == (str(birds), ("finch", "wren"), 2)
    config = load_config(str(birds), overrides=["data.init_classes=1", "data.increment=1"])
    assert (config.dataset, config.data.init_classes) == (str(birds), 1)


def test_a_path_without_train_and_test_is_told_the_layout(tmp_path: Path) -> None:
    (tmp_path / "birds" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="no test under") as error:
        require_dataset(str(tmp_path / "birds"), "data")
    assert f"{tmp_path}/birds/test/<class folder>/<image>: the same class folders in each" in str(error.value)
    assert "fetch" not in str(error.value)


def test_an_unknown_word_mentions_that_a_path_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"unknown data set 'birds'.* path of a folder with train/ and test/"):
        canonical_name("birds")


def test_a_folder_that_is_there_is_meant_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_birds(tmp_path / "birds" / "train").joinpath("test").rename(tmp_path / "birds" / "x")
    with pytest.raises(UserError, match=r"no test under .*birds\."):
        require_dataset("birds", "data")
    for word in ("", " ", "bird"):
        with pytest.raises(UserError, match="unknown data set"):
            canonical_name(word)


def test_a_known_name_wins_over_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_birds(tmp_path / "cub")
    monkeypatch.chdir(tmp_path)
    assert canonical_name("CUB") == "cub200"


def test_the_table_loads_without_torchvision(run_python: Callable[[str], str]) -> None:
    printed = run_python("import safe.data.loading, sys; print({'torch', 'torchvision', 'PIL'} & set(sys.modules))")
    assert printed == "set()\n"
