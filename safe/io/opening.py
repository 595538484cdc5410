"""Opening regular files only: a pipe, a socket or a device of that name is refused at once instead of waited for."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_SPECIAL = {
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
FileVersion = tuple[int, int, int, int]  # inode, size, mtime and ctime in ns


def special_kind(mode: int) -> str:
    """Return what a file of this `st_mode` is called if it is neither a regular file nor a folder, else an empty word.

    Links are not among them: ask with the mode of what they lead to.
    """
    return _SPECIAL.get(stat.S_IFMT(mode), "")


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file, or a link to one, for reading; never waits for somebody who writes.

    Raises:
        OSError: it is not there, cannot be read, or is a folder, pipe, socket or device (which `strerror` says).
    """
    if kind := special_kind(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, f"it is a {kind}, and only regular files are read", str(path))
    # Without waiting: a pipe may have taken the file's place by now.
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def read_regular(path: str | Path) -> bytes:
    """Return the content of a regular file; raises as `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def open_own(path: str | os.PathLike[str], flags: int, mode: int = 0o666) -> int:
    """Open a lock or another file that we make where others may write too; returns a descriptor, as `os.open` does.

    Serves as the `opener` of Python's `open`.

    Raises:
        OSError: it is a link (which would lead the writing elsewhere) or no regular file, or it cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as error:
        told = {errno.ELOOP: "it is a link", errno.ENXIO: "it is no regular file"}
        raise OSError(error.errno, told.get(error.errno or 0, error.strerror), os.fspath(path)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))
    return descriptor


@contextmanager
def held(path: str | os.PathLike[str], *, wait: bool = True) -> Iterator[BinaryIO]:
    """Hold the lock on a file, made where there is none and open for appending; it ends with the process at the latest.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
        OSError: as `open_own`.
    """
    with open(path, "ab", opener=open_own) as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield file


def version_of(status: os.stat_result) -> FileVersion:
    """Return what changes when a file is written, exchanged or given another one's times."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
