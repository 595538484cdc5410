"""Checkpoints from which no run will go on any more."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


class Spent:
    """Removes checkpoints in a thread of its own, so that no run waits for the disk.

    Args:
        storage: folder in which all of them are: what the ledger names elsewhere is not ours to remove.
    """

    def __init__(self, storage: Path) -> None:
        self._storage = storage
        self._thread = ThreadPoolExecutor(1)

    def remove(self, checkpoints: Iterable[str]) -> None:
        """Begin to remove the folders of checkpoints; one that is gone already is left out."""
        self._thread.submit(self._remove, list(checkpoints))

    def close(self) -> None:
        """Wait until all of them are gone."""
        self._thread.shutdown()

    def _remove(self, checkpoints: list[str]) -> None:
        storage = self._storage.resolve()
        for path in checkpoints:
            if storage in Path(path).resolve().parents:
                shutil.rmtree(path, ignore_errors=True)
