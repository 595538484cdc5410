"""Which classes arrive when: an order by names, numbers of classes by session, and what is said twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safe.config import load_config, validate
from safe.config.loading import with_kept_order
from safe.data.sessions import expected_sessions, require_sessions, session_count
from safe.errors import Notice, UserError
from safe.training.build import preflight

NAMES = ["7", "0", "1", "2", "9", "8", "3", "4", "5", "6"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES) + "\n")
    return path


def refused(*words: str, file: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        require_sessions(load_config("digits", file, words))
    return str(caught.value)


def test_a_file_becomes_the_names_in_it_wherever_it_is_named(file: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"data:\n  class_order: {file}\n")
    by_word = load_config("digits", overrides=[f"data.class_order={file}"])
    assert by_word.flat()["data.class_order"] == NAMES
    assert load_config("digits", settings) == by_word
    assert load_config("digits", overrides={"data.class_order": NAMES}) == by_word
    assert load_config("digits", overrides=by_word.flat()) == by_word, "a configuration that was written down"
    file.unlink()
    assert validate(by_word.flat()) == by_word


@pytest.mark.parametrize("text", ["a b\r\n\r\n c\r\n", "\ufeffa b\n c", "a b\n\n c\n\n"])
def test_lines_are_names_with_every_blank_in_them(tmp_path: Path, text: str) -> None:
    file = tmp_path / "names"
    file.write_bytes(text.encode())
    assert load_config("digits", overrides={"data.class_order": str(file)}).data.class_order == ("a b", " c")


def test_orders_that_are_none_are_refused_in_words(file: Path, tmp_path: Path) -> None:
    assert "there is no file 'natrual' with one class name a line" in refused("data.class_order=natrual")
    assert "Did you mean 'natural'?" in refused("data.class_order=natrual")
    assert "the names as a list of texts (numbers in quotes); got [3, 1]" in refused("data.class_order=[3, 1]")
    assert "every class stands once in the order, but '7' stands 2 times" in refused('data.class_order=["7", "0", "7"]')
    assert f"cannot read {tmp_path}" in refused(f"data.class_order={tmp_path}")
    (tmp_path / "latin").write_bytes(b"caf\xe9\n")
    assert "cannot read" in refused(f"data.class_order={tmp_path}/latin")
    (tmp_path / "empty").write_text("\n\n")
    assert "is empty; it takes one class name a line" in refused(f"data.class_order={tmp_path}/empty")
    file.write_text("\n".join(["seven", *NAMES[1:]]))
    assert "holds 10 names:\n  - there is no class 'seven'." in refused(f"data.class_order={file}")


def test_what_is_said_twice_is_refused(file: Path, tmp_path: Path) -> None:
    sizes = "data.sessions=[5, 5]"
    assert "data.init_classes=2 and data.increment=4 would change nothing" in refused(
        sizes, "data.init_classes=2", "data.increment=4"
    )
    assert "class_order_seed=3 would change nothing" in refused(f"data.class_order={file}", "class_order_seed=3")
    settings = tmp_path / "settings.yaml"
    settings.write_text("data.increment: 4")
    assert "data.increment=4 would change nothing" in refused(sizes, file=settings)
    load_config("digits", overrides=["data.sessions=null", "data.increment=4", "class_order_seed=3"])


@pytest.mark.parametrize("sizes", ["[]", "[0, 10]", "[5, 5.0]", "10"])
def test_sizes_that_are_none_are_refused(sizes: str) -> None:
    assert "data.sessions" in refused(f"data.sessions={sizes}")


def test_sessions_are_as_long_as_the_list_says(file: Path) -> None:
    config = load_config("digits", overrides=["data.sessions=[6, 1, 3]", f"data.class_order={file}"])
    assert session_count(config) == 3
    assert [session.classes for session in expected_sessions(config)] == [6, 7, 10]
    assert refused("data.sessions=[6, 1]") == "data.sessions=[6, 1] come to 7 classes, and the data set has 10"
    preflight(config)


def test_domains_take_no_sizes_of_sessions() -> None:
    with pytest.raises(UserError, match="the sessions of domainnet are its domains"):
        session_count(load_config("domainnet", overrides=["data.sessions=[300, 45]"]))
    assert session_count(load_config("domainnet", overrides=["data.sessions=[300, 45]", "data.scenario=class"])) == 2


@pytest.mark.parametrize("as_mapping", [False, True])
def test_an_order_whose_file_is_gone_is_the_one_that_was_kept(file: Path, as_mapping: bool) -> None:
    given: Any = {"data.class_order": str(file), "seed": 1} if as_mapping else [f"data.class_order={file}", "seed=1"]
    assert with_kept_order(given, pytest.fail) is given, "the file is there"
    file.unlink()
    with pytest.warns(Notice, match="names.txt is not there; what began with it goes on in the order of 10 classes"):
        assert with_kept_order(given, lambda: tuple(NAMES)) == {"data.class_order": NAMES, "seed": 1}
    assert with_kept_order(given, lambda: "seeded") is given


def test_so_is_one_that_a_configuration_file_names(file: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"data:\n  class_order: {file}\n")
    assert with_kept_order(["seed=1"], pytest.fail, settings) == ["seed=1"], "the file is there"
    file.unlink()
    with pytest.warns(Notice, match="names.txt is not there"):
        kept = with_kept_order(["seed=1"], lambda: NAMES, settings)
    assert load_config("digits", settings, kept).flat()["data.class_order"] == NAMES
    assert with_kept_order(["data.class_order=natural"], pytest.fail, settings) == ["data.class_order=natural"]
