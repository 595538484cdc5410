"""Un-augmented features of whole image sets, computed once where the network is frozen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from safe.backbones.network_input import NetworkInput
from safe.backbones.precision import Precision, autocast
from safe.data.parallel import ahead
from safe.data.stream import Session, Subset
from safe.data.transforms import network_view
from safe.evaluation.logits import extract
from safe.learners.learner import Learner
from safe.pet import PetViT
from safe.sharing.client import StageClient
from safe.training.watch import Watch


class FeatureExtractor:
    """Gives the features (n, D) of a session's images, float32.

    Always batched within one session's images, so that a resumed run adds up in the same order.

    Args:
        seen: what the network is given.
        batch_size: images in a forward pass.
        precision: of the forward pass, `float32` or `bf16`.
        client: takes finished features from a stage store; `None` computes all of them.
        watch: is told of every batch, and of gradient steps by those who take them.
    """

    def __init__(
        self,
        device: torch.device,
        seen: NetworkInput,
        batch_size: int,
        precision: Precision,
        client: StageClient | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.device, self.seen, self.batch_size, self.precision = device, seen, batch_size, precision
        self._client, self.watch = client or StageClient(), watch or Watch()
        self._kept: dict[tuple[str, str, int], Tensor] = {}  # by split, network and session

    def __call__(self, learner: Learner, subset: Subset) -> Tensor:
        """Return the features that the learner's network gives now."""
        batches = torch.arange(len(subset)).split(self.batch_size)
        images: Iterator[Tensor] = map(subset.read, batches)
        if subset.from_files:
            images = ahead(images)
        with autocast(self.device, self.precision):
            return extract(learner.net, map(self._view, images)).float()

    def _view(self, batch: Tensor) -> Tensor:
        self.watch.read(len(batch))
        return network_view(batch.to(self.device), self.seen)

    def slow(self, learner: Learner, session: Session, split: str) -> Tensor:
        """Return the frozen slow learner's features of a session's `train` or `evaluation` images.

        Computed at the first call for a set and kept, since the learner no longer changes.
        """
        return self._once(learner, "slow", session, split)

    def frozen(self, learner: Learner, session: Session, split: str) -> Tensor:
        """Return the features, likewise, of the pre-trained network that a learner is tuned on."""
        plain = replace(learner, net=cast(PetViT, learner.net.base))
        return self._once(plain, "ptm", session, split)

    def _once(self, learner: Learner, name: str, session: Session, split: str) -> Tensor:
        key = (split, name, session.index)
        if key not in self._kept:
            subset = session.train if split == "train" else session.evaluation
            self._kept[key] = self._stage(learner, [subset], name, 1, split, session.index)
        return self._kept[key]

    def fast_train(self, learner: Learner, session: Session) -> Tensor:
        """Return the fast learner's features of a session's training images after its gradient steps."""
        return self._stage(learner, [session.train], "fast", session.index, "train", session.index)

    def fast_evaluation(self, learner: Learner, judged: Sequence[Session], session: int) -> Tensor:
        """Return the fast learner's features of all images that judge it after `session`, group after group."""
        return self._stage(learner, [s.evaluation for s in judged], "fast", session, "evaluation", None)

    def forget(self, split: str | None = None) -> None:
        """Drop what is kept of a split, or of all."""
        self._kept = {key: value for key, value in self._kept.items() if split not in (None, key[0])}

    def _stage(
        self, learner: Learner, subsets: list[Subset], name: str, session: int, split: str, group: int | None
    ) -> Tensor:
        value = self._client.once(
            "features",
            lambda: {"features": torch.cat([self(learner, subset) for subset in subsets])},
            learner=name,
            session=session,
            split=split,
            group=group,
        )
        features: Tensor = value["features"].to(self.device)
        return features
