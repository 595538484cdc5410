"""The lines of a ledger, of every version of its format, and what to do about one that is not right.

Every line ends in its number and its checksum (`tracking.lines`); version 2 has no numbers, version 1 no checksums.
"""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import Any

from tracking import lines

FORMAT_VERSION = 3
_CHECKSUMS, _NUMBERS = 2, 3  # versions since which every line has them


def read_line(line: bytes, number: int, version: int | None = None) -> dict[str, Any]:
    """Return the record of a line, without its end, of a ledger of a version, which the first line tells itself.

    What is asked of the lines of this installation's version and those before is not asked of a newer one's.

    Raises:
        ValueError: its checksum is wrong, or it has none, as is right in version 1 only.
        MisplacedError: it is the line of another number, or has none, as is right before version 3 only.
    """
    try:
        record = lines.decode(line + b"\n")
    except ValueError:
        record = json.loads(line)
        if "crc" in record or _CHECKSUMS <= (version or record["version"]) <= FORMAT_VERSION:
            raise
    version = version or record.get("version", FORMAT_VERSION)
    lines.take_number(record, number, needed=_NUMBERS <= version <= FORMAT_VERSION)
    return record


def advice(path: Path, number: int) -> str:
    """Return what to do about a ledger that is right up to before the line `number`."""
    if number == 1:
        return f"restore it from a copy, or remove {path.parent} to begin that sweep again"
    name, kept = quote(str(path)), quote(f"{path}.kept")
    return (
        "restore it from a copy, or keep what stands before and continue the sweep, which does again what came after: "
        f"head -n {number - 1} {name} > {kept} && mv {kept} {name}"
    )
