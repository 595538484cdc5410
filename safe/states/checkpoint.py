"""States on disk: written atomically, checked on reading, never unpickled.

A file is a magic word, the format version, the SHA-256 of version and payload, and the payload, which `torch.load`
reads with `weights_only=True`: tensors, numbers, strings, lists and dicts only.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import torch

from safe.errors import UserError
from safe.io.opening import open_own, read_regular
from safe.io.writable import whole

_MAGIC = b"SAFESTATE"
FORMAT_VERSION = 1
_HEADER = len(_MAGIC) + 4 + 32


class NewerFormatError(UserError):
    """A file of a newer format than this installation reads."""


def save_state(state: dict[str, Any], path: str | Path) -> None:
    """Write `state` so that `path` is either the old file or the whole new one, also after a crash.

    Raises:
        OSError: the folder cannot be written or the disk is full; `path` is then unchanged.
    """
    path = Path(path)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    with whole(path) as draft, open(draft, "xb", opener=partial(open_own, mode=0o600)) as file:
        version = FORMAT_VERSION.to_bytes(4, "big")
        file.write(_MAGIC + version + _checksum(version, payload))
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())


def load_state(path: str | Path) -> dict[str, Any]:
    """Return the state in `path`.

    Raises:
        UserError: no such file, not one of ours, damaged, of a newer version (`NewerFormatError`), or holding anything
            but plain data.
    """
    path = Path(path)
    try:
        content = read_regular(path)
    except OSError as error:
        raise UserError(f"cannot read the checkpoint {path}: {error.strerror}") from None
    header, payload = content[:_HEADER], content[_HEADER:]
    del content  # a state may be gigabytes
    if len(header) < _HEADER or not header.startswith(_MAGIC):
        raise UserError(f"{path} is not a checkpoint of this project")
    version = header[len(_MAGIC) : len(_MAGIC) + 4]
    if int.from_bytes(version, "big") > FORMAT_VERSION:
        raise NewerFormatError(
            f"{path} has format version {int.from_bytes(version, 'big')}; this installation reads up to "
            f"{FORMAT_VERSION}: upgrade it"
        )
    if _checksum(version, payload) != header[-32:]:
        raise UserError(f"the checkpoint {path} is damaged (its checksum does not match)")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError):
        raise UserError(f"the checkpoint {path} holds something other than plain data and was not loaded") from None
    if not isinstance(state, dict):
        raise UserError(f"the checkpoint {path} holds no state but a {type(state).__name__}")
    return state


def _checksum(version: bytes, payload: bytes) -> bytes:
    digest = hashlib.sha256(version)
    digest.update(payload)  # not of both joined, which would be one more copy
    return digest.digest()
