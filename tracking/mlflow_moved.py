"""An SQLite store that was moved or copied with its artefacts: MLflow knows these by absolute paths, which follow."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from tracking.compat import EXPERIMENT_ARTIFACTS, RUN_ARTIFACTS, VERSION_ARTIFACTS


def follow_artifacts(database: Path, folder: Path, timeout_s: float) -> None:
    """Have the store look for artefacts in `folder`, beside it, that it knows in a folder of that name elsewhere.

    Those that are still where it knows them, and not in `folder`, stay there, with all that come.

    Args:
        database: SQLite file of this MLflow's schema version.
        timeout_s: seconds to wait while another process writes it.
    """
    new = folder.as_uri()
    with closing(sqlite3.connect(database, timeout=timeout_s)) as connection, connection:
        for old in _roots(connection, folder.name):
            place = local_path(old)
            if place is None or _same(place, folder) or _left(connection, old, new):
                continue
            for table, column in (EXPERIMENT_ARTIFACTS, *RUN_ARTIFACTS, *VERSION_ARTIFACTS):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                )


def _roots(connection: sqlite3.Connection, name: str) -> set[str]:
    """Return the addresses of folders of a name that experiments lie in: right there, or each in its own below."""
    table, column = EXPERIMENT_ARTIFACTS
    return {
        root
        for (uri,) in connection.execute(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")
        for root in (uri, uri.rpartition("/")[0])
        if root.endswith(f"/{name}")
    }


def _left(connection: sqlite3.Connection, old: str, new: str) -> bool:
    """Return whether artefacts of a run or model are in the old place alone."""
    return any(
        place.exists() and not moved.exists()
        for place, moved in (
            (local_path(uri), local_path(new + uri.removeprefix(old))) for uri in _addresses(connection, old)
        )
        if place is not None and moved is not None
    )


def _addresses(connection: sqlite3.Connection, root: str) -> Iterator[str]:
    for table, column in RUN_ARTIFACTS:
        for (uri,) in connection.execute(f"SELECT {column} FROM {table}"):
            if uri and uri.startswith(f"{root}/"):
                yield uri


def local_path(uri: str) -> Path | None:
    """Return the path behind a file's address, None for another kind."""
    parts = urlsplit(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _same(one: Path, other: Path) -> bool:
    return one == other or (one.exists() and other.exists() and one.samefile(other))
