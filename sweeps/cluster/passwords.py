"""The secrets of the cluster: made once, kept in files that only their owner reads.

Containers get them as compose file secrets, which keep the owner and the mode of the file on the host; so the user in
our containers has the numbers of the user who owns the files (`container_user`).
"""

from __future__ import annotations

import os
import secrets
from functools import partial
from pathlib import Path

from safe.io.opening import open_own
from safe.io.writable import whole

ROOTS_STAND_IN = (1000, 1000)  # containers do not run as root, even when root starts them
DATABASE_USER = "mlflow"


def container_user() -> tuple[int, int]:
    """Return user and group id for our containers: those of the caller, never root's."""
    user, group = os.getuid(), os.getgid()
    return (user, group) if user else ROOTS_STAND_IN


def write_secrets(folder: Path) -> list[str]:
    """Make the secrets that are missing and return their names.

    `postgres_password`; `pgpass`, the same password as the PostgreSQL client reads it; `ray_token`; and
    `aws_credentials`, empty, to be filled in for artefacts on S3. A password has 256 bits and is hexadecimal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    _own(folder)
    made = []
    for name in ("postgres_password", "ray_token"):
        if not (folder / name).exists():
            _write(folder / name, secrets.token_hex(32))
            made.append(name)
    password = (folder / "postgres_password").read_text("utf-8").strip()
    for name, text in (("pgpass", f"*:*:*:{DATABASE_USER}:{password}\n"), ("aws_credentials", "")):
        if not (folder / name).exists():
            _write(folder / name, text)
            made.append(name)
    return made


def _write(path: Path, text: str) -> None:
    # Complete under its name or not there: a half-written password would lock the database for good.
    with whole(path) as draft:
        with open(draft, "x", encoding="utf-8", opener=partial(open_own, mode=0o600)) as file:
            file.write(text)
        _own(draft)


def _own(path: Path) -> None:
    if os.getuid() == 0:
        os.chown(path, *ROOTS_STAND_IN)
