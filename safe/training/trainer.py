"""One training run of SAFE over a stream of sessions.

Session 1 trains the slow learner; every later one trains the fast learner, which starts as its copy. Each session ends
with a closing step (`safe.training.session_end`) and the judgement of what it gave. With a stage store, what another
run has finished is taken from there, bit for bit what this one would have computed.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

from timm.models.vision_transformer import VisionTransformer

from safe.backbones.precision import deterministic_algorithms
from safe.config import Config
from safe.data.sources import Dataset
from safe.data.stream import Session
from safe.errors import UserError
from safe.evaluation.logits import SessionLogits
from safe.evaluation.session_metrics import Judge
from safe.learners.learner import Learner
from safe.sharing.client import StageClient
from safe.sharing.stages import StageStore
from safe.states.inference import WHOLE_VERSION
from safe.training.build import build_learner, distinct_learners, first_fast, prediction_of, projection_seed
from safe.training.features import FeatureExtractor
from safe.training.inputs import RunInputs
from safe.training.resources import measured, reset_peak
from safe.training.session_end import SessionEnd, session_logits
from safe.training.steps import GradientSteps, load_training_stage, phase_of, training_stage
from safe.training.watch import Watch
from safe.types import EpochDone, Event, SessionResult, Training

STATE_VERSION = 3


class SafeTrainer:
    """Trains one configuration, one `advance()` at a time.

    Between any two advances `state_dict` holds everything, and a new trainer of the same configuration continues
    from it bit for bit (same thread count, device kind and precision). Random choices are drawn from generators named
    after their place in the run, so none of their state needs saving.

    Args:
        config: the run. `runtime.threads` above 0 sets torch's thread count for the process.
        dataset: images to use instead of loading `config.dataset`.
        backbone: frozen ViT to use instead of loading `config.backbone`; it is never changed.
        stages: finished work of other runs, and where this one leaves its own. Without it nothing is shared.

    Raises:
        UserError: data, weights or device are not to be had, or the run needs more memory than there is.

    Attributes:
        inputs: the stream, the network and what it is given.
        session: sessions finished so far.
        precision: of the networks' forward passes, `float32` or `bf16`.
        stream: which images are trained on and judged in each session.
        session_logits: both learners' evaluation logits of the session that finished last, else `None`.
        watch: tells how far the present session is, to whom its `tell` is set.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset | None = None,
        backbone: VisionTransformer | None = None,
        stages: StageStore | None = None,
    ) -> None:
        self.config = config
        self.inputs = inputs = RunInputs(config, dataset, backbone)
        self.device, self.precision, self.stream = inputs.device, inputs.precision, inputs.stream
        self.slow = build_learner(config, inputs.backbone, len(self.stream.sessions[0].classes), self.device)
        self.fast: Learner | None = None
        self.session = 0
        self.session_logits: SessionLogits | None = None
        self._epoch = self._total_epochs = 0
        self._losses: list[tuple[int, dict[str, float]]] = []
        self._client = StageClient(stages, lambda: inputs.stage_keys)
        self.watch = Watch()
        self._asked = self._reused = False  # in this session, for its gradient steps
        self._train_seconds = 0.0
        self._steps_here = (0, 0.0)  # images and seconds of those taken by this process
        # What it keeps of the frozen slow learner is derived, so it is never saved.
        batch = config.runtime.eval_batch_size
        self._features = FeatureExtractor(self.device, inputs.seen, batch, self.precision, self._client, self.watch)
        self._steps = GradientSteps(config, inputs.seen, self.device, self.precision, self._features, self._client)
        self._session_end = SessionEnd(config, self.stream, self.slow, self._features, self._client)
        self._judge = Judge(prediction_of(config), domain_incremental=self.stream.domain_incremental)
        reset_peak(self.device)

    @property
    def sessions(self) -> int:
        """How many sessions the stream has."""
        return len(self.stream)

    @property
    def done(self) -> bool:
        """Whether every session is finished."""
        return self.session == self.sessions

    @property
    def session_epochs(self) -> int:
        """Epochs of gradient steps in the present session."""
        return self.config.slow.epochs if self.session == 0 else self.config.fast.epochs

    def provenance(self) -> dict[str, str]:
        """Return what identifies the inputs; see `RunInputs.provenance`."""
        return self.inputs.provenance()

    def run_session(self, on_epoch: Callable[[EpochDone], None] | None = None) -> SessionResult:
        """Advance to the end of the present session and return its result."""
        while True:
            event = self.advance()
            if isinstance(event, SessionResult):
                return event
            if on_epoch is not None:
                on_epoch(event)

    def advance(self) -> Event:
        """Do one epoch or, after the last one, the session's closing step.

        Gradient steps that another run has taken are not repeated: the session's first advance is then its closing
        step. While another run is taking them, it waits.

        Raises:
            RuntimeError: every session is finished.
            NonFiniteLossError: a loss term or a feature became NaN or infinite.
        """
        if self.done:
            raise RuntimeError(f"all {self.sessions} sessions are finished")
        try:
            with deterministic_algorithms(self.config.runtime.deterministic):
                if self._epoch < self.session_epochs and not self._asked:
                    self._ask_for_training()
                return self._train_one_epoch() if self._epoch < self.session_epochs else self._close_session()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the session's gradient steps to whoever waits for them; a later `advance` asks for them again."""
        self._client.give_up()
        self._asked = False

    # ------------------------------------------------------------------ gradient steps

    @property
    def _now(self) -> Session:
        return self.stream.sessions[self.session]

    def _ask_for_training(self) -> None:
        """Take over the session's gradient steps if they are finished; else it is on us to take them."""
        phase = phase_of(self._now)
        self.watch.epoch(self._now.index, self.sessions, 1, self.session_epochs, len(self._now.train))
        stage = self._client.begin(phase, learner=phase, session=self._now.index)
        self._asked = True
        if stage is None:
            return
        load_training_stage(self._learners(), phase, stage["learners"])
        begun = self._total_epochs - self._epoch
        self._losses = [(begun + epoch, dict(terms)) for epoch, terms in enumerate(stage["losses"], start=1)]
        self._epoch, self._total_epochs = self.session_epochs, begun + self.session_epochs
        self._steps.load_optimizer(None, self._learners()[phase], phase)
        self._reused = True

    def _train_one_epoch(self) -> EpochDone:
        started, waited = time.perf_counter(), self._client.waited
        now, epochs, phase = self._now, self.session_epochs, phase_of(self._now)
        self.watch.epoch(now.index, self.sessions, self._epoch + 1, epochs, len(now.train))
        losses = self._steps.epoch(self._learners(), now, self._epoch)
        self._epoch += 1
        self._total_epochs += 1
        self._losses.append((self._total_epochs, losses))
        seconds = time.perf_counter() - started - (self._client.waited - waited)
        self._train_seconds += seconds
        self._steps_here = self._steps_here[0] + len(now.train), self._steps_here[1] + seconds
        if self._epoch == epochs:
            self._client.finish(phase, self._training_stage, self._train_seconds)
        return EpochDone(now.index, self.sessions, phase, self._epoch, epochs, self._total_epochs, losses)

    def _training_stage(self) -> dict[str, Any]:
        losses = [terms for _, terms in self._losses]
        return {"learners": training_stage(self._learners(), phase_of(self._now)), "losses": losses}

    # ------------------------------------------------------------------ closing step

    def _close_session(self) -> SessionResult:
        started, waited = time.perf_counter(), self._client.waited
        now = self._now
        self.watch.closing(now.index, self.sessions, self.session_epochs)
        training: Training = "none" if self.session_epochs == 0 else "reused" if self._reused else "trained"
        learners = distinct_learners(self.config, self.slow, self.fast)
        if now.index > 1 and training == "none" and self.slow.closed is None:
            self._steps.add_rows(learners, now)  # no epoch gave them, and they predict
        self._session_end.solve(learners, now)
        heads_done = time.perf_counter()
        scores = {name: self._session_end.logits(name, learner, now) for name, learner in learners.items()}
        if "fast" in learners:
            self.fast = learners["fast"]
        else:
            self.fast, scores["fast"] = self.slow.copy(), scores["slow"]
            self._session_end.fast_is_slow()
        scales = {name: learner.scale("learned") for name, learner in self._learners().items()}
        judged = session_logits(scores, scales, self.stream.judged(now.index))
        self.session_logits, metrics = judged.first(now.index), self._judge(judged, now.index)
        ended = time.perf_counter()

        self.session += 1
        seconds = self._train_seconds + ended - started - (self._client.waited - waited)
        result = SessionResult(
            session=self.session,
            sessions=self.sessions,
            split=self.stream.split,
            classes_seen=now.seen,
            metrics=metrics,
            losses=tuple(self._losses),
            ridge=self._session_end.ridges(self._learners()),
            row=tuple(self._judge.rows["aggregated"][-1]),
            within=tuple(self._judge.within["aggregated"][-1]),
            confusion=self._judge.confusion,
            seconds={"train": self._train_seconds, **self._session_end.seconds, "evaluate": ended - heads_done},
            resources=measured(self.device, *self._steps_here),
            work=self._client.work(training, seconds),
        )
        self._epoch, self._losses, self._train_seconds = 0, [], 0.0
        self._asked = self._reused = False
        self._steps_here = (0, 0.0)
        self._client.restart()
        self._session_end.restart()
        reset_peak(self.device)
        return result

    def _learners(self) -> dict[str, Learner]:
        return {"slow": self.slow} | ({} if self.fast is None else {"fast": self.fast})

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """Return everything that continues the run: tensors, numbers, strings, lists and dicts."""
        return {
            "version": STATE_VERSION,
            **self.inputs.identity(),
            "session": self.session,
            "epoch": self._epoch,
            "total_epochs": self._total_epochs,
            **self._judge.state_dict(),
            "losses": [[step, dict(terms)] for step, terms in self._losses],
            "train_seconds": self._train_seconds,
            "learners": {name: learner.state_dict() for name, learner in self._learners().items()},
            "pending": self._session_end.state_dict(),
            "optimizer": copy.deepcopy(self._steps.optimizer_state()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of the same configuration.

        Raises:
            UserError: another format, or a state of another configuration, other data or other weights. Data may lie
                elsewhere, as long as they are the same.
        """
        if state["version"] != STATE_VERSION:
            raise UserError(f"the state has version {state['version']}; this installation reads {STATE_VERSION} alone")
        self.inputs.require_same(state)
        self.session, self._epoch = state["session"], state["epoch"]
        self._total_epochs, self._train_seconds = state["total_epochs"], state["train_seconds"]
        self._judge.load_state_dict(state)
        self._losses = [(step, dict(terms)) for step, terms in state["losses"]]
        self.close()
        self._client.restart()
        self._reused = False
        self._features.forget()
        self._session_end.load_state_dict(state["pending"])
        self.session_logits = None
        self.slow.load_state_dict(state["learners"]["slow"])
        self.fast = None
        if "fast" in state["learners"]:
            self.fast = first_fast(self.config, self.slow)
            self.fast.load_state_dict(state["learners"]["fast"])
        trained = self.slow if self.fast is None else self.fast
        self._steps.load_optimizer(state["optimizer"], trained, "slow" if self.fast is None else "fast")

    def inference_state(self) -> dict[str, Any]:
        """Return what predicting needs after the session that finished last: PET, readouts, W_rand as its seed.

        `image_side` is the side in pixels of the images as the data set hands them out, before the plain view.
        """
        scale = self.config.head.logit_scale
        return {
            "version": WHOLE_VERSION,
            "config": self.config.model_dump_json(),
            "session": self.session,
            "classes": self.inputs.classes(self.session),
            "projection_seed": projection_seed(self.config),
            "image_side": self.inputs.image_side,
            "learners": {name: one.inference_state(scale) for name, one in self._learners().items()},
            **self.provenance(),
        }
