"""Downloads that can be cut off: what arrived stays in a `.part` file and the next attempt continues there."""

from __future__ import annotations

import hashlib
import http.client
import time
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

ATTEMPTS = 4
PAUSE_SECONDS = 1.0
_TIMEOUT_SECONDS = 30.0
_TRANSIENT = (408, 416, 429)

Advance = Callable[[int, int | None], None]


class DownloadError(Exception):
    """A file could not be had; the message says from where and why."""


def unseen(received: int, total: int | None) -> None:
    """Nobody watches."""


def download(
    url: str,
    target: Path,
    *,
    md5: str = "",
    attempts: int = ATTEMPTS,
    pause: float = PAUSE_SECONDS,
    advance: Advance = unseen,
) -> None:
    """Write the file at an HTTP address to `target`, which appears only when it is whole.

    Args:
        url: http or https.
        target: the file; its folder exists.
        md5: expected checksum in hexadecimal; empty where none is published.
        attempts: how often it is tried; the pause before the next doubles from `pause` seconds.
        advance: told the bytes received so far and the total if known.

    Raises:
        DownloadError: an address that refuses, a connection that keeps failing, or another checksum than `md5`.
    """
    part = target.with_name(f"{target.name}.part")
    for attempt in range(1, attempts + 1):
        try:
            _receive(url, part, advance)
            break
        except (HTTPError, URLError, OSError, http.client.HTTPException) as error:
            final = isinstance(error, HTTPError) and error.code < 500 and error.code not in _TRANSIENT
            if final or attempt == attempts:
                raise DownloadError(f"{url}: {error}, after {attempt} attempt{'s' * (attempt > 1)}") from None
        time.sleep(pause * 2 ** (attempt - 1))
    if md5 and (actual := file_md5(part)) != md5:
        part.unlink()
        raise DownloadError(f"{url}: its MD5 is {actual}, but {md5} was expected")
    part.replace(target)


def download_drive(file_id: str, target: Path, *, advance: Advance = unseen) -> None:
    """Write a public file of Google Drive to `target`, continuing an interrupted download; `advance` as above.

    Raises:
        DownloadError: gdown is not installed, or Google does not hand the file out.
    """
    try:
        import gdown

        gdown.download(id=file_id, output=str(target), quiet=True, resume=True, progress=advance)
    except Exception as error:  # network, quota, permission, a changed page: whatever it is, the person needs to know
        reason = " ".join(str(error).split())
        raise DownloadError(f"Google Drive file {file_id}: {reason}") from None
    if not target.is_file():
        raise DownloadError(f"Google Drive file {file_id}: nothing was received")


def file_md5(path: Path) -> str:
    """Return the MD5 of a file in hexadecimal: the checksum data sets publish, no protection against forgery."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _receive(url: str, part: Path, advance: Advance) -> None:
    """Continue `part` to its end, or begin anew where the server cannot continue."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "safe-sweeps"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)
    except HTTPError as error:
        if error.code == 416:  # nothing lies beyond what is there: either it is whole, or of another file
            if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                return
            part.unlink(missing_ok=True)
        raise
    with response:
        if response.status != 206:
            have = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise ConnectionError("the server sent another range than was asked for")
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if have else "wb") as file:
            while chunk := response.read(2**16):
                file.write(chunk)
                have += len(chunk)
                advance(have, total)
    if total is not None and have < total:
        raise ConnectionError(f"the connection ended after {have} of {total} bytes")
