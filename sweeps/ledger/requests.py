"""What people ask of a sweep while it runs or rests: one file each, which whoever runs the sweep takes up and removes.

    <sweep>/requests/<when>-<word>.json    {"version": 1, "add": {"slow.lr": 0.1}} or {"version": 1, "drop": "trial-03"}

A file is whole from its first moment, so nobody waits for a lock. Its name stands in the ledger once it was taken up,
so one that a kill left behind is not taken up twice.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from safe.errors import UserError
from safe.io.writable import whole

FOLDER = "requests"
VERSION = 1


@dataclass(frozen=True)
class Request:
    """A trial to add, by its settings, or a trial to drop, by its id; the other is None.

    Attributes:
        id: orders requests by when they were made.
        wrong: why the file is no request, in words; it is then neither of the two.
        add: settings of a trial of the user's own.
        drop: id of a trial that is to end.
    """

    id: str
    add: dict[str, Any] | None = None
    drop: str | None = None
    wrong: str | None = None


class Requests:
    """The requests of one sweep.

    Args:
        sweep: its folder.
    """

    def __init__(self, sweep: Path) -> None:
        self.folder = sweep / FOLDER

    def ask(self, *, add: dict[str, Any] | None = None, drop: str | None = None) -> None:
        """Leave a request; `UserError` where that is not possible."""
        path = self.folder / f"{time.time_ns():020d}-{uuid4().hex[:8]}.json"
        what = {"add": add} if drop is None else {"drop": drop}
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            with whole(path) as draft:
                draft.write_text(json.dumps({"version": VERSION, **what}), "utf-8")
        except OSError as error:
            raise UserError(f"cannot leave the request in {self.folder}: {error.strerror}") from None

    def waiting(self) -> list[Request]:
        """Return what was asked for and not yet taken up, oldest first."""
        return [_read(path) for path in sorted(self.folder.glob("[0-9]*.json")) if path.is_file()]

    def remove(self, request: Request) -> None:
        """Take a request away; `UserError` where that is not possible."""
        path = self.folder / f"{request.id}.json"
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot remove the request {path}: {error.strerror}; remove it, then the same command continues"
            ) from None


def _read(path: Path) -> Request:
    try:
        told = json.loads(path.read_text("utf-8"))
        if told["version"] > VERSION:
            return Request(path.stem, wrong=f"{path.name} has format version {told['version']}, newer than {VERSION}")
        if "drop" in told:
            return Request(path.stem, drop=str(told["drop"]))
        return Request(path.stem, add=dict(told["add"]))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return Request(path.stem, wrong=f"{path.name} is no request of `sweeps add` or `sweeps drop`")
