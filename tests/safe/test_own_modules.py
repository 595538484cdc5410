"""Modules of a user's own: found or refused in words, and part of the digest that tells stages apart."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from safe import register_dataset
from safe.config import load_config
from safe.config.settings import PET_KINDS
from safe.data.loading import class_count, load_dataset
from safe.data.sessions import image_counts
from safe.data.sources import ArrayImages
from safe.datasets import facts
from safe.errors import UserError
from safe.io import sources
from safe.io.sources import import_own, own_folders
from safe.pet import registry
from safe.sharing.numerics import numerics_digest
from sweeps.spec.conditions import conditions


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what a test registers."""
    monkeypatch.setattr(sources, "_FOLDERS", {})  # which tests before this one may have filled
    for holder, name in ((sources, "_OWN"), (facts, "DATASETS"), (facts, "_BY_ALIAS")):
        monkeypatch.setattr(holder, name, dict(getattr(holder, name)))
    pets, path, modules = set(PET_KINDS), list(sys.path), set(sys.modules)
    yield
    for kind in set(PET_KINDS) - pets:
        del PET_KINDS[kind], registry._WIRINGS[kind]
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("mine"):
            del sys.modules[name]


def test_the_source_of_a_module_tells_stages_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = numerics_digest()

    def digest(code: str) -> str:
        Path("mine_a.py").write_text(code)
        sys.modules.pop("mine_a", None)
        import_own(["mine_a"])
        return numerics_digest()

    first = digest("FACTOR = 2\n")
    assert first != before
    assert digest("FACTOR = 2  # words alone\n") == first
    assert digest("FACTOR = 30\n") != first
    assert own_folders() == [str(tmp_path)]


def test_all_modules_of_a_package_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "mine_b"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("X = 1\n")
    import_own(["mine_b"])
    first = numerics_digest()
    (package / "inner.py").write_text("X = 2\n")
    import_own(["mine_b"])
    assert numerics_digest() != first
    assert own_folders() == [str(tmp_path)]


def test_what_is_not_there_is_refused_and_what_is_broken_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--import mine_c: there is no module 'mine_c' in"):
        import_own(["mine_c"])
    with pytest.raises(UserError, match=r"write a module as Python imports it, my_module or my.module, no path"):
        import_own(["./mine_c.py"])
    (tmp_path / "mine_c.py").write_text("import no_such_thing\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_thing"):
        import_own(["mine_c"])


def test_a_registered_data_set_is_used_by_its_name_and_known_by_its_content() -> None:
    value = torch.tensor(7, dtype=torch.uint8)

    def images(count: int) -> ArrayImages:
        return ArrayImages(value.expand(count, 1, 8, 8).clone(), torch.arange(count) % 2)

    @register_dataset("two_greys", classes=2)
    def two_greys(root: Path) -> tuple[tuple[str, ...], ArrayImages, ArrayImages]:
        return ("light", "dark"), images(4), images(2)

    assert load_config("Two_Greys").dataset == "two_greys"
    assert class_count("two_greys", "nowhere") == 2
    first = load_dataset("two_greys", "nowhere", 32)
    assert image_counts("two_greys", "nowhere") == (4, 2)
    assert (first.classes, len(first.train), len(first.test)) == (("light", "dark"), 4, 2)
    assert load_dataset("two_greys", "nowhere", 32).digest == first.digest
    value = value + 1
    assert load_dataset("two_greys", "nowhere", 32).digest != first.digest
    with pytest.raises(ValueError, match="there is a data set 'two_greys' already"):
        register_dataset("two_greys", classes=2)(two_greys)
    with pytest.raises(ValueError, match="lower-case letters"):
        register_dataset("Two/Greys", classes=2)(two_greys)


def test_labels_that_no_class_has_are_refused() -> None:
    @register_dataset("three_labels", classes=2)
    def three_labels(root: Path) -> tuple[tuple[str, ...], ArrayImages, ArrayImages]:
        images = ArrayImages(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.arange(3))
        return ("a", "b"), images, images

    with pytest.raises(UserError, match=r"3 training images and 2 classes: there must be images, and labels in \[0, 2"):
        load_dataset("three_labels", "nowhere", 32)


def test_a_pet_of_ones_own_is_a_kind_with_the_settings_that_it_names() -> None:
    with pytest.raises(UserError, match="unknown PET kind 'mine'; choose one of: none, adapter"):
        load_config("digits", overrides={"pet.kind": "mine"})

    @registry.register("mine")
    def wire(vit: object, generator: object, *, rank: int = 3, own: float = 1.0) -> None: ...

    assert conditions("pet.rank")[0].alternatives == (("pet.kind", "lora"), ("pet.kind", "mine"))
    assert load_config("digits", overrides={"pet.kind": "mine"}).pet.kind == "mine"


def test_every_kind_is_registered_by_the_module_that_it_names() -> None:
    for kind, module in PET_KINDS.items():
        assert registry.wiring(kind).__module__ == module
