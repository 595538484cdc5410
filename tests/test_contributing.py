"""CONTRIBUTING.md names rooms and files that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_every_file_that_it_names_is_there() -> None:
    files = set(re.findall(r"`((?:safe|sweeps|tracking|tests|docs|examples)/[\w/.]+)`", TEXT))
    assert len(files) > 12
    assert [file for file in sorted(files) if not (ROOT / file).exists()] == []


def test_the_rooms_stand_in_the_order_of_the_architecture() -> None:
    document = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for package in ("safe", "sweeps"):
        (row,) = re.findall(rf"^\| `{package}` \| (.+) \|$", TEXT, re.M)
        section = document.split(f"## `{package}/`")[1].split("\n## ")[0]
        assert row.split(", ") == re.findall(r"^\| `([a-z_]+)", section, re.M), package


def test_every_target_that_it_names_is_one_of_make() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    named = set(re.findall(r"`make ([a-z-]+)", TEXT))
    assert named
    assert named <= targets
