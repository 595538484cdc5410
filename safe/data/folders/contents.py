"""What image files hold: each is read and hashed once, and again when it has changed.

One index for all data sets of a root, beside the decoded pictures, says what each version of a file holds; a version is
its path, inode, size and times. Records are appended, and a damaged one counts as absent. What cannot be written there
is remembered by the process that read it.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from safe.data.cache import cache_folder
from safe.errors import UserError, shown
from safe.io.opening import held, open_regular, read_regular, version_of
from safe.io.progress import progress

INDEX = "contents-1"  # the version of the format is part of the name, so other versions are passed over
_RECORD = struct.Struct("<16s32sI")  # a version of a file, digested; SHA-256 of its content; checksum of both
_KEY, _FACTS = 16, 48  # bytes of the first, and of the first two
_MOST_BYTES = 2**28  # of the index, five million records: then it begins anew
# A file may be written twice within one step of the clock of its times, and the widest steps of file systems are two
# seconds: what was written just now is not kept, since a later write might leave its times as they are.
_SETTLED_NS = 2 * 10**9
# Threads that wait for a network; where files are near, more than a few only take Python's lock from one another.
_FEWEST_THREADS, _MOST_THREADS = 2, 16
_OF_A_TASK = 64  # files
_AT_ONCE = 4096  # files that are kept together
_BLOCK_BYTES = 2**20
_MOST_NAMED = 5

A = TypeVar("A")
_here: dict[bytes, bytes] = {}  # what this process has read and could not keep


class Contents:
    """The hashes of files, kept in a folder; with `None` they are kept in this process.

    Where it is not `strict`, files that cannot be read are passed over: somebody else names them.
    """

    def __init__(self, folder: Path | None = None, *, strict: bool = True) -> None:
        self._folder, self._strict = folder, strict

    @classmethod
    def of(cls, root: str | Path, *, strict: bool = True) -> Contents:
        """Return those of a data root's files; see `cache_folder`."""
        return cls(cache_folder(root), strict=strict)

    def hashes(self, paths: Sequence[str]) -> list[bytes]:
        """Return the SHA-256 of every file, in order, empty for one that is passed over; tells how far it is.

        Raises:
            UserError: names files that cannot be read, are no regular files, or change meanwhile.
        """
        absolute = [os.path.abspath(path) for path in paths]
        with _in_threads() as each:
            keys = list(each(_key, absolute))
            known = self._known(set(keys))
            new = [i for i, key in enumerate(keys) if key not in known]
            hashes = [known.get(key, b"") for key in keys]
            fresh: dict[bytes, bytes] = {}
            unreadable: list[str] = []
            try:
                with progress("reading images that are new or changed", len(new)) as advance:
                    for i, outcome in zip(new, each(_read, [absolute[i] for i in new]), strict=True):
                        advance()
                        if isinstance(outcome, OSError):
                            unreadable.append(f"{shown(absolute[i])}: {outcome.strerror or outcome}")
                            continue
                        key, hashes[i] = outcome
                        if key:
                            fresh[key] = hashes[i]
                        if len(fresh) == _AT_ONCE:
                            self._keep(fresh)
                            fresh = {}
            finally:
                self._keep(fresh)
        if unreadable and self._strict:
            more = f"; {len(unreadable) - _MOST_NAMED} more" if len(unreadable) > _MOST_NAMED else ""
            raise UserError(
                f"cannot read {len(unreadable)} of {len(paths)} images: {'; '.join(unreadable[:_MOST_NAMED])}{more}"
            )
        return hashes

    def _known(self, keys: set[bytes]) -> dict[bytes, bytes]:
        known = {key: _here[key] for key in keys & _here.keys()}
        try:
            index = read_regular(self._folder / INDEX) if self._folder else b""
        except OSError:
            index = b""
        for start in range(0, len(index) - _RECORD.size + 1, _RECORD.size):
            if (key := index[start : start + _KEY]) in keys:
                record = index[start : start + _RECORD.size]
                _, content, checksum = _RECORD.unpack(record)
                if zlib.crc32(record[:_FACTS]) == checksum:
                    known[key] = content
        return known

    def _keep(self, fresh: dict[bytes, bytes]) -> None:
        if not fresh:
            return
        records = b"".join(_RECORD.pack(*facts, zlib.crc32(b"".join(facts))) for facts in fresh.items())
        try:
            if self._folder is None:
                raise FileNotFoundError
            self._folder.mkdir(parents=True, exist_ok=True)
            with held(self._folder / INDEX) as file:
                size = os.fstat(file.fileno()).st_size
                # The last record may have been cut short by a kill or a full disk.
                file.truncate(size // _RECORD.size * _RECORD.size if size < _MOST_BYTES else 0)
                file.write(records)
        except OSError:
            _here.update(fresh)


def digest_of(hashes: Sequence[bytes], places: Iterable[tuple[str, ...]]) -> str:
    """Return one SHA-256 of what images hold and where each belongs, in order: their paths do not count.

    Args:
        hashes: of the image files.
        places: of each, by names: its split, its class and what else the data set tells apart.
    """
    digest = hashlib.sha256()
    for place, content in zip(places, hashes, strict=True):
        digest.update(os.fsencode("\0".join(place)) + b"\0" + content)
    return digest.hexdigest()


def trained_on_too(root: Path, paths: Sequence[str], hashes: Sequence[bytes], train: int) -> str:
    """Return in a sentence how many test images are training images too, byte for byte; an empty word for none.

    Args:
        root: of the data set; the example is named from there.
        paths: of the image files, those of training first.
        hashes: of each; those of files that could not be read are empty and equal nothing.
        train: how many are of training.
    """
    known = {content: path for path, content in zip(paths[:train], hashes[:train], strict=True) if content}
    tested = zip(paths[train:], hashes[train:], strict=True)
    twice = [(path, known[content]) for path, content in tested if content in known]
    if not twice:
        return ""
    test_image, training_image = (shown(os.path.relpath(path, root)) for path in twice[0])
    return (
        f"{root}: {len(twice)} of {len(paths) - train} test images are training images too, byte for byte, so they say "
        f"nothing about new ones: {test_image} is {training_image}{' ...' if len(twice) > 1 else ''}"
    )


def _key(path: str) -> bytes:
    """Return what tells this version of a file from every other; nothing of one that is not there."""
    try:
        return _key_of(path, os.stat(path))
    except (OSError, ValueError):
        return b""


def _key_of(path: str, status: os.stat_result) -> bytes:
    return hashlib.sha256(os.fsencode(path) + repr(version_of(status)).encode()).digest()[:_KEY]


def _read(path: str) -> tuple[bytes, bytes] | OSError:
    """Return the key of a file's version, empty for one that a later write might look like, and its hash."""
    try:
        with open_regular(path) as file:
            now, before = time.time_ns(), os.fstat(file.fileno())
            digest = hashlib.sha256()
            while block := os.read(file.fileno(), _BLOCK_BYTES):
                digest.update(block)
            if version_of(os.fstat(file.fileno())) != version_of(before):
                raise OSError("it changed while it was read")
    except OSError as error:
        return error
    settled = max(before.st_mtime_ns, before.st_ctime_ns) < now - _SETTLED_NS
    return _key_of(path, before) if settled else b"", digest.digest()


@contextmanager
def _in_threads() -> Iterator[Callable[[Callable[[str], A], Sequence[str]], Iterator[A]]]:
    """Give a function that yields what another one gives for every item, in order; at an error the rest is left.

    How many threads there are depends on how long the first items wait for each second that they compute.
    """
    with ExitStack() as pools:

        def each(function: Callable[[str], A], items: Sequence[str]) -> Iterator[A]:
            began, computed = time.perf_counter(), time.thread_time()
            first = [function(item) for item in items[:_OF_A_TASK]]
            share = (time.perf_counter() - began) / max(time.thread_time() - computed, 1e-6)
            yield from first
            threads = min(max(_FEWEST_THREADS, math.ceil(share)), _MOST_THREADS)
            pool = ThreadPoolExecutor(threads, thread_name_prefix="contents")
            pools.callback(pool.shutdown, cancel_futures=True)
            parts = [items[start : start + _OF_A_TASK] for start in range(_OF_A_TASK, len(items), _OF_A_TASK)]
            for answers in pool.map(lambda part: [function(item) for item in part], parts):
                yield from answers

        yield each
