"""A trial without any torch work: it stands in for a real one where the engine is measured, or broken on purpose."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import tune

from safe.types import SessionResult, Work
from sweeps.ledger.record import SessionRecord

STATE_FILE = "state.json"
NAMES = ("accuracy", "average_accuracy", "slow/accuracy", "fast/accuracy", "slow/average_accuracy")


class StubTrainable(tune.Trainable):
    """Takes a job and gives one made-up session a step.

    Its configuration: `sessions`; `accuracy` (of every session); `seconds` (a session takes); `epochs` (in which it
    looks for a stop); and `faults`, which says by session what happens before its result (`raise`, `full`, `hang`,
    or a signal such as `SIGKILL` that its process gets), or that it is `nan`.
    `once` names a file: a fault happens only while it is not there.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take over a job."""
        self.job: dict[str, Any] = config["job"]
        self.session = self.epoch = 0
        if self.job["resume_from"]:
            self.load_checkpoint(self.job["resume_from"][0])

    def step(self) -> dict[str, Any]:
        """Give the next session."""
        config = self.job["config"]
        self._heartbeat()
        self._fail_at(self.session + 1)
        epochs = config.get("epochs", 1)
        while self.epoch < epochs:
            time.sleep(config.get("seconds", 0.0) / epochs)
            self.epoch += 1
            self._heartbeat()
            if self.epoch < epochs and self.job["stop"] and Path(self.job["stop"]).exists():
                return {"paused": True, "done": True}
        self.session, self.epoch = self.session + 1, 0
        record = session_record(self.session, config["sessions"], config["accuracy"], len(self.job["predictions"]))
        if config.get("faults", {}).get(str(self.session)) == "nan":
            record = replace(record, metrics={**record.metrics, "val/accuracy": float("nan")})
        record = replace(record, provenance={"pid": str(os.getpid())})
        return {"session": record, "done": self.session == config["sessions"]}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the state."""
        (Path(checkpoint_dir) / STATE_FILE).write_text(json.dumps([self.session, self.epoch]))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Take over a state."""
        self.session, self.epoch = json.loads((Path(checkpoint) / STATE_FILE).read_text())

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take over the next job."""
        self.setup(new_config)
        return True

    def _heartbeat(self) -> None:
        if self.job["heartbeat"]:
            Path(self.job["heartbeat"]).touch()

    def _fail_at(self, session: int) -> None:
        config = self.job["config"]
        fault = config.get("faults", {}).get(str(session))
        if fault is None:
            return
        if "once" in config:
            if Path(config["once"]).exists():
                return
            Path(config["once"]).touch()
        if fault == "raise":
            raise ValueError(f"broken in session {session}")
        if fault == "full":  # as `safe.io.writable.naming` tells it of a disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/full/session.pt")
        if fault.startswith("SIG"):
            os.kill(os.getpid(), signal.Signals[fault])
        while fault == "hang":
            time.sleep(3600)


def session_record(
    session: int, sessions: int, accuracy: float, predictions: int, names: Sequence[str] = NAMES
) -> SessionRecord:
    """Return what a session of two groups of 100 images and more gives, of about the size of a real one."""
    losses = tuple((epoch, {"train/fast/ce": 1 / epoch}) for epoch in range(1, 6))
    metrics, row, work = dict.fromkeys(names, accuracy), (accuracy,) * session, Work("trained", 0.0)
    result = SessionResult(session, sessions, "val", session, metrics, losses, row=row, work=work)
    return SessionRecord.of(
        result, {"data_digest": "", "weights_digest": "", "class_order": ""}, [100] * session, [row] * predictions
    )
