"""The Tune trainable: one iteration is one session of a `SafeTrainer`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ray import tune

from safe.errors import UserError, look_seldom_for_garbage, shown
from safe.io.writable import naming
from sweeps.ledger.record import SessionRecord
from sweeps.worker.artifacts import keep_session, read_records
from sweeps.worker.signs import give_sign
from sweeps.worker.worker_environment import take_back_umask
from tracking.system import SystemMeter

if TYPE_CHECKING:
    from safe.training.trainer import SafeTrainer
    from safe.types import SessionResult, Working
    from sweeps.worker.stage_store import DiskStages

RESUME_FILE = "resume.pt"


class SafeTrainable(tune.Trainable):
    """Trains one job of a sweep.

    The Tune config holds one entry, `job`: the fields of `sweeps.ledger.jobs.Job`. Every result carries under
    `session` its `SessionRecord`, or says `paused` when the job was asked to stop within one.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take over a job. Its trainer waits for the first step, whose failure Tune reports with its cause."""
        take_back_umask()
        look_seldom_for_garbage()
        self.job: dict[str, Any] = config["job"]
        self._trainer: SafeTrainer | None = None
        self._notes: dict[str, str] = {}  # what the stage store has to tell, by kind
        self._meter = SystemMeter() if self.job.get("system_metrics") else None

    @property
    def trainer(self) -> SafeTrainer:
        """The job's trainer, built at first use and continued from where an earlier process left it."""
        if self._trainer is None:
            from safe.config import completed, validate
            from safe.io.sources import import_own
            from safe.training.trainer import SafeTrainer

            import_own(self.job.get("imports", ()))
            self._trainer = SafeTrainer(validate(completed(self.job["config"])), stages=self._stages())
            self._trainer.watch.tell = self._heartbeat
            self._require_same_data()
            self._resume(self._trainer)
        return self._trainer

    def _require_same_data(self) -> None:
        """Refuse data that changed while the sweep runs: the runs before were trained on others."""
        wanted = self.job.get("data")
        assert self._trainer is not None
        now = self._trainer.provenance()["data_digest"]
        if wanted and now != wanted:
            self._trainer = None
            raise UserError(
                f"the data {shown(self.job['config']['dataset'])} changed while the sweep ran: digest {wanted[:12]} -> "
                f"{now[:12]}; bring them back and continue"
            )

    def step(self) -> dict[str, Any]:
        """Train one session; write its files; return what it gave, or that it pauses where a stop was asked for."""
        from safe.types import SessionResult

        self._heartbeat()
        event = self.trainer.advance()
        while not isinstance(event, SessionResult):
            self._heartbeat()
            if self.job.get("stop") and Path(self.job["stop"]).exists():
                self.trainer.close()  # others may go on with these gradient steps meanwhile
                return {"paused": True, "done": True}
            event = self.trainer.advance()
        session = self._record(event)
        with naming(Path(self.job["states"])):
            keep_session(self.job, self.trainer, session)
        return {"session": session, "done": event.session >= session.sessions}

    def _record(self, result: SessionResult) -> SessionRecord:
        from safe.evaluation.logits import Prediction, score_grid

        logits = self.trainer.session_logits
        assert logits is not None, "a session is over"
        names = ("aggregation.kind", "aggregation.temperature", "head.logit_scale")
        grid = score_grid(logits, [Prediction(*(one[name] for name in names)) for one in self.job["predictions"]])
        notes, self._notes = self._notes, {}
        return SessionRecord.of(
            result,
            self.trainer.provenance(),
            logits.counts,
            grid.rows,
            grid.metrics,
            grid.within,
            until=self.job.get("until"),
            machine=self._meter.read() if self._meter else None,
            notes=notes,
        )

    def _resume(self, trainer: SafeTrainer) -> None:
        """Continue from the newest checkpoint that can be read, together with the run's files; else begin anew."""
        from safe.states.checkpoint import NewerFormatError, load_state
        from safe.training.trainer import STATE_VERSION

        unusable: list[str] = []
        step = "begins anew"
        for folder in self.job["resume_from"]:
            file = Path(folder) / RESUME_FILE
            try:
                state = load_state(file)
                if state["version"] < STATE_VERSION:
                    raise UserError(f"{file} is of an earlier version of this project")
                if len(read_records(Path(self.job["states"]))) < state["session"]:
                    raise UserError(f"the files of the sessions before {file} are gone")
            except NewerFormatError:
                raise
            except UserError as error:
                unusable.append(str(error))
                continue
            trainer.load_state_dict(state)
            step = "goes on from an earlier checkpoint"
            break
        if unusable:
            words = f"{self.job['id']} {step}: {'; '.join(unusable)}"
            self._notes[words] = words

    def _stages(self) -> DiskStages | None:
        if not self.job.get("stages"):
            return None
        from sweeps.worker.stage_store import DEFAULT_LIMIT, DiskStages

        limit = self.job.get("stage_limit") or DEFAULT_LIMIT
        return DiskStages(self.job["stages"], limit, on_wait=self._waiting, tell=self._notes.setdefault)

    def _heartbeat(self, working: Working | None = None) -> None:
        """Give a sign of life, and tell how far the run is."""
        if self.job.get("heartbeat"):
            give_sign(Path(self.job["heartbeat"]), working)

    def _waiting(self) -> None:
        self._heartbeat()
        if self._trainer is not None:
            self._trainer.watch.wait()

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Save as Tune does, but with the draft in the run's own folder, which is cleared also after a kill."""
        if checkpoint_dir is not None or not self._storage:
            return super().save(checkpoint_dir)
        folder = Path(self._storage.trial_fs_path)
        folder.mkdir(parents=True, exist_ok=True)
        with naming(folder), TemporaryDirectory(prefix="draft-", dir=folder) as draft:
            return super().save(draft)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the state from which the job continues bit for bit."""
        from safe.states.checkpoint import save_state

        save_state(self.trainer.state_dict(), Path(checkpoint_dir) / RESUME_FILE)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Take over the state in a checkpoint folder."""
        from safe.states.checkpoint import load_state

        self.trainer.load_state_dict(load_state(Path(checkpoint) / RESUME_FILE))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take over the next job in the same process, which has torch and the data modules loaded already."""
        self.cleanup()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Leave what was being computed for other runs to whoever waits for it."""
        if self._trainer is not None:
            self._trainer.close()
