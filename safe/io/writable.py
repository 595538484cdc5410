"""Whether what comes out of the work can be written: asked before it, and told by file when it cannot."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safe.errors import UserError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def no_room(error: BaseException | None) -> bool:
    """Return whether an error says that the disk takes nothing more: it is full, or only to be read by now."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an `OSError` of the block name the file that it is about, which a failed write by itself does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


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
