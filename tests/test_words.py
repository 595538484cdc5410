"""What Python files are called after: every test file says what it is about, and no name says nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("safe", "sweeps", "tracking", "tests", "benchmarks", "examples")
EMPTY_NAMES = {"found"}  # A reader would have to look up what was found.


def names(code: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of every variable, parameter, attribute and keyword argument."""
    for node in ast.walk(ast.parse(code)):
        name = getattr(node, "id", None) or getattr(node, "arg", None) or getattr(node, "attr", None)
        if isinstance(name, str):
            yield node.lineno, name  # type: ignore[attr-defined]


def files() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_nothing_is_called_by_a_word_that_says_nothing() -> None:
    assert len(files()) > 250
    assert [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in files()
        for line, name in names(path.read_text("utf-8"))
        if name in EMPTY_NAMES
    ] == []


@pytest.mark.parametrize("code", ["found = 1", "def f(found): ...", "a.found", "f(found=1)", "f'{found}'"])
def test_such_a_name_is_caught(code: str) -> None:
    assert "found" in [name for _, name in names(code)]


def first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]


def test_every_test_file_says_in_its_first_line_what_it_is_about() -> None:
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    assert len(tests) > 120
    assert [str(path.relative_to(ROOT)) for path in tests if not first_line(path).endswith(".")] == []
