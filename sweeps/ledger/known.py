"""Which sweeps a results folder holds."""

from __future__ import annotations

from pathlib import Path

from safe.errors import UserError, nearest
from safe.io.sources import import_own
from sweeps.ledger.ledger import FILE_NAME, SweepLog, has_ledger, read_ledger
from sweeps.spec.names import checked_name


def sweep_names(results: Path) -> list[str]:
    """Return the names of all sweeps of a results folder, sorted."""
    sweeps = results / "sweeps"
    return sorted(folder.name for folder in sweeps.iterdir() if has_ledger(folder)) if sweeps.is_dir() else []


def newest_sweep(results: Path) -> str:
    """Return the name of the sweep that was written to last.

    Raises:
        UserError: there is none.
    """
    names = sweep_names(results)
    if not names:
        raise UserError(f"there is no sweep in {results} yet; run one first, or name the folder with --results")
    return max(names, key=lambda name: (results / "sweeps" / name / FILE_NAME).stat().st_mtime)


def known_sweep(results: Path, name: str) -> tuple[SweepLog, Path]:
    """Return the log and the folder of the sweep called `name`, with what it needs of a user's own imported.

    Raises:
        UserError: as `known_log`, or there is no such module.
    """
    log, folder = known_log(results, name)
    import_own(log.spec.imports)
    return log, folder


def known_log(results: Path, name: str) -> tuple[SweepLog, Path]:
    """Return the log and the folder of the sweep called `name`, for what is done without its configurations.

    Raises:
        UserError: there is none, with the nearest name; or its ledger cannot be read.
    """
    folder = results.absolute() / "sweeps" / checked_name(name)
    if not has_ledger(folder):
        names = sweep_names(results)
        known = f"known: {', '.join(names)}.{nearest(name, names)}" if names else "there is none yet"
        raise UserError(f"no sweep is called {name!r} in {results}; {known}")
    return read_ledger(folder), folder
