"""Opening an MLflow store: which are accepted, and how an SQLite one is made safely.

Nothing here touches MLflow's global state (active run, tracking URI); mlflow is imported late, as it takes seconds.
"""

from __future__ import annotations

import fcntl
import http.client
import logging
import os
import re
import shutil
import sqlite3
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from tracking.compat import make_database, schema_version, silence_database
from tracking.environment import client_defaults, reach_directly
from tracking.errors import TrackingError, UnreachableError
from tracking.lines import open_regular
from tracking.mlflow_errors import in_words, shown
from tracking.mlflow_moved import follow_artifacts

if TYPE_CHECKING:
    from mlflow import MlflowClient

_UNFIT = re.compile(r"\?|%[0-9A-Fa-f]{2}|[\ud800-\udfff]")  # surrogates stand for bytes of a name that are no text
BUSY_TIMEOUT_S = 20.0  # what MLflow sets on its own connections
PROBE_TIMEOUT_S = 3.0
_ahead: dict[Path, Path] = {}  # by the file that it is for, a database that `make_ahead` has made
# Tells the UI that the experiment holds training runs, so that it need not guess.
_UI_TAGS = {"mlflow.experimentKind": "custom_model_development"}


def sqlite_uri(path: Path) -> str:
    """Return the tracking URI of an SQLite file; spaces and any letters are fine and stay unquoted, as MLflow needs.

    Raises TrackingError for a path that such a URI cannot hold: with "?", with "%" and two digits of a hexadecimal
    number, which MLflow takes now for one letter and now for three, or of bytes that are no text.
    """
    absolute = os.path.abspath(path)
    if odd := _UNFIT.search(absolute):
        what = repr(odd.group()) if odd.group().isascii() else "bytes that are no text"
        raise TrackingError(
            f"the path of an SQLite store of MLflow cannot contain {what}; got {absolute!r}: choose another folder"
        )
    return f"sqlite:///{absolute}"


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path behind an SQLite tracking URI, which may be quoted, None for other kinds.

    Raises TrackingError for an in-memory database, which would be lost at the end of the process.
    """
    scheme, _, rest = uri.partition("://")
    if scheme.partition("+")[0] != "sqlite":
        return None
    database = unquote(rest.removeprefix("/").partition("?")[0])
    if database in ("", ":memory:"):
        raise TrackingError(f"{uri!r} is lost when the program ends; name a file: sqlite:////folder/mlflow.db")
    return Path(os.path.abspath(database))


def artifact_folder(database: Path) -> Path:
    """Return the folder for the artefacts of an SQLite store."""
    return database.with_name("mlartifacts")


def connect(tracking_uri: str) -> MlflowClient:
    """Return a client of the store, made first when it is an SQLite file that does not exist.

    Raises:
        TrackingError: a folder of files (MLflow's old store), a file that is no MLflow database or has another
            schema version, an address that is none.
        UnreachableError: a server that does not answer within PROBE_TIMEOUT_S.
    """
    path = sqlite_path(tracking_uri)
    if path is None and urlsplit(tracking_uri).scheme in ("", "file"):
        raise TrackingError(
            f"{tracking_uri!r} names a folder of files, a kind of store MLflow no longer develops; "
            "use sqlite:////folder/mlflow.db or http://host:port. To take existing runs along: "
            "mlflow migrate-filestore --source FOLDER --target sqlite:////folder/mlflow.db"
        )
    if urlsplit(tracking_uri).scheme in ("http", "https"):
        reach_directly(tracking_uri)
        _probe(tracking_uri)
    client_defaults()
    from mlflow import MlflowClient

    silence_database()
    # The registry is unused, but without its own URI the client would look up the global one.
    if path is None:
        with in_words(tracking_uri):
            return MlflowClient(tracking_uri, registry_uri=tracking_uri)
    # The first client writes the default experiment, so it is made under the lock too.
    with _locked(path), _quiet(), in_words(tracking_uri):
        _prepare(path)
        return MlflowClient(sqlite_uri(path), registry_uri=sqlite_uri(path))


def make_ahead(tracking_uri: str) -> None:
    """Make the database of an SQLite store that is not there, which takes a second, where `connect` can take it from.

    It is for a process that has nothing else to do yet, while it is not sure that the store will be wanted.
    """
    path = sqlite_path(tracking_uri)
    if path is not None and not path.exists():
        client_defaults()
        draft = Path(tempfile.mkdtemp(), path.name)
        with _quiet():
            make_database(sqlite_uri(draft), artifact_folder(path).as_uri())
        _ahead[path] = draft


def open_experiment(client: MlflowClient, tracking_uri: str, name: str, artifact_root: Path | None) -> str:
    """Return the id of the experiment, made when absent; TrackingError when it was deleted."""
    from mlflow.exceptions import MlflowException

    with in_words(tracking_uri):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            location = artifact_root.absolute().as_uri() if artifact_root else None
            try:
                return str(client.create_experiment(name, artifact_location=location, tags=_UI_TAGS))
            except MlflowException as error:
                experiment = client.get_experiment_by_name(name)  # another process was faster
                if experiment is None:
                    raise error
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"the experiment {name!r} was deleted from MLflow; restore it with: MLFLOW_TRACKING_URI="
            f"'{shown(tracking_uri)}' mlflow experiments restore -x {experiment.experiment_id}, "
            "or choose another name"
        )
    return str(experiment.experiment_id)


def checkpoint(path: Path) -> None:
    """Move what lies in SQLite's write-ahead log into the file itself, so that a copy of the file is complete."""
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _probe(uri: str) -> None:
    """Ask the server for its health: MLflow itself would wait for minutes. Permissions are left to MLflow to report."""
    parts = urlsplit(uri)
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/") + "/health", "", ""))
    problem: object
    kind: type[TrackingError] = UnreachableError
    try:
        urllib.request.urlopen(bare, timeout=PROBE_TIMEOUT_S).close()
        return
    except urllib.error.HTTPError as error:
        if error.code < 500:
            return
        problem = error
    except OSError as error:
        problem = getattr(error, "reason", error)
        if isinstance(problem, ssl.SSLError):
            return
        if not parts.hostname:
            kind = TrackingError
    except (ValueError, http.client.HTTPException) as error:
        problem, kind = error, TrackingError
    raise kind(
        f"no MLflow server answers at {shown(uri)} ({problem}); check the address, start the server "
        "(mlflow server --backend-store-uri sqlite:////folder/mlflow.db), or use an sqlite:// tracking URI"
    ) from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold `<path>.lock`, so that of several processes one makes the database and the others find it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open_regular(path.with_name(f"{path.name}.lock"), os.O_WRONLY | os.O_CREAT)
    except OSError as error:
        raise TrackingError(f"cannot write in {path.parent}: {error.strerror}; choose another folder") from error
    with os.fdopen(lock, "w"):
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow's and alembic's reports of every migration step off the screen; warnings still appear."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(max(logger.level, logging.WARNING))
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _prepare(path: Path) -> None:
    """Make the database when there is none, and check that it is one of this MLflow's schema version."""
    if not path.exists() or path.stat().st_size == 0:
        _create(path)
    with _usable(path), closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        version = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        # Readers (the UI) and the one writer do not block each other; the mode stays with the file.
        connection.execute("PRAGMA journal_mode=WAL")
    expected = schema_version()
    # MLflow would silently migrate some older databases on opening; that is for their owner to decide.
    if version is None or version[0] != expected:
        raise TrackingError(
            f"{path} has MLflow schema {version and version[0]}, this MLflow needs {expected}; back the file up and "
            f"run: mlflow db upgrade '{sqlite_uri(path)}' (or, if a newer MLflow wrote it, install that one)"
        )
    with _usable(path):
        follow_artifacts(path, artifact_folder(path), BUSY_TIMEOUT_S)


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise TrackingError(f"{path} cannot be used as an MLflow database ({error}); choose another file") from error


def _create(path: Path) -> None:
    # Made under another name and renamed when whole: a process killed on the way leaves no half-made database.
    draft = path.with_name(f"{path.name}.creating")
    draft.unlink(missing_ok=True)
    if ahead := _ahead.pop(path, None):
        shutil.copyfile(ahead, draft)
        shutil.rmtree(ahead.parent, ignore_errors=True)
    else:
        # The experiment "Default" comes with it; a client would place its artefacts in the working folder.
        make_database(sqlite_uri(draft), artifact_folder(path).as_uri())
    draft.replace(path)
