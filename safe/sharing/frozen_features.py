"""Features that a frozen network gives of augmented views: every run that draws the same views can share them."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from safe.sharing.client import StageClient
from safe.sharing.stages import Claim


class FrozenViews:
    """Gives a frozen network's features (B, D) of one epoch's batches, in their order; a context around the epoch.

    At the first batch they are asked for, and then come from the stage store or are computed batch by batch. What was
    computed is stored once the epoch has come to its end. Where another run is computing the same ones at that time,
    this one does so too and stores nothing: waiting would let the two train one after the other.

    Args:
        net: the frozen network, images (B, 3, S, S) -> features (B, D).
        client: takes finished features from a stage store.
        size: bytes that the whole epoch's features come to.
        where: as in `StageKeys`.
    """

    def __init__(self, net: Callable[[Tensor], Tensor], client: StageClient, size: int, **where: Any) -> None:
        self._net, self._client, self._size, self._where = net, client, size, where
        self._claim: Claim | None = None
        self._images = 0
        self._computed: list[Tensor] = []
        self._seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features of the epoch's next images."""
        first, self._images = self._images, self._images + len(images)
        if first == 0:
            self._claim = self._client.claim_views(self._size, self._where)
        if self._claim is not None and self._claim.stage is not None:
            # Memory of its own, as if computed: where a tensor lies in memory may decide how it is rounded.
            return self._claim.stage.value["features"][first : self._images].to(images.device, copy=True)
        started = time.perf_counter()
        features = self._net(images).contiguous()
        self._seconds += time.perf_counter() - started
        if self._claim is not None:
            self._computed.append(features)  # copied off a GPU at the end: each copy would make it wait
        return features

    def __exit__(self, error: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        try:
            if self._seconds and error is None:
                self._client.count("views", "computed", self._seconds)
                if self._claim is not None:
                    self._claim.put({"features": torch.cat([part.cpu() for part in self._computed])}, self._seconds)
        finally:
            if self._claim is not None:
                self._claim.release()
