"""The file by which a run says that it lives and how far it is."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safe.types import Working


def give_sign(heartbeat: Path, working: Working | None = None) -> None:
    """Change the file's time, and write how far the run is where that is known."""
    if working is None:
        heartbeat.touch()
    else:
        heartbeat.write_text(json.dumps(asdict(working)), "utf-8")


def last_told(heartbeat: Path) -> Working | None:
    """Return how far a run was by its last words; None where there are none, or half of them."""
    try:
        return Working(**json.loads(heartbeat.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
