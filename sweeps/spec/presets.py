"""The search spaces that come with the package; the standard library alone is enough to know their names."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable


def space_presets() -> dict[str, Traversable]:
    """Return the search spaces that come with the package, by name."""
    presets = (files("sweeps") / "presets").iterdir()
    return {one.name.removesuffix(".yaml"): one for one in sorted(presets, key=lambda one: one.name)}
