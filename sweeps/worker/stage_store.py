"""Finished stages on disk, shared by every worker, container and node that sees the folder.

    <folder>/<kind>/<key>.stage    one stage, in the format of `safe.states.checkpoint`: whole, or discarded
    <folder>/<kind>/<key>.lock     locked (flock) by the process that computes the stage, until that process ends

The store keeps the folder under a size limit by dropping what was used longest ago. Views are many and quickly computed
again, so they take only the room that other stages leave.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from safe.errors import UserError
from safe.io.opening import open_own
from safe.sharing.stages import KINDS, Stage
from safe.states.checkpoint import NewerFormatError, load_state, save_state

DEFAULT_LIMIT = 20 * 10**9
VERSION = 1

_EVICT_TO = 0.9  # of the limit, so that not every stage after the first one over it drops another
_WORTH = 1 / 20  # of the limit, that a stage which nobody waits for may take
_LOOK_EVERY = 1 / 64  # of the limit, written by this process since it last looked at the whole folder
_ABANDONED_SECONDS = 3600  # age at which a temporary file has no writer any more
_PAUSES = (0.01, 0.25)  # seconds between two looks at a stage that another run computes: at first, at most


class Usage(NamedTuple):
    """What lies in a store: stages and their bytes."""

    files: int
    bytes: int


class DiskStages:
    """A `safe.sharing.stages.StageStore` in a folder.

    What it cannot read, lock or write (a damaged stage, a full disk, a folder without permission) it tells once; the
    run then computes for itself.

    Args:
        folder: created at first use.
        limit_bytes: size that the stages are kept under.
        on_wait: called now and then while another run's stage is waited for.
        tell: takes what there is to tell, first its kind in a word; by default it is a warning.
    """

    def __init__(
        self,
        folder: str | Path,
        limit_bytes: int = DEFAULT_LIMIT,
        on_wait: Callable[[], None] | None = None,
        tell: Callable[[str, str], object] | None = None,
    ) -> None:
        if limit_bytes < 1:
            raise UserError(f"the size limit of the stage store must be at least 1 byte, got {limit_bytes}")
        self.folder, self.limit_bytes = Path(folder).resolve(), limit_bytes
        self._on_wait = on_wait or (lambda: None)
        self._tell_of = tell or (lambda what, message: warnings.warn(message, stacklevel=4))
        self._unseen = limit_bytes  # bytes written since the last look at the folder: at first it is unknown
        self._told: set[str] = set()

    def claim(self, kind: str, key: str) -> DiskClaim:
        """Return the finished stage, waiting for it while another run computes it, or the claim to compute it."""
        path = self.folder / kind / f"{key}.stage"
        started, waited, pause = time.perf_counter(), 0.0, _PAUSES[0]
        while (claim := self._look(path)) is None:
            if _Lock.is_ours(path.with_suffix(".lock")):  # waiting for oneself would never end
                return DiskClaim(self, path, None, None, waited)
            self._on_wait()
            time.sleep(pause)
            waited, pause = time.perf_counter() - started, min(2 * pause, _PAUSES[1])
        claim.waited = waited
        return claim

    def try_claim(self, kind: str, key: str, size: int) -> DiskClaim | None:
        """Return as `claim` does, but `None` while another run computes the stage, or where it is too big."""
        return self._look(self.folder / kind / f"{key}.stage") if size <= _WORTH * self.limit_bytes else None

    def usage(self) -> Usage:
        """Return how many stages there are and how big they are."""
        sizes = [status.st_size for _, status in self._files("*.stage")]
        return Usage(len(sizes), sum(sizes))

    def clear(self) -> None:
        """Delete every stage that is not being computed."""
        for path, _ in self._files("*.stage"):
            self._drop(path)

    def keep(self, path: Path, value: dict[str, Any], seconds: float) -> None:
        """Write a stage whose lock is held, and drop old ones if the folder has grown over its limit."""
        if (size := _tensor_bytes(value)) > self.limit_bytes:
            self._tell("size", f"a stage of {size} bytes is over the stage store's limit of {self.limit_bytes}")
            return
        state = {"version": VERSION, "kind": path.parent.name, "key": path.stem, "seconds": seconds, "value": value}
        try:
            for draft in path.parent.glob(f".{path.name}.*"):  # the lock is ours: whoever wrote it was killed
                draft.unlink(missing_ok=True)
            save_state(state, path)
            self._unseen += path.stat().st_size
            if self._unseen >= _LOOK_EVERY * self.limit_bytes:
                self._unseen = 0
                self._evict()
        except OSError as error:
            self._tell("write", f"the stage store {self.folder} could not be written: {error}; the run goes on without")

    def _look(self, path: Path) -> DiskClaim | None:
        """Return the finished stage or the claim to compute it, `None` while another holds that."""
        if (stage := self._read(path)) is not None:
            return DiskClaim(self, path, None, stage)
        try:
            lock = _Lock.take(path.with_suffix(".lock"))
        except OSError as error:
            self._tell("lock", f"the stage store {self.folder} cannot be used ({error}); nothing is shared")
            return DiskClaim(self, path, None, None)
        # Whoever held it may have finished between our look and our lock. What is there unread is of a newer format,
        # and not ours to write over.
        if lock is not None and ((stage := self._read(path)) is not None or path.exists()):
            lock.release()
            return DiskClaim(self, path, None, stage)
        return None if lock is None else DiskClaim(self, path, lock, None)

    def _read(self, path: Path) -> Stage | None:
        if not path.exists():
            return None
        try:
            state = load_state(path)
            if state["version"] > VERSION:
                raise NewerFormatError(f"{path} has version {state['version']}; this one reads up to {VERSION}")
            if (state["kind"], state["key"]) != (path.parent.name, path.stem):
                raise UserError(f"{path} holds another stage than its name says")
        except NewerFormatError as error:
            self._tell("newer", f"a stage is left alone and computed again: {error}")
            return None
        except (UserError, KeyError) as error:
            if path.exists():  # else it was dropped while it was read
                self._tell("damaged", f"a stage is discarded and computed again: {error}")
                with suppress(OSError):
                    path.unlink()
            return None
        with suppress(OSError):  # dropped since, or a folder that is only read
            os.utime(path)  # used now
        return Stage(state["value"], state["seconds"])

    def _evict(self) -> None:
        """Drop stages, those used longest ago first, until the rest is under the limit."""
        files = sorted(self._files("*.stage"), key=lambda file: file[1].st_mtime)
        others = self._shrink([file for file in files if file[0].parent.name != "views"], self.limit_bytes)
        self._shrink([file for file in files if file[0].parent.name == "views"], self.limit_bytes - others)
        for path, status in self._files("*.stage.*"):
            if time.time() - status.st_mtime > _ABANDONED_SECONDS:
                path.unlink(missing_ok=True)

    def _shrink(self, files: list[tuple[Path, os.stat_result]], limit: int) -> int:
        """If files are over a limit, drop the first ones until the rest is well under it; return the rest's bytes."""
        size = sum(status.st_size for _, status in files)
        goal = limit if size <= limit else _EVICT_TO * limit
        for path, status in files:
            if size <= goal:
                break
            if self._drop(path):
                size -= status.st_size
        return size

    def _drop(self, path: Path) -> bool:
        """Delete a stage unless somebody holds its lock."""
        try:
            lock = _Lock.take(path.with_suffix(".lock"))
        except OSError:
            return False
        if lock is None:
            return False
        path.unlink(missing_ok=True)
        lock.release()
        return True

    def _files(self, pattern: str) -> list[tuple[Path, os.stat_result]]:
        files = []
        for kind in KINDS:
            for path in (self.folder / kind).glob(pattern):
                try:
                    files.append((path, path.stat()))
                except FileNotFoundError:
                    continue  # dropped by another process
        return files

    def _tell(self, what: str, message: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._tell_of(what, message)


@dataclass
class DiskClaim:
    """A `safe.sharing.stages.Claim`; garbage collection releases it too."""

    store: DiskStages
    path: Path
    lock: _Lock | None
    stage: Stage | None
    waited: float = 0.0

    def put(self, value: dict[str, Any], seconds: float) -> None:
        """Store the stage and release it; without the lock it is not ours to store."""
        if self.lock is not None:
            self.store.keep(self.path, value, seconds)
        self.release()

    def release(self) -> None:
        """Let others compute the stage, if it is held."""
        if self.lock is not None:
            self.lock.release()
        self.lock = None

    def __del__(self) -> None:
        self.release()


class _Lock:
    """An exclusive flock on a file that exists only while somebody holds or tries it."""

    _holders: ClassVar[dict[str, tuple[int, int]]] = {}  # path of a held lock -> process and thread

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self.handle, self.process = path, handle, os.getpid()
        self._holders[str(path)] = os.getpid(), threading.get_ident()

    @classmethod
    def take(cls, path: Path) -> _Lock | None:
        """Return the lock, or `None` while another holds it."""
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = open_own(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same_file(path, handle):
                    return cls(path, handle)
            except BlockingIOError:
                os.close(handle)
                return None
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)  # its last holder removed the file in between: what we locked is no longer there

    @classmethod
    def is_ours(cls, path: Path) -> bool:
        """Whether this very thread holds the lock."""
        return cls._holders.get(str(path)) == (os.getpid(), threading.get_ident())

    def release(self) -> None:
        """Remove the file and let go."""
        if os.getpid() == self.process:  # a forked child has no part in it
            self._holders.pop(str(self.path), None)
            with suppress(OSError):
                self.path.unlink()
        os.close(self.handle)


def _same_file(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _tensor_bytes(value: Any) -> int:
    """Return the bytes of all tensors in nested dicts and lists."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_tensor_bytes, value.values()))
    return sum(map(_tensor_bytes, value)) if isinstance(value, list) else 0
