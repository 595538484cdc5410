"""Where a results folder keeps what is tracked."""

from __future__ import annotations

import os
from pathlib import Path

from tracking.mlflow_backend import sqlite_uri

JOURNAL_FILE = "journal.jsonl"


def default_uri(results: Path) -> str:
    """Return MLflow's address: MLFLOW_TRACKING_URI, else an SQLite file in the results folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(results / "mlflow.db")


def journal_path(results: Path, name: str) -> Path:
    """Return the journal of the sweep `name`."""
    return results.absolute() / "sweeps" / name / JOURNAL_FILE


def journals(results: Path) -> dict[str, Path]:
    """Return the journals there are, by name of the sweep, sorted."""
    files = sorted((results.absolute() / "sweeps").glob(f"*/{JOURNAL_FILE}"))
    return {path.parent.name: path for path in files}
