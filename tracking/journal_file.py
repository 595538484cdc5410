"""The journal file: the calls to a recorder, one JSON object a line, only ever appended to.

    {"format": "tracking-journal", "version": 3, "id": "9f86d081884c7d65", "experiment": "digits", ...}
    {"call": "start", "run_key": "demo", "params": {...}, "tags": {...}, "name": ..., "parent": ..., ...}
    {"call": "log_points", "run_key": "demo", "points": [["val/accuracy", 0.5, 1], ...], ...}

`id` is a random word by which one file is told from another. After the header, every line names a method and its
arguments, and ends in `at`, when it was called in seconds since 1970, and, as the header does, in its number and its
checksum (`tracking.lines`). Each line reaches the operating system at once, so that a killed process loses nothing;
`sync` waits for the disk, after which not even a power cut does. One process at a time writes a file.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracking import lines
from tracking.errors import InUseError, TrackingError

FORMAT = "tracking-journal"
VERSION = 3

_log = logging.getLogger(__name__)


class JournalFile:
    """The file `path`, open for appending, made with its folder and `header` when absent.

    A last line that was cut off by a crash is removed with a warning.

    Raises:
        InUseError: another process writes it.
        TrackingError: it cannot be written.
    """

    def __init__(self, path: Path, **header: str) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = lines.LineFile(path, alone=True)
        except BlockingIOError:
            raise InUseError(f"the journal {path} is being written by another process; wait for its end") from None
        except OSError as error:
            raise TrackingError(f"cannot write {path}: {error.strerror}; choose another folder") from None
        if self._file.cut:
            _log.warning("%s: dropping the last line, which was cut off after %d bytes", path, self._file.cut)
        if not self._file.count:
            self.append(format=FORMAT, version=VERSION, id=secrets.token_hex(8), **header)

    def append(self, **record: object) -> None:
        """Write one record, whole or not at all; TrackingError when it cannot be written, on a full disk for one."""
        with self._in_words():
            self._file.append(record)

    def sync(self) -> int:
        """Wait until the disk has what was appended; return how many bytes that are."""
        with self._in_words():
            return self._file.sync()

    def size(self) -> int:
        """Return how many bytes were appended, always whole lines."""
        return self._file.size

    def close(self) -> None:
        """Wait for the disk and let others write. Closing twice is fine."""
        with self._in_words():
            self._file.close()

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrackingError(
                f"cannot write {self.path}: {error.strerror}; what it holds is kept: make room and go on"
            ) from None


def read_header(path: Path) -> dict[str, Any]:
    """Return the first record of a journal; what is raised is as in `read_records`."""
    try:
        with path.open("rb") as file:
            line = file.readline()
    except OSError as error:
        raise TrackingError(f"cannot read {path}: {error.strerror}") from None
    try:
        version = json.loads(line)["version"] if json.loads(line)["format"] == FORMAT else None
    except (ValueError, LookupError, TypeError):
        version = None
    if not isinstance(version, int):
        raise _damaged(path, 1, "no header")
    if version != VERSION:
        age, advice = ("newer", "use the program that wrote it") if version > VERSION else ("older", "remove it")
        raise TrackingError(
            f"{path} has format version {version}, {age} than the {VERSION} this program reads; {advice}, or choose "
            "another file"
        )
    header, _ = _parsed(path, 0, line, 1)
    if not isinstance(header.get("id"), str):
        raise _damaged(path, 1, "no id")
    return header


def experiment_of(path: Path) -> str:
    """Return the MLflow experiment that a journal belongs to; what is raised is as in `read_records`, and

    Raises:
        TrackingError: it was begun without one.
    """
    name = read_header(path).get("experiment")
    if not isinstance(name, str):
        raise TrackingError(
            f"{path} names no MLflow experiment, so it cannot be brought to MLflow; only journals of sweeps do "
            "(sweeps/NAME/journal.jsonl in a results folder)"
        )
    return name


def read_records(path: Path, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give the records after the header from byte `start` on, where a line begins, each with the byte that follows it.

    A last line without its end is being written, or was cut off: it is left out.

    Raises:
        TrackingError: the file is no journal, of another format version, or damaged.
    """
    read_header(path)
    number = 1 if start == 0 else None  # in the middle of the file, the first line tells it
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            begin, start = start, start + len(line)
            record, number = _parsed(path, begin, line, number)
            if begin > 0:
                match record:
                    case {"call": str(), "run_key": str(), "at": int() | float()}:
                        yield start, record
                    case _:
                        raise _damaged(path, number, "no record of this format version")
            number += 1


def _parsed(path: Path, begin: int, line: bytes, number: int | None) -> tuple[dict[str, Any], int]:
    """Return the record that begins at a byte, and the number of its line, which is asked for when it is None."""
    try:
        record = lines.decode(line)
        number = number or record.get("line") or _line_number(path, begin)
        lines.take_number(record, number)
    except ValueError as error:
        raise _damaged(path, number or _line_number(path, begin), str(error)) from None
    return record, number


def _line_number(path: Path, begin: int) -> int:
    return path.read_bytes()[:begin].count(b"\n") + 1


def _damaged(path: Path, line: int, what: str) -> TrackingError:
    return TrackingError(
        f"{path}, line {line} is not a line of a tracking journal ({what}); restore the file from a copy, or move it "
        "away: a sweep that goes on writes it anew"
    )
