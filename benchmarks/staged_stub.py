"""A stub trial that waits for stages and sleeps where a real one would compute them."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.stub import StubTrainable
from sweeps.worker.stage_store import DiskStages


class StagedStub(StubTrainable):
    """A `StubTrainable` whose sessions share stages: `steps` lists, by session, keys and the seconds of each.

    With `meet` (a folder and a number) it first waits until that many runs are there: then all workers have started.
    """

    def step(self) -> dict[str, Any]:
        """Take or compute the next session's stages, then give the session."""
        if meeting := self.job["config"].get("meet"):
            folder, number = Path(meeting[0]), meeting[1]
            (folder / self.job["id"]).touch()
            while len(list(folder.iterdir())) < number:
                time.sleep(0.1)
        store = DiskStages(self.job["stages"])
        for key, seconds in self.job["config"]["steps"][self.session]:
            claim = store.claim("fast", hashlib.sha256(key.encode()).hexdigest())
            if claim.stage is None:
                time.sleep(seconds)
                claim.put({"features": torch.zeros(1)}, seconds)
        return super().step()
