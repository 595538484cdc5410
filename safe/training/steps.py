"""The gradient steps of a session: the slow learner's in session 1, the fast learner's in every later one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from safe.backbones.network_input import NetworkInput
from safe.backbones.precision import Precision
from safe.config import Config
from safe.data.parallel import ahead
from safe.data.stream import Session
from safe.data.transforms import train_view
from safe.heads.cosine import CosineHead, new_class_rows
from safe.learners.fast import FAST_WEIGHTS, fast_terms
from safe.learners.learner import Learner, cosine_lr, train_epoch
from safe.learners.slow import SLOW_WEIGHTS, slow_terms
from safe.seeding import generator
from safe.sharing.client import StageClient
from safe.sharing.frozen_features import FrozenViews
from safe.training.features import FeatureExtractor
from safe.types import Phase


def phase_of(session: Session) -> Phase:
    """Return which learner trains in a session."""
    return "slow" if session.index == 1 else "fast"


class GradientSteps:
    """Trains one epoch at a time and keeps the optimiser between the epochs of a session.

    Learners come as a mapping of `slow` and, after session 1, `fast`. Random choices are drawn from generators named
    after session and epoch.

    Args:
        seen: what the network is given.
        precision: of the networks' forward passes.
        features: gives the features that new rows are imprinted from.
        client: takes the frozen network's features of an epoch's views from a stage store; `None` computes them.
    """

    def __init__(
        self,
        config: Config,
        seen: NetworkInput,
        device: torch.device,
        precision: Precision,
        features: FeatureExtractor,
        client: StageClient | None = None,
    ) -> None:
        self._config, self._seen, self._device, self._precision = config, seen, device, precision
        self._features, self._client = features, client or StageClient()
        self._optimizer: torch.optim.Optimizer | None = None

    def epochs(self, session: Session) -> int:
        """Return how many epochs a session has."""
        return self._config.slow.epochs if phase_of(session) == "slow" else self._config.fast.epochs

    def epoch(self, learners: Mapping[str, Learner], session: Session, epoch: int) -> dict[str, float]:
        """Train one epoch (from 0); return each loss term's mean over its images as `train/<phase>/<term>`.

        Raises:
            NonFiniteLossError: a term became NaN or infinite.
        """
        phase = phase_of(session)
        settings = self._config.slow if phase == "slow" else self._config.fast
        if phase == "fast" and epoch == 0:
            self.add_rows(learners, session)
        learner = learners[phase]
        optimizer = self._session_optimizer(learner, phase)
        for group in optimizer.param_groups:
            group["lr"] = cosine_lr(settings.lr, epoch, settings.schedule_epochs or settings.epochs)
        learner.net.set_dropout_generator(self._generator("dropout", session, epoch, self._device))
        with self._frozen(learners, session, epoch) as frozen:
            terms = train_epoch(
                learner,
                optimizer,
                self.batches(session, epoch, settings.batch_size),
                lambda images, targets: self.terms(learners, session, images, targets, frozen),
                f"session {session.index}, epoch {epoch + 1}",
                self._config.runtime.micro_batch,
                self._features.watch.step,
            )
        learner.net.set_dropout_generator(None)
        learner.net.eval()
        if epoch + 1 == self.epochs(session):
            self._optimizer = None
        return {f"train/{phase}/{name}": value for name, value in terms.items()}

    def add_rows(self, learners: Mapping[str, Learner], session: Session) -> None:
        """Give the gradient heads rows for a later session's new classes."""
        if not session.classes:  # a later domain: every class has its rows
            return
        labels = session.train.labels.to(self._device)
        kinds = {"slow": self._config.fast.slow_rows, "fast": self._config.fast.new_rows}
        for name, learner in learners.items():
            rows = learner.head.rows.detach()
            features = rows[:0]
            if kinds[name] == "imprint":
                if name == "slow" or session.index == 2:  # then the fast learner is still a copy of the slow one
                    features = self._features.slow(learners["slow"], session, "train")
                else:
                    features = self._features(learner, session.train)
            draw = self._generator(f"{name}_rows", session, 0)
            new = new_class_rows(kinds[name], session.classes, features, labels, rows, draw)
            learner.head = learner.head.extended(new)

    def terms(
        self,
        learners: Mapping[str, Learner],
        session: Session,
        images: Tensor,
        targets: Tensor,
        frozen: Callable[[Tensor], Tensor] | None = None,
    ) -> dict[str, tuple[float, Tensor]]:
        """Return a batch's loss terms as name -> (weight, value); `frozen` as in `slow_terms` and `fast_terms`."""
        slow = learners["slow"].in_precision(self._precision)
        if phase_of(session) == "slow":
            settings = self._config.slow
            return slow_terms(
                slow,
                images,
                targets,
                correlation=settings.correlation,
                frozen=frozen,
                **{name: getattr(settings, name) for name in SLOW_WEIGHTS},
            )
        return fast_terms(
            learners["fast"].in_precision(self._precision),
            slow,
            images,
            targets,
            old_classes=session.known,
            frozen=frozen,
            **{name: getattr(self._config.fast, name) for name in FAST_WEIGHTS},
        )

    def _frozen(self, learners: Mapping[str, Learner], session: Session, epoch: int) -> FrozenViews:
        """Return what gives an epoch's features by the network that is frozen in the session."""
        net = learners["slow"].in_precision(self._precision).net
        first = phase_of(session) == "slow"
        return FrozenViews(
            net.base if first else net,
            self._client,
            4 * len(session.train) * learners["slow"].net.embed_dim,
            learner="ptm" if first else "slow",
            session=session.index,
            epoch=epoch,
        )

    def batches(self, session: Session, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Give one epoch of augmented batches in the order and with the crops of (session, epoch)."""
        data, subset = self._config.data, session.train
        order = torch.randperm(len(subset), generator=self._generator("order", session, epoch)).split(batch_size)
        draw = self._generator("views", session, epoch)

        def view(chosen: Tensor) -> Tensor:
            views = train_view(
                subset.whole(chosen),
                self._seen.size,
                crop_scale=data.crop_scale,
                crop_ratio=data.crop_ratio,
                horizontal_flip=data.horizontal_flip,
                generator=draw,
                device=self._device,
            )
            return self._seen.normalised(views)

        views = ahead(map(view, order)) if subset.from_files else map(view, order)
        for chosen, images in zip(order, views, strict=True):
            yield images, subset.labels[chosen].to(self._device)

    def optimizer_state(self) -> dict[str, Any] | None:
        """Return the optimiser's state between two epochs of a session, else `None`."""
        return None if self._optimizer is None else self._optimizer.state_dict()

    def load_optimizer(self, state: dict[str, Any] | None, learner: Learner, phase: Phase) -> None:
        """Continue with the optimiser state of the learner that trains in the present session."""
        self._optimizer = None
        if state is not None:
            self._session_optimizer(learner, phase).load_state_dict(state)

    def _session_optimizer(self, learner: Learner, phase: Phase) -> torch.optim.Optimizer:
        if self._optimizer is None:
            settings = self._config.slow if phase == "slow" else self._config.fast
            self._optimizer = torch.optim.SGD(
                learner.trained(), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
            )
        return self._optimizer

    def _generator(
        self, purpose: str, session: Session, epoch: int, device: torch.device | str = "cpu"
    ) -> torch.Generator:
        return generator(self._config.seed, purpose, session.index, epoch, device=device)


def training_stage(learners: Mapping[str, Learner], phase: Phase) -> dict[str, Any]:
    """Return copies of what a session's gradient steps and new rows changed."""
    state: dict[str, Any] = {
        name: {"head": {part: value.detach().clone() for part, value in learner.head.state_dict().items()}}
        for name, learner in learners.items()
    }
    state[phase]["pet"] = learners[phase].net.pet_state()
    return state


def load_training_stage(learners: Mapping[str, Learner], phase: Phase, state: Mapping[str, Any]) -> None:
    """Take over copies of what `training_stage` gave after the same session, on the learners' device."""
    for name, learner in learners.items():
        learner.head = CosineHead.from_state(state[name]["head"]).to(learner.head.rows.device)
    learners[phase].net.load_pet_state(state[phase]["pet"])
