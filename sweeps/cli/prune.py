"""`python -m sweeps prune`: free disk; the ledger, and with it every number, stays."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from safe.errors import UserError
from safe.io.tables import Table
from sweeps.cli.common import add_results, command
from sweeps.ledger.folders import Folders
from sweeps.ledger.known import known_log, sweep_names
from sweeps.ledger.lock import locked
from sweeps.model.stored import folder_size, model_size, remove_files, stored_bytes, surplus_models
from tracking.errors import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Removal:
    """What can go: of which sweep, what it is, its size and how it is removed."""

    sweep: str
    what: str
    bytes: int
    remove: Callable[[], None]


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="sweeps (default: all)")
    parser.add_argument("--keep", type=int, default=1, metavar="N", help="inference states a run keeps (default: 1)")
    parser.add_argument(
        "--mlflow",
        action="store_true",
        help="also states that MLflow has of sessions, but registered ones",
    )
    parser.add_argument("--stages", action="store_true", help="also the work that sweeps share")
    parser.add_argument("--yes", action="store_true", help="remove it")


@command("prune", "list what can be removed to free disk, and with --yes remove it", _options, add_results)
def _prune(arguments: argparse.Namespace) -> int:
    if arguments.keep < 0:
        raise UserError(f"--keep must be at least 0, got {arguments.keep}")
    for name in arguments.names:
        known_log(arguments.results, name)
    names = list(dict.fromkeys(arguments.names)) or sweep_names(arguments.results)
    removals: list[Removal] = []
    left_alone: list[str] = []
    client = _store(arguments, left_alone)
    for name in names:
        folders = Folders(arguments.results, name)
        try:
            with locked(folders.sweep, name):
                of_sweep = [*_of_sweep(folders, name, arguments.keep)]
                if arguments.mlflow and client:
                    of_sweep += _in_mlflow(client, folders, name, arguments.keep)
                removals += _carried_out(of_sweep, arguments.yes)
        except UserError as error:
            left_alone.append(f"left alone: {error}")
    if arguments.stages:
        from sweeps.worker.stage_store import DiskStages

        stages = DiskStages(Folders(arguments.results, "any").results / "stages")
        removal = Removal("", "work that all sweeps share", stages.usage().bytes, stages.clear)
        removals += _carried_out([removal], arguments.yes)
    console = Console(markup=False, emoji=False)
    if client:
        _show_stored(console, client, names, Folders(arguments.results, ""), everything=not arguments.names)
    _show(console, removals, left_alone, removed=arguments.yes)
    return 0


def _store(arguments: argparse.Namespace, left_alone: list[str]) -> MlflowClient | None:
    """Return a client of MLflow's database on this disk; None where there is none, or it cannot be used."""
    from tracking import shown
    from tracking.mlflow_backend import connect, sqlite_path

    uri = Folders(arguments.results, "").tracking_uri()
    database = sqlite_path(uri)
    if database is None and arguments.mlflow:
        raise UserError(
            f"--mlflow removes files on this disk, but MLFLOW_TRACKING_URI names {shown(uri)}; delete models in its "
            "pages, and have its owner call mlflow gc"
        )
    if database is None or not database.exists():
        return None
    try:
        return connect(uri)
    except TrackingError as error:
        left_alone.append(f"left alone: {error}")
        return None


def _in_mlflow(client: MlflowClient, folders: Folders, name: str, keep: int) -> Iterator[Removal]:
    """Yield the states of sessions that a finished sweep has in MLflow beyond those it keeps."""
    log, _ = known_log(folders.results, name)
    if not log.finished or (log.model or {}).get("later"):
        raise UserError(f"{name!r} is not finished, so MLflow keeps its states; without --mlflow the rest can go")
    artifacts = _artifacts(folders)
    models = surplus_models(client, name, keep, artifacts)
    size, told = sum(model_size(model, artifacts) for model in models), f"states of {len(models)} sessions in MLflow"
    yield Removal(name, f"{told}, whose numbers stay", size, lambda: remove_files(client, models, artifacts))


def _artifacts(folders: Folders) -> Path:
    """Return the folder of MLflow's artefacts on this disk, where its database is on it."""
    from tracking.mlflow_backend import artifact_folder, sqlite_path

    database = sqlite_path(folders.tracking_uri())
    assert database is not None, "there is a client of it"
    return artifact_folder(database)


def _show_stored(
    console: Console, client: MlflowClient, names: Iterable[str], folders: Folders, *, everything: bool
) -> None:
    """Show how much lies in MLflow's artefacts, by sweep and kind, and what nothing here knows of."""
    artifacts = _artifacts(folders)
    rows = [(name, size, what) for name in names for what, size in stored_bytes(client, name, artifacts).items()]
    rest = folder_size(artifacts) - sum(size for _, size, _ in rows)
    if everything and rest > 0:
        rows.append(("-", rest, "deleted there, or of no sweep here; `mlflow gc` removes what is deleted"))
    if rows:
        cells = [[name, f"{size / 1e6:.1f}", what] for name, size, what in rows]
        console.print(f"in {artifacts}:", soft_wrap=True)
        console.print(Table(["sweep", "MB", "what"], cells).on_terminal(console.width))


def _of_sweep(folders: Folders, name: str, keep: int) -> Iterator[Removal]:
    """Yield what a sweep that nobody runs can do without."""
    from tracking import journal_path, waiting

    log, _ = known_log(folders.results, name)
    told = "resume checkpoints" if log.finished else "resume checkpoints; interrupted runs then begin again"
    yield _of_folder(name, told, folders.ray)
    yield _of_folder(name, "work shared within the sweep", folders.sweep / "stages")
    states = [file for run in sorted(folders.states.glob("*/checkpoints")) for file in _surplus(run, keep)]
    if states:
        journal = journal_path(folders.results, name)
        if journal.exists() and waiting(journal, folders.tracking_uri()):
            raise UserError(f"MLflow does not have all states of {name!r} yet; first: python -m tracking deliver")
        told = f"inference states but the newest {keep} of every run" if keep else "all inference states"
        yield Removal(name, told, sum(file.stat().st_size for file in states), lambda: _unlink(states))


def _unlink(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _of_folder(name: str, what: str, folder: Path) -> Removal:
    return Removal(name, what, folder_size(folder), lambda: shutil.rmtree(folder, ignore_errors=True))


def _surplus(folder: Path, keep: int) -> list[Path]:
    """Return the inference states of a run but the newest `keep`, and the parts that only they name."""
    from safe.states.checkpoint import load_state

    sessions = sorted(folder.glob("session-*.pt"))
    kept = sessions[max(0, len(sessions) - keep) :]
    parts = {learner["pet"] for file in kept for learner in load_state(file)["learners"].values()}
    return [file for file in sorted(folder.glob("*.pt")) if file not in kept and file.name not in parts]


def _carried_out(removals: Iterable[Removal], really: bool) -> list[Removal]:
    worthwhile = [removal for removal in removals if removal.bytes]
    for removal in worthwhile if really else ():
        removal.remove()
    return worthwhile


def _show(console: Console, removals: list[Removal], left_alone: list[str], *, removed: bool) -> None:
    rows = [[removal.sweep, f"{removal.bytes / 1e6:.1f}", removal.what] for removal in removals]
    if removals:
        console.print("to be removed:" if not removed else "removed:")
        console.print(Table(["sweep", "MB", "what"], rows).on_terminal(console.width))
    for line in left_alone:
        console.print(line, markup=False, soft_wrap=True)
    total = sum(removal.bytes for removal in removals) / 1e6
    if not removals:
        console.print("there is nothing to remove")
    elif removed:
        console.print(f"removed {total:.1f} MB")
    else:
        console.print(f"{total:.1f} MB in all; nothing is removed yet: the same with --yes removes it")
