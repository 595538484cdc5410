"""The processes that help a study: the one that brings its records to MLflow, and those of Ray.

Each takes seconds to get ready, and so does loading the trainer: where there is work to do, all of it is begun at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Self

from sweeps.engine.joining import ray_of
from sweeps.engine.polite import polite_kill
from sweeps.spec.machine import ray_address
from sweeps.spec.specs import Spec


class Helpers:
    """The processes that help a study; those that are left end with the block.

    Attributes:
        delivery: brings records to MLflow, which it loads at once.
    """

    def __init__(self) -> None:
        from tracking import DeliveryProcess

        self.delivery = DeliveryProcess()
        self._ray: ExitStack | None = None
        self._signals = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._signals, closing(self.delivery), self._ray or ExitStack():
            pass

    def begin(self, spec: Spec, results: Path) -> None:
        """Begin at once what a study with work to do needs, and load the trainer; a Ray of others is joined later.

        Raises:
            TrackingError: MLflow could not have its database in the results folder.
            UserError: there is no place for Ray's files.
        """
        from tracking import default_uri, make_ahead

        self._signals.enter_context(polite_kill())  # a process that ends at once leaves Ray's folder behind
        self.delivery.begin(make_ahead, default_uri(results.absolute()))
        if not ray_address():
            self._ray = _started(spec, _load_trainer)

    @contextmanager
    def ray(self, spec: Spec) -> Iterator[None]:
        """Run the block with the study's Ray, started if it is not there yet, which ends with the block."""
        begun, self._ray = self._ray, None
        with begun or _started(spec):
            yield


def _started(spec: Spec, meanwhile: Callable[[], object] = lambda: None) -> ExitStack:
    stack = ExitStack()
    stack.enter_context(ray_of(spec, meanwhile))
    return stack


def _load_trainer() -> None:
    import safe.training.build  # noqa: F401
