"""Files of records, one JSON object a line, only ever appended to; every line tells whether it is whole and where it
stands.

The last two entries of a line are `line`, its number in the file counted from 1, so that one which is lost, doubled or
moved is noticed, and `crc`, the CRC-32 of the line without it, so that a damaged one is.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

_END = b', "crc": "00000000"}\n'


class MisplacedError(ValueError):
    """A whole line that does not stand where it was written."""


def open_regular(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file as `os.open` does; it may not be a link, and a pipe is not waited for.

    Raises:
        OSError: it is no regular file, or cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))
    return descriptor


def encode(record: Mapping[str, object], number: int) -> bytes:
    """Return a record as the line `number` of its file. Raises ValueError for NaN and infinity."""
    # Bytes of a file name that are no text come out as the escapes that JSON has for them.
    body = json.dumps({**record, "line": number}, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace")
    return body[:-1] + _checksum(body)


def decode(line: bytes) -> dict[str, Any]:
    """Return the record of a line. Raises ValueError for a line without checksum, or with another."""
    body = line[: -len(_END)] + b"}"
    if not line.endswith(_checksum(body)):
        raise ValueError("wrong checksum")
    record: dict[str, Any]
    try:
        record = _parser()(body, cache_strings="all")  # what thousands of lines name is one text
    except ValueError:
        record = json.loads(body)  # reads escapes of bytes that are no text, too
    return record


def _checksum(body: bytes) -> bytes:
    return b', "crc": "%08x"}\n' % zlib.crc32(body)


@cache
def _parser() -> Callable[..., dict[str, Any]]:
    from pydantic_core import from_json  # here, since commands of a cluster's host run without any package

    return from_json


def take_number(record: dict[str, Any], number: int) -> None:
    """Take the number out of the record of a line that stands as the line `number` of its file.

    Raises:
        MisplacedError: it has another number, or none.
    """
    own = record.pop("line", None)
    if own == number:
        return
    if not isinstance(own, int):
        raise MisplacedError(f"line {number} has no number")
    if own < number:
        raise MisplacedError(f"line {own} stands a second time, as line {number}")
    raise MisplacedError(
        f"line {number} is missing" if own == number + 1 else f"lines {number} to {own - 1} are missing"
    )


class LineFile:
    """Such a file, open for appending, made when absent; a last line that was cut off by a crash is removed.

    Args:
        alone: whether nobody else may have it open so.

    Attributes:
        size: bytes of whole lines. Counted, because the file shows a line that another thread is writing page by page.
        count: lines.
        cut: bytes of the line that was cut off.

    Raises:
        BlockingIOError: another process has it open `alone`.
        OSError: as `open_regular`.
    """

    def __init__(self, path: Path, *, alone: bool = False) -> None:
        self._file = os.fdopen(open_regular(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), "ab", buffering=0)
        if alone:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._file.close()
                raise
        data = path.read_bytes()
        self.size = data.rfind(b"\n") + 1
        self.count = data.count(b"\n")
        self.cut = len(data) - self.size
        if self.cut:
            self._file.truncate(self.size)

    def append(self, record: Mapping[str, object]) -> bytes:
        """Write a record to the operating system, or leave the file as it was; return its line.

        Raises:
            ValueError: it holds NaN or infinity.
            OSError: it could not be written, on a full disk for one.
        """
        line = encode(record, self.count + 1)
        size = os.fstat(self._file.fileno()).st_size
        try:
            left = memoryview(line)
            while left:
                left = left[self._file.write(left) :]
        except BaseException:
            with suppress(OSError):
                self._file.truncate(size)
            raise
        self.count += 1
        self.size += len(line)
        return line

    def sync(self) -> int:
        """Wait until the disk has what was appended; return how many bytes that are."""
        size = self.size
        os.fsync(self._file.fileno())
        return size

    def close(self) -> None:
        """Wait for the disk and let others have it. Closing twice is fine."""
        if not self._file.closed:
            self.sync()
            self._file.close()
