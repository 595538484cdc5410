"""Names of sweeps."""

from __future__ import annotations

import re
from pathlib import Path

from safe.errors import UserError

NAME_LENGTH = 64


def checked_name(name: str) -> str:
    """Return `name` if it can name a sweep, a folder and a run; else raise `UserError` with the rule."""
    if not re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_LENGTH - 1}}}", name):
        raise UserError(
            f"{name!r} cannot name a sweep: use 1 to {NAME_LENGTH} letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )
    return name


def default_name(dataset: str, suffix: str) -> str:
    """Return a name made of a data set's, which may be a path with any letters, and a suffix."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(dataset).name).strip("-._")
    return f"{stem[: NAME_LENGTH - len(suffix) - 1] or 'data'}-{suffix}"
