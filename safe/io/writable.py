"""Writing results: a check before the work that it is possible, writing in one step, and errors that name the file."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

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


@contextmanager
def whole(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """Give a draft to write beside `path`, whose folder is made; it then takes the place of `path` in one step.

    When the block fails, `path` is as it was and the draft goes; a kill leaves it, as `.<name>.<word>`.

    Args:
        alone: whether no other process writes `path`; the next call then writes over a draft that a kill has left.

    Raises:
        OSError: it cannot be written; names `path`.
    """
    draft = path.with_name(f".{path.name}.{'draft' if alone else uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.replace(path)
    except OSError as error:
        if error.filename in (None, str(draft)):
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):
            draft.unlink()


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
