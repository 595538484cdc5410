"""Asking before the work whether its outcome can be written after it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from safe.errors import UserError


def require_writable(path: Path, what: str) -> None:
    """Make sure that a file can be put at `path`, by making one in the nearest folder that exists; nothing is left.

    Permissions alone do not tell: the superuser passes every such check, on a read-only file system too.

    Raises:
        UserError: it cannot; `what` names the option that asked for the file.
    """
    folder = path.absolute().parent
    try:
        while not folder.exists():
            folder = folder.parent
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable."):
            possible = path.is_file() or not path.exists()  # a device would be replaced, /dev/null too
    except OSError:
        possible = False
    if not possible:
        raise UserError(f"{what}: {path} cannot be written; name a file in a folder that can")
