"""Folders that nobody but their owner can enter: what lies there is believed, and some of it Ray unpickles."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from safe.errors import UserError

RUNTIME = "XDG_RUNTIME_DIR"
NAME = "safe-sweeps"
# Ray puts its sockets below the scratch folder, and no path of a socket is longer than 107 characters.
_LONGEST = 107 - len("/12345678/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store")


def private_folder(folder: Path) -> None:
    """Make a folder that only its owner reads and writes, whatever it was before."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)


@contextmanager
def scratch() -> Iterator[str]:
    """Give a folder for Ray's logs and sockets, which goes afterwards, as goes what killed processes left beside it.

    A folder belongs to the process that has the lock on it.

    Raises:
        UserError: there is no place for it that is ours alone.
    """
    parent = scratch_parent()
    with ExitStack() as stack:
        with _held(parent):  # nobody clears a folder between its making and its lock
            for left in parent.iterdir():
                with suppress(OSError), _held(left, fcntl.LOCK_NB):
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix="", dir=parent))
            stack.enter_context(_held(folder, fcntl.LOCK_NB))
        try:
            yield str(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # what a dying process writes there goes another time


def scratch_parent() -> Path:
    """Return the one folder for all scratch folders of this user, made if it is not there.

    It lies in $XDG_RUNTIME_DIR, else (not set, not there, or too long for Ray's sockets) it is /tmp/safe-sweeps-<uid>.

    Raises:
        UserError: it cannot be made, or is not a folder of mode 700 that belongs to this user.
    """
    runtime = Path(os.environ.get(RUNTIME, ""))
    place = runtime / NAME
    if runtime.is_absolute() and os.path.lexists(runtime) and len(os.fsencode(place)) <= _LONGEST:
        _check_ours(runtime, f"unset {RUNTIME}, or set it to a folder of yours of mode 700")
    else:
        base = "/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir()
        place = Path(base, f"{NAME}-{os.geteuid()}")
    elsewhere = (
        f"set {RUNTIME} to another folder of yours of mode 700, with a path of at most {_LONGEST - len(NAME) - 1} bytes"
    )
    if len(os.fsencode(place)) > _LONGEST:
        raise UserError(f"{place} is too long a path for Ray's sockets; {elsewhere}")
    try:
        with suppress(FileExistsError):
            place.mkdir(mode=0o700)
    except OSError as error:
        raise UserError(f"cannot make the folder {place} for Ray's files: {error.strerror}; {elsewhere}") from None
    _check_ours(place, f"remove it, or {elsewhere}")
    return place


def _check_ours(folder: Path, remedy: str) -> None:
    status, above = folder.lstat(), folder.parent.stat()
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        problem = "is a link"
    elif not stat.S_ISDIR(status.st_mode):
        problem = "is no folder"
    elif status.st_uid != os.geteuid():
        problem = f"belongs to another user (uid {status.st_uid})"
    elif mode & 0o777 != 0o700:
        problem = f"has mode {mode:o}, not 700"
    elif above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        problem = f"can be exchanged by anyone, because {folder.parent} has no sticky bit"
    else:
        return
    raise UserError(f"{folder}, where Ray's files would lie, {problem}; {remedy}")


@contextmanager
def _held(folder: Path, how: int = 0) -> Iterator[None]:
    """Hold the lock on a folder; OSError when it is a link or a pipe, or with LOCK_NB when another has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(descriptor)
