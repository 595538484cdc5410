"""One driver per study: the lock file, which says who holds it, and how to ask the holder to stop."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from safe.errors import UserError
from safe.io.opening import held, open_own

FILE_NAME = "lock"


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold the study in `folder` for this process; the lock ends with the process, whatever happens to it.

    Raises:
        UserError: another process holds it; says which. Or the lock is no file that can be written.
    """
    path = folder / FILE_NAME
    with ExitStack() as stack:
        try:
            file = stack.enter_context(held(path, wait=False))
        except BlockingIOError:
            told = _holder(folder)[2]
            raise UserError(f"the sweep {name!r} is being run by another process ({told})") from None
        except OSError as error:
            raise UserError(f"cannot lock the sweep {name!r} with {path}: {error.strerror}; remove that file") from None
        file.truncate(0)
        file.write(f"{os.getpid()} {socket.gethostname()}".encode())
        file.flush()
        yield


def is_held(folder: Path) -> bool:
    """Return whether a process runs the study in `folder`."""
    try:
        with open(folder / FILE_NAME, opener=open_own) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # never run, or not ours to look at
        return False
    return False


def stop_holder(folder: Path, name: str) -> int:
    """Ask the process that runs the study in `folder` to stop, as Ctrl-C would; return its process id.

    Raises:
        UserError: nobody runs it, or a process that cannot be asked from here.
    """
    if not is_held(folder):
        raise UserError(f"the sweep {name!r} is not running")
    pid, host, told = _holder(folder)
    if host not in ("", socket.gethostname()) or not _holds(pid, folder / FILE_NAME):
        raise UserError(f"the sweep {name!r} is run by a process that cannot be reached from here ({told})")
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError:
        raise UserError(f"the sweep {name!r} is run by somebody else's process ({told})") from None
    return pid


def _holder(folder: Path) -> tuple[int, str, str]:
    """Return process id (0 if unknown), host, and both in words."""
    pid, _, host = (folder / FILE_NAME).read_text("utf-8").strip().partition(" ")
    if not pid.isdigit():
        return 0, "", "pid unknown"
    return int(pid), host, f"pid {pid} on {host}" if host else f"pid {pid}"


def _holds(pid: int, lock: Path) -> bool:
    """Return whether the process has the lock file open, so that no process is hit that has taken over its number."""
    descriptors = Path(f"/proc/{pid}/fd")
    if not Path("/proc/self/fd").is_dir():
        return pid > 0  # a system that cannot tell
    try:
        return any(fd.exists() and fd.samefile(lock) for fd in descriptors.iterdir())
    except OSError:
        return False
