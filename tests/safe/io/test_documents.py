"""YAML as it is read and written everywhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from safe.errors import UserError
from safe.io.documents import parse_yaml, yaml_text

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10), ("-007", -7), ("+1", 1), ("0", 0), ("1e-3", 1e-3), ("01e2", 100.0), (".5", 0.5), ("2.", 2.0),
        ("-.inf", float("-inf")), ("true", True), ("FALSE", False), ("~", None), ("null", None), ("", None),
        ("1:30", "1:30"), ("1:30.5", "1:30.5"), ("1_000", "1_000"), ("1_0.5", "1_0.5"), ("0x10", "0x10"),
        ("0b1", "0b1"), ("0o17", "0o17"), ("yes", "yes"), ("No", "No"), ("ON", "ON"), ("off", "off"), ("tRue", "tRue"),
        ("2024-01-31", "2024-01-31"), ("=", "="), ("{<<: {a: 1}}", {"<<": {"a": 1}}), ("{010: x}", {10: "x"}),
        ("e3", "e3"), ("1e", "1e"), (".", "."), ("१", "१"), ("nan", "nan"), ("inf", "inf"),
    ],
)  # fmt: skip
def test_plain_words_mean_what_yaml_1_2_says_and_numbers_are_decimal(text: str, value: object) -> None:
    parsed = parse_yaml(text, "here")
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("slow.lr: 0.1\nseed: 1\nslow.lr: 0.2\n", "'slow.lr' stands twice, as '0.1' in line 1 and as '0.2' in line 3"),
        ("slow: {epochs: 3}\nslow:\n  lr: 1\n", "'slow' stands twice, in line 1 and in line 2"),
        ("fast: {lr: 1, lr: 1}", "'lr' stands twice, as '1' in line 1 and as '1' in line 1"),
        ("a: [{grid: [1], grid: [2]}]", "'grid' stands twice, in line 1 and in line 1"),
        ("1: a\n01: b\n", "1 stands twice, as 'a' in line 1 and as 'b' in line 2"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_both_places(text: str, told: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"a.yaml is not valid YAML: {told}")):
        parse_yaml(text, "a.yaml")


@pytest.mark.parametrize("text", ["!!int 010", "!!str 5", "! 5", "!!python/object/apply:os.getcwd []", "!!set {a}"])
def test_tags_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"here is not valid YAML: the tag .* is not taken here"):
        parse_yaml(text, "here")


@pytest.mark.parametrize("text", ["9" * 400, f"{{uniform: [1, {'9' * 400}]}}"])
def test_a_number_that_no_fraction_holds_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UserError, match=r"^here is not valid YAML: a number of 400 digits is too large$"):
        parse_yaml(text, "here")


WORDS = ["010", "1e3", "0o7", "09", "yes", "1:30", "null", "", "2024-01-31", "=", "<<", "1_000", "- a", "a: b", "#"]
leaves = st.one_of(
    st.sampled_from(WORDS), st.text(max_size=8), st.integers(), st.floats(allow_nan=False), st.booleans(), st.none()
)
trees = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner))


@given(trees)
@example("a\x85b")
@example(["\u2028", {"": " \u2029\n"}])
def test_what_is_written_is_read_back(tree: Any) -> None:
    assert parse_yaml(yaml_text(tree), "here") == tree
    assert parse_yaml(yaml_text(tree, default_flow_style=True, width=10**6), "here") == tree


@pytest.mark.parametrize("text", WORDS)
def test_other_readers_too_take_a_text_for_a_text(text: str) -> None:
    assert yaml.safe_load(yaml_text({"a": text})) == {"a": text}


def test_nothing_else_reads_or_writes_yaml() -> None:
    files = [file for room in ("safe", "sweeps", "tracking") for file in (ROOT / room).rglob("*.py")]
    users = [file.relative_to(ROOT) for file in files if re.search(r"^\s*(import|from) yaml\b", file.read_text(), re.M)]
    assert users == [Path("safe/io/documents.py")]
