"""The lines of a ledger, and what to do about one that is not right."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from safe.errors import UserError
from tracking import lines

FORMAT_VERSION = 3


class OtherFormatError(UserError):
    """A ledger of another version of the format; `age` is `older` or `newer`."""

    def __init__(self, message: str, age: str) -> None:
        super().__init__(message)
        self.age = age


@contextmanager
def all_kept() -> Iterator[None]:
    """Look for no garbage in what is read: there is none, and to look through it takes as long as to read it."""
    looking = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
        gc.unfreeze()  # it now counts as old: looked through seldom
    finally:
        if looking:
            gc.enable()


def read_line(line: bytes, number: int) -> dict[str, Any]:
    """Return the record of a line, with its end, that stands as the line `number`.

    Raises:
        ValueError: its checksum is wrong, or it has none.
        MisplacedError: it is the line of another number.
    """
    record = lines.decode(line)
    lines.take_number(record, number)
    return record


def require_version(path: Path, line: bytes) -> None:
    """Refuse a ledger whose first line tells another version of its format.

    Raises:
        OtherFormatError: it does.
        ValueError, LookupError, TypeError: it is damaged, or no such line.
    """
    try:
        version = int(lines.decode(line).get("version", FORMAT_VERSION))
    except ValueError:
        record = json.loads(line)  # other versions may have no checksum
        version = int(record["version"])
        if "crc" in record or version == FORMAT_VERSION:
            raise
    if version != FORMAT_VERSION:
        age, what = ("newer", "upgrade") if version > FORMAT_VERSION else ("older", "use the version that wrote it")
        raise OtherFormatError(
            f"the ledger {path} has format version {version}, {age} than the {FORMAT_VERSION} that is read here: "
            f"{what} to see or continue that sweep, or choose another name (NAME or --name)",
            age,
        )


def advice(path: Path, number: int) -> str:
    """Return what to do about a ledger that is right up to before the line `number`."""
    if number == 1:
        return f"restore it from a copy, or remove {path.parent} to begin that sweep again"
    name, kept = quote(str(path)), quote(f"{path}.kept")
    return (
        "restore it from a copy, or keep what stands before and continue the sweep, which does again what came after: "
        f"head -n {number - 1} {name} > {kept} && mv {kept} {name}"
    )
