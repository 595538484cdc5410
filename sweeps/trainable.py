"""The Tune trainable: one iteration is one session of a `SafeTrainer`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

if TYPE_CHECKING:
    from safe.evaluate import Prediction
    from safe.trainer import SafeTrainer

RESUME_FILE = "resume.pt"


class SafeTrainable(tune.Trainable):
    """Trains one job of a sweep.

    The Tune config holds one entry, `job`: `config` (flat), `predictions` (settings to score, may be empty), `states`
    (folder for the inference state of every session) and `resume_from` (folder of a checkpoint, or None).
    Every result carries under `session` what the ledger keeps of a session.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take over a job. Its trainer waits for the first step, whose failure Tune reports with its cause."""
        self.job: dict[str, Any] = config["job"]
        self._trainer: SafeTrainer | None = None

    @property
    def trainer(self) -> SafeTrainer:
        """The job's trainer, built at first use and continued from where an earlier process left it."""
        if self._trainer is None:
            from safe.config import validate
            from safe.trainer import SafeTrainer

            self._trainer = SafeTrainer(validate(self.job["config"]))
            if self.job["resume_from"]:
                self.load_checkpoint(self.job["resume_from"])
        return self._trainer

    def step(self) -> dict[str, Any]:
        """Train one session; write its inference state; return what it gave."""
        from safe.checkpoint import save_state
        from safe.evaluate import score_grid

        result = self.trainer.run_session()
        state = Path(self.job["states"]) / f"session-{result.session:02d}.pt"
        save_state(self.trainer.inference_state(), state)
        logits = self.trainer.session_logits
        assert logits is not None, "a session is over"
        session = {
            "session": result.session,
            "sessions": result.sessions,
            "split": result.split,
            "metrics": result.as_metrics(),
            "losses": [[step, dict(terms)] for step, terms in result.losses],
            "grid": score_grid(logits, [_prediction(settings) for settings in self.job["predictions"]]),
            "counts": list(logits.counts),
            "provenance": self.trainer.provenance(),
        }
        return {"session": session, "done": self.trainer.done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the state from which the job continues bit for bit."""
        from safe.checkpoint import save_state

        save_state(self.trainer.state_dict(), Path(checkpoint_dir) / RESUME_FILE)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Take over the state in a checkpoint folder."""
        from safe.checkpoint import load_state

        self.trainer.load_state_dict(load_state(Path(checkpoint) / RESUME_FILE))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take over the next job in the same process, which has torch and the data modules loaded already."""
        self.setup(new_config)
        return True


def _prediction(settings: dict[str, Any]) -> Prediction:
    from safe.evaluate import Prediction

    kind, temperature = settings["aggregation.kind"], settings["aggregation.temperature"]
    return Prediction(kind, temperature, settings["head.logit_scale"])
