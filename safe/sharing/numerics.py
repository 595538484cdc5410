"""The modules that numbers depend on, and one digest of what they say.

A commit that leaves these modules alone keeps every finished stage valid. Modules of a user's own, which bring a data
set, PET or backbone, are part of it: what they gave before they were edited is never mixed with what they give now.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from safe.io.sources import own_modules, sources_digest

# Everything between the pixels of a data set (known by its digest) and a learner's scores. A package stands for all its
# modules. What stands nowhere here must not change a stage: a test has the list of the others.
NUMERICS = (
    "backbones", "config.reading", "data.cache", "data.images", "data.parallel", "data.sources", "data.stream",
    "data.transforms", "evaluation.logits", "heads", "learners", "losses", "pet", "seeding", "sharing",
    "training.build", "training.features", "training.inputs", "training.session_end", "training.steps",
    "training.trainer",
)  # fmt: skip

_ROOT = Path(__file__).parents[1]


def numerics_digest() -> str:
    """Return the SHA-256 of the modules in `NUMERICS` as they are installed, and of a user's own."""
    shipped, own = _shipped_digest(), own_modules()
    return hashlib.sha256(repr([shipped, *own]).encode()).hexdigest() if own else shipped


@cache
def _shipped_digest() -> str:
    return sources_digest((name, (_ROOT / name).read_text("utf-8")) for name in numerics_files())


def numerics_files() -> list[str]:
    """Return the files of the modules in `NUMERICS`, relative to the package, sorted."""
    places = [_ROOT.joinpath(*module.split(".")) for module in NUMERICS]
    files = [
        file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")])
    ]
    return sorted(file.relative_to(_ROOT).as_posix() for file in files)
