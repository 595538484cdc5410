"""Where a run's stages come from: finished in a store, or computed here; and the account of both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from safe.sharing.stages import Claim, StageKeys, StageStore
from safe.types import Training, Work


class StageClient:
    """Takes finished stages from a store or has them computed, and keeps account of both.

    Args:
        store: `None` computes everything.
        keys: gives what names the stages of this run; asked only with a store.
    """

    def __init__(self, store: StageStore | None = None, keys: Callable[[], StageKeys] | None = None) -> None:
        self._store, self._keys = store, keys
        self._claim: Claim | None = None
        self._nested = 0.0  # seconds of stages done so far, to take them off those of the stage they are part of
        self.restart()

    def restart(self) -> None:
        """Begin the account of a session."""
        self.waited = 0.0
        self._account: dict[str, dict[str, float]] = {}

    def work(self, training: Training, seconds: float) -> Work:
        """Return the account of a session that took `seconds`, waiting included."""
        saved = sum(counts["saved_seconds"] for counts in self._account.values())
        return Work(training, max(0.0, seconds - self.waited), saved, self.waited, self._account)

    def once(self, kind: str, compute: Callable[[], dict[str, Any]], **where: Any) -> dict[str, Any]:
        """Return a stage from the store, else computed and stored; `where` as in `StageKeys`."""
        started, nested = time.perf_counter(), self._nested
        claim = self._ask(kind, where)
        try:
            if claim is not None and claim.stage is not None:
                return claim.stage.value
            begun, inner = time.perf_counter(), self._nested
            value = compute()
            seconds = time.perf_counter() - begun - (self._nested - inner)
            self.count(kind, "computed", seconds)
            if claim is not None:
                claim.put(value, seconds)
            return value
        finally:
            if claim is not None:
                claim.release()
            self._nested = nested + time.perf_counter() - started

    def begin(self, kind: str, **where: Any) -> dict[str, Any] | None:
        """Return a stage that takes many steps from the store, or `None`: then it is to be computed and finished."""
        claim = self._ask(kind, where)
        if claim is None or claim.stage is None:
            self._claim = claim
            return None
        return claim.stage.value

    def finish(self, kind: str, value: Callable[[], dict[str, Any]], seconds: float) -> None:
        """Hand in the stage that was begun; `seconds` with those of the views that were computed for it."""
        seconds -= self._account.get("views", {}).get("seconds", 0.0)
        self.count(kind, "computed", seconds)
        if self._claim is not None:
            self._claim.put(value(), seconds)
        self.give_up()

    def give_up(self) -> None:
        """Release the stage that was begun, if it is not finished, so that another run may compute it."""
        if self._claim is not None:
            self._claim.release()
        self._claim = None

    def claim_views(self, size: int, where: Mapping[str, Any]) -> Claim | None:
        """Return the claim of an epoch's views, of `size` bytes; `None`: they are to be computed and not kept."""
        if self._store is None or self._keys is None:
            return None
        claim = self._store.try_claim("views", self._keys()("views", **where), size)
        if claim is not None and claim.stage is not None:
            self.count("views", "reused", claim.stage.seconds)
        return claim

    def _ask(self, kind: str, where: Mapping[str, Any]) -> Claim | None:
        if self._store is None or self._keys is None:
            return None
        claim = self._store.claim(kind, self._keys()(kind, **where))
        self.waited += claim.waited
        if claim.stage is not None:
            self.count(kind, "reused", claim.stage.seconds)
        return claim

    def count(self, kind: str, what: str, seconds: float) -> None:
        """Take into account a stage that was `computed` here, or `reused` and had cost as much elsewhere."""
        empty = {"computed": 0, "reused": 0, "seconds": 0.0, "saved_seconds": 0.0}
        counts = self._account.setdefault(kind, empty)
        counts[what] += 1
        counts["seconds" if what == "computed" else "saved_seconds"] += seconds
