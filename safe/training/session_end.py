"""What ends a session once its gradient steps are done: closed-form heads and the logits that judge it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from safe.config import Config
from safe.config.reading import beside, shares_statistics
from safe.data.stream import Session, Stream
from safe.errors import NonFiniteLossError
from safe.evaluation.logits import SessionLogits
from safe.learners.learner import Learner
from safe.seeding import generator
from safe.sharing.client import StageClient
from safe.training.features import FeatureExtractor


@dataclass(frozen=True)
class _Pending:
    """A session whose readout came from the store, so that the statistics lack its training images.

    `pets` are the networks of the fast learner after that session whose features are lacking, in the order in which
    they are added; `None` stands for the slow learner.
    """

    session: Session
    pets: tuple[Mapping[str, Tensor] | None, ...]


class SessionEnd:
    """Brings learners from trained networks to logits, session by session; `slow` is the frozen one of the run.

    Readouts and logits that another run has finished are taken as they are. The statistics behind such a readout
    (M x M for a ridge head, too big to be stored) are then pending: added from the features of those sessions, in their
    order, once something new has to be solved, bit for bit those of a run that shares nothing. They never are in a run
    that finds all its sessions; a state keeps what is pending as it is.

    Attributes:
        seconds: of the present session, for `features` of its training images and for the `head`.
    """

    def __init__(
        self, config: Config, stream: Stream, slow: Learner, features: FeatureExtractor, client: StageClient
    ) -> None:
        self._config, self._stream, self._slow, self._features, self._client = config, stream, slow, features, client
        self._pending: dict[str, list[_Pending]] = {"slow": [], "fast": []}
        self.seconds = {"features": 0.0, "head": 0.0}

    def solve(self, learners: Mapping[str, Learner], session: Session) -> None:
        """Bring the closed-form heads of the learners up to the end of a session; nothing is done where there are none.

        Args:
            learners: `slow`, and `fast` where it differs from the slow one. With shared statistics each adds the
                other's features too, before its own.

        Raises:
            NonFiniteLossError: features are NaN or infinite.
        """
        features: dict[str, Tensor] = {}
        shared = shares_statistics(self._config)
        for name, learner in learners.items():
            others = {whose: one for whose, one in learners.items() if whose != name and shared}
            self._solve(name, {**others, name: learner}, session, features)

    def _solve(self, name: str, sources: Mapping[str, Learner], session: Session, features: dict[str, Tensor]) -> None:
        """Bring a learner's head up to the end of a session with the features of all `sources`, its own the last.

        Features that are lacking in `features` are added there.
        """
        learner = sources[name]
        closed, started, before = learner.closed, time.perf_counter(), self.seconds["features"]
        if closed is None:
            return
        computed = False

        def compute() -> dict[str, Any]:
            nonlocal computed
            self._add_pending(name, learner)
            begun = time.perf_counter()
            for whose, one in sources.items():
                if whose not in features:
                    features[whose] = self._train_features(whose, one, session)
                    _require_finite(features[whose], whose, session.index)
            self.seconds["features"] += time.perf_counter() - begun
            self._features.watch.solve()
            labels = session.train.labels.to(features[name].device)
            for whose in sources:
                add = closed.update if whose == name else closed.add
                add(features[whose], labels, session.seen, self._split(session))
            computed = True
            return closed.state_dict() if closed.small else {**closed.readout(), "ridge": closed.ridge}

        value = self._client.once("readout", compute, learner=name, session=session.index)
        if not computed and closed.small:
            closed.load_state_dict(value)
        elif not computed:
            closed.load_readout(value)
            closed.ridge = value["ridge"]
            pets = tuple(
                None if self._is_slow(whose, session) else one.net.pet_state() for whose, one in sources.items()
            )
            self._pending[name].append(_Pending(session, pets))
        self.seconds["head"] += time.perf_counter() - started - (self.seconds["features"] - before)

    def logits(self, name: str, learner: Learner, session: Session) -> Tensor:
        """Return a learner's scores (N, C), not yet scaled, of all images that judge it after a session."""

        def compute() -> dict[str, Any]:
            judged = self._stream.judged(session.index)
            if self._is_slow(name, session):
                features = torch.cat([self._features.slow(self._slow, s, "evaluation") for s in judged])
            else:
                features = self._features.fast_evaluation(learner, judged, session.index)
            features = self._read(name, features, judged, "evaluation")
            if learner.closed is None:  # with a closed form its training images told already
                _require_finite(features, name, session.index)
            return {"logits": learner.logits(features).cpu()}

        scores: Tensor = self._client.once("logits", compute, learner=name, session=session.index)["logits"]
        return scores

    def ridges(self, learners: Mapping[str, Learner]) -> dict[str, float]:
        """Return the lambda of each learner whose head has one."""
        heads = {name: learner.closed for name, learner in learners.items()}
        return {name: head.ridge for name, head in heads.items() if head is not None and head.ridge is not None}

    def fast_is_slow(self) -> None:
        """Take note that the fast learner is a fresh copy of the slow one: its statistics lack what those lack."""
        self._pending["fast"] = list(self._pending["slow"])

    def state_dict(self) -> dict[str, Any]:
        """Return what is pending: of each learner the numbers of the sessions, with the PETs whose features lack."""
        return {name: [[one.session.index, list(one.pets)] for one in ones] for name, ones in self._pending.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        sessions = self._stream.sessions
        self._pending = {
            name: [_Pending(sessions[index - 1], tuple(pets)) for index, pets in ones] for name, ones in state.items()
        }

    def restart(self) -> None:
        """Begin a session: what is kept of the last one's training images is no longer needed."""
        self._features.forget("train")
        self.seconds = {"features": 0.0, "head": 0.0}

    def _add_pending(self, name: str, learner: Learner) -> None:
        """Add what a learner's statistics lack."""
        closed, pending = learner.closed, self._pending[name]
        while pending and closed is not None:
            session = pending[0].session
            for pet in pending[0].pets:
                if pet is None:
                    features = self._features.slow(self._slow, session, "train")
                else:
                    then = Learner(learner.net.clone(), learner.head, None)
                    then.net.load_pet_state(pet)
                    features = self._features.fast_train(then, session)
                features = self._read(name, features, [session], "train")
                closed.add(features, session.train.labels.to(features.device), session.seen, self._split(session))
            del pending[0]

    def _split(self, session: Session) -> torch.Generator:
        """One for both learners, so that equal features give equal heads."""
        return generator(self._config.seed, "ridge_split", session.index)

    def _train_features(self, name: str, learner: Learner, session: Session) -> Tensor:
        if self._is_slow(name, session):
            features = self._features.slow(self._slow, session, "train")
        else:
            features = self._features.fast_train(learner, session)
        return self._read(name, features, [session], "train")

    def _is_slow(self, name: str, session: Session) -> bool:
        """Whether a learner's network is the slow one after a session."""
        return name == "slow" or session.index == 1

    def _read(self, name: str, own: Tensor, sessions: Sequence[Session], split: str) -> Tensor:
        """Return what a learner's head reads of images of these sessions: its `own` features, and what goes before."""
        front = beside(self._config, name)
        if front is None:
            return own
        of = self._features.frozen if front == "ptm" else self._features.slow
        return torch.cat([torch.cat([of(self._slow, session, split) for session in sessions]), own], dim=1)


def session_logits(
    scores: Mapping[str, Tensor], scales: Mapping[str, float], judged: Sequence[Session]
) -> SessionLogits:
    """Return both learners' scores of the images that judge some sessions, with what these show."""
    return SessionLogits(
        slow=scores["slow"],
        fast=scores["fast"],
        slow_scale=scales["slow"],
        fast_scale=scales["fast"],
        labels=torch.cat([session.evaluation.labels for session in judged]),
        counts=[len(session.evaluation) for session in judged],
        owned=[session.own for session in judged],
    )


def _require_finite(features: Tensor, name: str, session: int) -> None:
    if not features.isfinite().all():
        raise NonFiniteLossError(
            f"the {name} learner's features are not finite after session {session}: its last steps diverged; "
            "lower the learning rate or the loss weights"
        )
