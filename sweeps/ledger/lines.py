"""The lines of a ledger, and what to do about one that is not right."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import Any

from tracking import lines

FORMAT_VERSION = 3


def read_line(line: bytes, number: int) -> dict[str, Any]:
    """Return the record of a line, without its end, that stands as the line `number`.

    Raises:
        ValueError: its checksum is wrong, or it has none.
        MisplacedError: it is the line of another number.
    """
    record = lines.decode(line + b"\n")
    lines.take_number(record, number)
    return record


def version_of(line: bytes) -> int:
    """Return the version of its format that the first line of a ledger tells, this one where it tells none.

    Raises:
        ValueError, LookupError, TypeError: it is damaged, or no such line.
    """
    try:
        return int(lines.decode(line + b"\n").get("version", FORMAT_VERSION))
    except ValueError:
        record = json.loads(line)  # other versions may have no checksum
        if "crc" in record or record["version"] == FORMAT_VERSION:
            raise
        return int(record["version"])


def advice(path: Path, number: int) -> str:
    """Return what to do about a ledger that is right up to before the line `number`."""
    if number == 1:
        return f"restore it from a copy, or remove {path.parent} to begin that sweep again"
    name, kept = quote(str(path)), quote(f"{path}.kept")
    return (
        "restore it from a copy, or keep what stands before and continue the sweep, which does again what came after: "
        f"head -n {number - 1} {name} > {kept} && mv {kept} {name}"
    )
