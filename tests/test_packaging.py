"""What pyproject.toml declares is what the packages import; the version has one source, and both commands tell it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import safe
import sweeps.__main__ as entry

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
OUR_OWN = ("safe", "sweeps", "tracking", "benchmarks", "tests", "docker", "examples")
# Folder -> extras whose packages it may import besides the trainer's.
MAY_USE = {
    "safe": (),
    "tracking": ("sweeps",),
    "sweeps": ("sweeps",),
    "benchmarks": ("sweeps",),
    "examples": ("sweeps",),
    "tests": ("sweeps", "dev"),
}
DISTRIBUTIONS = packages_distributions()


def declared(*extras: str) -> set[str]:
    texts = [*PROJECT["dependencies"], *(text for extra in extras for text in PROJECT["optional-dependencies"][extra])]
    return {canonicalize_name(Requirement(text).name) for text in texts}


def imported(folder: str) -> dict[str, set[str]]:
    """Return the top-level names of other projects that a folder imports, wherever, each with the files that do."""
    names: dict[str, set[str]] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for module in modules:
                top = module.split(".")[0]
                if top not in sys.stdlib_module_names and top not in OUR_OWN:
                    names.setdefault(top, set()).add(path.relative_to(ROOT).as_posix())
    return names


def owners(name: str) -> set[str]:
    return {canonicalize_name(owner) for owner in DISTRIBUTIONS.get(name, [name])}


@pytest.mark.parametrize("folder", MAY_USE)
def test_every_import_is_declared(folder: str) -> None:
    names, allowed = imported(folder), declared(*MAY_USE[folder])
    assert names or not (ROOT / folder).is_dir()
    assert {name: files for name, files in names.items() if not owners(name) & allowed} == {}


def test_what_is_declared_is_imported() -> None:
    def used(*folders: str) -> set[str]:
        return set().union(*(owners(name) for folder in folders for name in imported(folder)))

    assert declared() - used("safe") == set()
    assert declared("sweeps") - used("safe", "sweeps", "tracking") == set()


def test_the_command_knows_what_its_extra_installs() -> None:
    extra = {canonicalize_name(Requirement(text).name) for text in PROJECT["optional-dependencies"]["sweeps"]}
    assert {owner for name in entry.EXTRA for owner in owners(name) if owner in extra} == extra


def test_sweeps_without_its_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(entry, "find_spec", lambda name: None if name in ("ray", "mlflow") else object())
    assert entry.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: sweeps need mlflow, ray, and")
    assert "pip install 'safe-sweeps[sweeps]'" in line


def test_setup_installs_what_the_sweeps_and_the_tests_need() -> None:
    (extras,) = re.findall(r"--editable '\.\[(.+)]'", (ROOT / "Makefile").read_text("utf-8"))
    assert set(extras.split(",")) == {"sweeps", "dev"}


@pytest.mark.parametrize("package", ["safe", "sweeps"])
def test_each_command_tells_the_version(package: str) -> None:
    assert safe.__version__ == PROJECT["version"]
    words = [sys.executable, "-m", package, "--version"]
    told = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True)
    assert told.stdout == f"{package} {PROJECT['version']}\n"


def test_the_changelog_begins_with_the_version_and_its_date() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert re.fullmatch(re.escape(PROJECT["version"]) + r" \(\d{4}-\d\d-\d\d\)", released[0])


@pytest.mark.parametrize("package", ["safe", "sweeps", "tracking"])
def test_types_are_told_and_installed(package: str) -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    assert (ROOT / package / "py.typed").is_file()
    for pattern in data[package]:
        assert list((ROOT / package).glob(pattern)), f"{package}: nothing matches {pattern}"
