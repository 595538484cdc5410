"""constraints.txt fits every Python that pyproject.toml promises, and pins everything that is installed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PINS = {
    canonicalize_name(requirement.name): next(iter(requirement.specifier)).version
    for requirement in map(Requirement, (ROOT / "constraints.txt").read_text("utf-8").splitlines())
}
PYTHONS = ("3.11.0", "3.12.0", "3.13.0")  # of each the oldest, which is what asks for most


def metadata(name: str) -> tuple[str, list[Requirement]] | None:
    """Return what a pinned version that is installed here asks of Python and of other packages; offline."""
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        return None
    if installed.version != PINS[name]:
        return None
    return installed.metadata.get("Requires-Python") or "", [Requirement(text) for text in installed.requires or []]


def needed(python: str, extras: Iterable[str]) -> Iterator[Requirement]:
    """Yield what the project with extras needs under a Python, and what that needs in turn, as far as it is here."""
    environment = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    waiting = [Requirement(text) for text in PROJECT["dependencies"]]
    waiting += [Requirement(text) for extra in extras for text in PROJECT["optional-dependencies"][extra]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        one = waiting.pop()
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key in seen:
            continue
        seen.add(key)
        yield one
        _, others = (metadata(key[0]) if key[0] in PINS else None) or ("", [])
        waiting += [
            other
            for other in others
            if other.marker is None
            or any(other.marker.evaluate(environment | {"extra": extra}) for extra in ("", *one.extras))
        ]


@pytest.mark.parametrize("python", PYTHONS)
def test_every_pin_fits_every_python_that_is_promised(python: str) -> None:
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    asks = {name: pair[0] for name in PINS if (pair := metadata(name)) is not None}
    assert {"torch", "mlflow", "ray", "gdown", "soupsieve", "pytest"} <= set(asks), "install what constraints.txt pins"
    assert {name: ask for name, ask in asks.items() if not SpecifierSet(ask).contains(python)} == {}


@pytest.mark.parametrize("python", PYTHONS)
def test_everything_that_is_installed_is_pinned_to_what_is_asked_for(python: str) -> None:
    everything = list(needed(python, PROJECT["optional-dependencies"]))
    assert len(everything) > 100
    assert [str(one) for one in everything if canonicalize_name(one.name) not in PINS] == []
    pinned = [(one, PINS[canonicalize_name(one.name)]) for one in everything]
    wrong = [one for one, version in pinned if not one.specifier.contains(version, prereleases=True)]
    assert [str(one) for one in wrong] == []


@pytest.mark.parametrize("name", ["mlflow", "optuna", "ray"])
def test_no_version_of_a_library_that_was_never_run_is_allowed(name: str) -> None:
    """What we use of these changes from one minor version to the next; see the `compat` modules."""
    every = [*PROJECT["dependencies"], *(text for more in PROJECT["optional-dependencies"].values() for text in more)]
    allowed = [one.specifier for one in map(Requirement, every) if canonicalize_name(one.name) == name]
    major, minor, *_ = map(int, PINS[name].split("."))
    assert allowed
    for specifier in allowed:
        assert specifier.contains(PINS[name])
        for other in (f"{major}.{minor + 1}.0", f"{major - (not minor)}.{minor - 1 if minor else 99}.0"):
            assert not specifier.contains(other), specifier
