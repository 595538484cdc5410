"""What a closed-form head is to the rest: statistics of features, and the classifier that they give."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Tensor

FLOAT, DOUBLE = 4, 8  # bytes


class HeadBytes(NamedTuple):
    """Bytes that heads hold and take.

    Attributes:
        shared: of what the heads of both learners have in common.
        statistics: of what each holds besides, and a saved one takes.
        closing: of what solving and judging add for a while.
    """

    shared: float
    statistics: float
    closing: float


class ClosedFormHead(Protocol):
    """A classifier that is computed, not trained: by statistics that are sums over images.

    So neither the order of images nor that of sessions matters, and a frozen network forgets nothing. A head of one's
    own inherits from this class; `safe.heads.registry` makes it a kind. Making a head allocates nothing big: reading a
    readout, as for predicting, is all that some heads are made for.

    Attributes:
        small: whether the statistics are so small that they are stored with the readout.
        ridge: the regularisation chosen last; `None` where there is none.
        own_scale: factor that makes log probabilities of the scores, where their kind says so; `None` leaves it to the
            sigma that the learner's gradient steps found.
    """

    small: ClassVar[bool] = False
    ridge: float | None = None
    own_scale: ClassVar[float | None] = None

    def add(self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> None:
        """Add one session to the statistics alone, bit for bit as `update` does.

        Args:
            features: float32 (N, D), un-augmented, of the session's training images.
            labels: int64 (N,).
            classes: classes seen so far, at least max(labels) + 1 and never fewer than before.
            generator: CPU generator of whatever is drawn.
        """

    def update(self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> None:
        """Add one session and solve; without anything to solve this is `add`."""
        self.add(features, labels, classes, generator)

    def logits(self, features: Tensor) -> Tensor:
        """Return the scores (N, C) of features (N, D), by what was solved last; C is 0 before the first session."""
        ...

    def copy(self) -> Self:
        """Return an independent head with the same statistics."""
        return copy.deepcopy(self)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of everything that adding and predicting need: tensors, numbers, strings, lists and dicts."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over copies of what `state_dict` gave, whatever its number of classes, on this head's device."""

    def readout(self) -> dict[str, Tensor]:
        """Return what `logits` needs besides the settings."""
        ...

    def load_readout(self, readout: Mapping[str, Any]) -> None:
        """Predict with a `readout`, on this head's device. The statistics are not those behind it."""

    def memory(self, classes: int, images: int, judged: int) -> HeadBytes:
        """Return what the heads of a run take at their peak.

        Args:
            classes: of the whole stream.
            images: training images of the largest session.
            judged: images that judge the last session.
        """
        ...

    def readout_bytes(self, classes: int) -> float:
        """Return what a readout of so many classes takes; as much as the statistics where a kind does not say."""
        return self.memory(classes, 0, 0).statistics

    def flops(self, images: int, judged: int, classes: int) -> float:
        """Return the floating point operations that a session's end takes; 0 for what is nothing beside the network's.

        Args:
            images: training images of the session.
            judged: images that judge it.
            classes: seen so far.
        """
        return 0.0
