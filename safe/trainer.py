"""One training run of SAFE over a stream of sessions.

Session 1 trains the slow learner; every later one trains the fast learner, which starts as its copy. Each session ends
with a closing step: features of the session's images, closed-form heads, evaluation on all classes seen so far.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.backbone import load_backbone, weights_digest
from safe.build import build_learner, build_stream, prediction_of, projection_seed, resolve_device
from safe.config import Config
from safe.data.registry import load_dataset
from safe.data.sources import Dataset
from safe.data.stream import Session, Subset
from safe.data.transforms import train_view
from safe.errors import NonFiniteLossError, UserError
from safe.evaluate import SessionLogits
from safe.features import FeatureExtractor
from safe.heads.cosine import CosineHead, new_class_rows
from safe.judge import Judge
from safe.learners.fast import fast_terms
from safe.learners.learner import Learner, cosine_lr, train_epoch
from safe.learners.slow import slow_terms
from safe.precision import deterministic_algorithms, resolve_precision
from safe.seeding import generator
from safe.types import EpochDone, Event, Phase, SessionResult

STATE_VERSION = 1


class SafeTrainer:
    """Trains one configuration, one `advance()` at a time.

    Between any two advances `state_dict` holds everything, and a new trainer of the same configuration continues
    from it bit for bit (same thread count, device kind and precision). Random choices are drawn from generators named
    after their place in the run, so none of their state needs saving.

    Args:
        config: the run. `runtime.threads` above 0 sets torch's thread count for the process.
        dataset: images to use instead of loading `config.dataset`.
        backbone: frozen ViT to use instead of loading `config.backbone`; it is never changed.

    Attributes:
        session: sessions finished so far.
        precision: of the networks' forward passes, `float32` or `bf16`.
        session_logits: both learners' evaluation logits of the session that finished last, else `None`.
    """

    def __init__(
        self, config: Config, dataset: Dataset | None = None, backbone: VisionTransformer | None = None
    ) -> None:
        self.config = config
        if config.runtime.threads:
            torch.set_num_threads(config.runtime.threads)
        self.device = resolve_device(config.runtime.device)
        self.precision = resolve_precision(config.runtime.precision, self.device)
        vit = backbone or load_backbone(config.backbone.name, config.backbone.weights, folder=config.data.root)
        self._backbone = vit.to(self.device)
        self._size = int(vit.patch_embed.img_size[0])
        self._dataset = dataset or load_dataset(config.dataset, config.data.root, self._size)
        self._stream = build_stream(config, self._dataset)
        first_classes = len(self._stream.sessions[0].classes)
        self.slow = build_learner(config, self._backbone, first_classes, self.device)
        self.fast: Learner | None = None
        self.session = 0
        self.session_logits: SessionLogits | None = None
        self._epoch = 0
        self._total_epochs = 0
        self._losses: list[tuple[int, dict[str, float]]] = []
        self._train_seconds = 0.0
        self._optimizer: torch.optim.Optimizer | None = None
        # What it keeps of the frozen slow learner is derived, so it is never saved.
        self._features = FeatureExtractor(self.device, self._size, config.runtime.eval_batch_size, self.precision)
        self._judge = Judge(prediction_of(config), domain_incremental=self._stream.domain_incremental)

    @property
    def sessions(self) -> int:
        """How many sessions the stream has."""
        return len(self._stream)

    @property
    def done(self) -> bool:
        """Whether every session is finished."""
        return self.session == self.sessions

    @property
    def session_epochs(self) -> int:
        """Epochs of gradient steps in the present session."""
        return self.config.slow.epochs if self._phase == "slow" else self.config.fast.epochs

    def provenance(self) -> dict[str, str]:
        """Return what identifies the inputs: digests of data and weights, and the class order."""
        return {
            "data_digest": self._dataset.digest,
            "weights_digest": self._weights_digest,
            "class_order": ",".join(map(str, self._stream.order)),
        }

    @cached_property
    def _image_side(self) -> int:
        return int(self._stream.sessions[0].train.read(torch.tensor([0])).shape[-1])

    @cached_property
    def _weights_digest(self) -> str:
        return weights_digest(self._backbone)

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

        Raises:
            RuntimeError: every session is finished.
            NonFiniteLossError: a loss term or a feature became NaN or infinite.
        """
        if self.done:
            raise RuntimeError(f"all {self.sessions} sessions are finished")
        with deterministic_algorithms(self.config.runtime.deterministic):
            return self._train_one_epoch() if self._epoch < self.session_epochs else self._close_session()

    # ------------------------------------------------------------------ gradient steps

    @property
    def _phase(self) -> Phase:
        return "slow" if self.session == 0 else "fast"

    @property
    def _now(self) -> Session:
        return self._stream.sessions[self.session]

    def _train_one_epoch(self) -> EpochDone:
        started = time.perf_counter()
        config = self.config.slow if self._phase == "slow" else self.config.fast
        if self._phase == "fast" and self._epoch == 0:
            self._start_fast_session()
        learner = self._trained_learner()
        optimizer = self._session_optimizer(learner)
        for group in optimizer.param_groups:
            group["lr"] = cosine_lr(config.lr, self._epoch, config.schedule_epochs or config.epochs)
        learner.net.set_dropout_generator(self._generator("dropout", device=self.device))
        where = f"session {self.session + 1}, epoch {self._epoch + 1}"
        batches = self._batches(self._now.train, config.batch_size)
        terms = train_epoch(learner, optimizer, batches, self._terms, where, self.config.runtime.micro_batch)
        learner.net.set_dropout_generator(None)

        self._epoch += 1
        self._total_epochs += 1
        losses = {f"train/{self._phase}/{name}": value for name, value in terms.items()}
        self._losses.append((self._total_epochs, losses))
        if self._epoch == self.session_epochs:
            self._optimizer = None
        self._train_seconds += time.perf_counter() - started
        return EpochDone(
            self.session + 1, self.sessions, self._phase, self._epoch, self.session_epochs, self._total_epochs, losses
        )

    def _trained_learner(self) -> Learner:
        if self._phase == "slow":
            return self.slow
        assert self.fast is not None
        return self.fast

    def _terms(self, images: Tensor, targets: Tensor) -> dict[str, tuple[float, Tensor]]:
        slow_learner = self.slow.in_precision(self.precision)
        if self._phase == "slow":
            slow = self.config.slow
            return slow_terms(
                slow_learner,
                images,
                targets,
                diag_weight=slow.diag_weight,
                offdiag_weight=slow.offdiag_weight,
                correlation=slow.correlation,
            )
        return fast_terms(
            self._trained_learner().in_precision(self.precision),
            slow_learner,
            images,
            targets,
            feature_weight=self.config.fast.feature_weight,
            cross_weight=self.config.fast.cross_weight,
            old_classes=self._now.known,
        )

    def _batches(self, subset: Subset, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of augmented batches in the order and with the crops of (session, epoch)."""
        data = self.config.data
        order = torch.randperm(len(subset), generator=self._generator("order"))
        views = self._generator("views")
        for chosen in order.split(batch_size):
            images = train_view(
                subset.read(chosen).to(self.device),
                self._size,
                crop_scale=data.crop_scale,
                crop_ratio=data.crop_ratio,
                horizontal_flip=data.horizontal_flip,
                generator=views,
            )
            yield images, subset.labels[chosen].to(self.device)

    def _start_fast_session(self) -> None:
        """Give both gradient heads rows for the new classes."""
        assert self.fast is not None
        now, config = self._now, self.config.fast
        if not now.classes:  # a later domain: every class has its rows
            return
        labels = now.train.labels.to(self.device)
        for learner, kind, name in ((self.slow, config.slow_rows, "slow"), (self.fast, config.new_rows, "fast")):
            features = torch.empty(0, self._backbone.embed_dim, device=self.device)
            if kind == "imprint":
                features = self._train_features(learner)
            rows = learner.head.rows.detach()
            new = new_class_rows(kind, now.classes, features, labels, rows, self._generator(f"{name}_rows"))
            learner.head = learner.head.extended(new)

    def _session_optimizer(self, learner: Learner) -> torch.optim.Optimizer:
        if self._optimizer is None:
            config = self.config.slow if self._phase == "slow" else self.config.fast
            self._optimizer = torch.optim.SGD(
                learner.trained(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
            )
        return self._optimizer

    # ------------------------------------------------------------------ closing step

    def _close_session(self) -> SessionResult:
        started = time.perf_counter()
        now, seen = self._now, self._now.seen
        train_features = {name: self._train_features(learner) for name, learner in self._learners().items()}
        for name, features in train_features.items():
            if not features.isfinite().all():
                raise NonFiniteLossError(
                    f"the {name} learner's features are not finite after session {now.index}: its last steps diverged; "
                    "lower the learning rate or the loss weights"
                )
        features_done = time.perf_counter()

        labels = now.train.labels.to(self.device)
        for name, learner in self._learners().items():
            # One split for both learners, so that equal features give equal heads, whatever the number of epochs.
            split = generator(self.config.seed, "ridge_split", now.index)
            learner.closed.update(train_features[name], labels, seen, split)
        if self.fast is None:
            self.fast = self.slow.copy()
        head_done = time.perf_counter()

        judged = self._logits(now.index)
        self.session_logits, metrics = judged.first(now.index), self._judge(judged, now.index)
        self._features.forget("train")
        evaluated = time.perf_counter()

        self.session += 1
        result = SessionResult(
            session=self.session,
            sessions=self.sessions,
            split=self._stream.split,
            classes_seen=seen,
            metrics=metrics,
            losses=tuple(self._losses),
            ridge={
                name: learner.closed.ridge
                for name, learner in self._learners().items()
                if learner.closed.ridge is not None
            },
            seconds={
                "train": self._train_seconds,
                "features": features_done - started,
                "head": head_done - features_done,
                "evaluate": evaluated - head_done,
            },
        )
        self._epoch, self._losses, self._train_seconds = 0, [], 0.0
        return result

    def _train_features(self, learner: Learner) -> Tensor:
        """Un-augmented features of the present session's training images; the slow learner is frozen by then."""
        now = self._now
        # Without epochs the fast learner stays the slow one's copy, so their features are the same.
        if learner is self.slow or self.config.fast.epochs == 0:
            return self._features.frozen(self.slow, now.train, "train", now.index)
        return self._features(learner, now.train)

    def _logits(self, session: int) -> SessionLogits:
        """Both learners' logits of the evaluation images: of the classes seen so far, or of every domain."""
        assert self.fast is not None
        # Every class is known in every domain, so those still to come are judged too.
        reached = len(self._stream) if self._stream.domain_incremental else session
        sessions, frozen = self._stream.sessions[:reached], self._features.frozen
        of_slow = torch.cat([frozen(self.slow, s.evaluation, "evaluation", s.index) for s in sessions])
        same = session == 1 or self.config.fast.epochs == 0
        of_fast = of_slow if same else torch.cat([self._features(self.fast, s.evaluation) for s in sessions])
        return SessionLogits(
            slow=self.slow.closed.logits(of_slow).cpu(),
            fast=self.fast.closed.logits(of_fast).cpu(),
            slow_scale=self.slow.scale("learned"),
            fast_scale=self.fast.scale("learned"),
            labels=torch.cat([s.evaluation.labels for s in sessions]),
            counts=[len(s.evaluation) for s in sessions],
        )

    def _learners(self) -> dict[str, Learner]:
        return {"slow": self.slow} | ({} if self.fast is None else {"fast": self.fast})

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """Return everything that continues the run: tensors, numbers, strings, lists and dicts."""
        return {
            "version": STATE_VERSION,
            "config": self.config.model_dump_json(exclude={"runtime"}),
            "computation": self._computation(),
            "provenance": self.provenance(),
            "session": self.session,
            "epoch": self._epoch,
            "total_epochs": self._total_epochs,
            "rows": {name: [list(row) for row in rows] for name, rows in self._judge.rows.items()},
            "losses": [[step, dict(terms)] for step, terms in self._losses],
            "train_seconds": self._train_seconds,
            "learners": {name: learner.state_dict() for name, learner in self._learners().items()},
            "optimizer": None if self._optimizer is None else copy.deepcopy(self._optimizer.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of the same configuration.

        Raises:
            UserError: a newer format, or a state of another configuration, other data or other weights.
        """
        if state["version"] > STATE_VERSION:
            raise UserError(f"the state has version {state['version']}; this installation reads up to {STATE_VERSION}")
        if state["config"] != self.config.model_dump_json(exclude={"runtime"}):
            raise UserError("the state belongs to another configuration; continue it with the settings it began with")
        begun = state["computation"]
        if begun != self._computation():
            told = ", ".join(f"runtime.{name}={'null' if value is None else value}" for name, value in begun.items())
            raise UserError(f"the state was trained with {told}, which results depend on; continue it with the same")
        if state["provenance"] != self.provenance():
            raise UserError("the state belongs to other data or other backbone weights than are loaded now")
        self.session, self._epoch = state["session"], state["epoch"]
        self._total_epochs, self._train_seconds = state["total_epochs"], state["train_seconds"]
        self._judge.rows = {name: [list(row) for row in rows] for name, rows in state["rows"].items()}
        self._losses = [(step, dict(terms)) for step, terms in state["losses"]]
        self._features.forget()
        self.session_logits = None
        self._load_learner(self.slow, state["learners"]["slow"])
        self.fast = None
        if "fast" in state["learners"]:
            self.fast = self.slow.copy()
            self._load_learner(self.fast, state["learners"]["fast"])
        self._optimizer = None
        if state["optimizer"] is not None:
            self._session_optimizer(self._trained_learner()).load_state_dict(state["optimizer"])

    def _computation(self) -> dict[str, Any]:
        """The settings of `runtime` that results depend on beyond rounding in another order."""
        return {"precision": self.precision, "micro_batch": self.config.runtime.micro_batch}

    def inference_state(self) -> dict[str, Any]:
        """Return what predicting needs after the session that finished last: PET, readouts, W_rand as its seed.

        `image_side` is the side in pixels of the images as the data set hands them out, before the plain view.
        """
        seen = self._stream.order[: self._stream.sessions[self.session - 1].seen]
        setting = self.config.head.logit_scale
        return {
            "version": STATE_VERSION,
            "config": self.config.model_dump_json(),
            "session": self.session,
            "classes": [self._dataset.classes[c] for c in seen],
            "projection_seed": projection_seed(self.config),
            "image_side": self._image_side,
            "learners": {
                name: {
                    "pet": learner.net.pet_state(),
                    "readout": learner.closed.inference_state(),
                    "scale": learner.scale(setting),
                }
                for name, learner in self._learners().items()
            },
            **self.provenance(),
        }

    def _load_learner(self, learner: Learner, state: dict[str, Any]) -> None:
        learner.net.load_pet_state(state["pet"])
        learner.head = CosineHead.from_state(state["head"]).to(self.device)
        learner.closed.load_state_dict(state["closed"])

    def _generator(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        """The generator of one purpose at the present place of the run."""
        return generator(self.config.seed, purpose, self.session + 1, self._epoch, device=device)
