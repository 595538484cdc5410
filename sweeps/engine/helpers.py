"""The processes that help a study: the one that brings its records to MLflow, and those of Ray.

Each takes seconds to get ready, and so does loading the trainer: where there is work to do, all of it is begun at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
        self._ray = ExitStack()
        self._has_ray = False
        self._signals = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._signals:
            try:
                self._ray.close()
            finally:
                self.delivery.close()

    def begin(self, spec: Spec, results: Path) -> None:
        """Begin at once what a study with work to do needs, and load the trainer; a Ray of others is joined later.

        Raises:
            TrackingError: MLflow could not have its database in the results folder.
            UserError: there is no place for Ray's files.
        """
        from tracking import default_uri, make_ahead

        self._signals.enter_context(polite_kill())  # which would leave Ray's folder behind
        self.delivery.begin(make_ahead, default_uri(results.absolute()))
        if not ray_address():
            self._start_ray(spec, _load_trainer)

    @contextmanager
    def ray(self, spec: Spec) -> Iterator[None]:
        """Run the block with the study's Ray, started if it is not there yet, which ends with the block."""
        try:
            with self._ray:
                if not self._has_ray:
                    self._start_ray(spec)
                yield
        finally:
            self._has_ray = False

    def _start_ray(self, spec: Spec, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._ray.enter_context(ray_of(spec, meanwhile))
        self._has_ray = True


def _load_trainer() -> None:
    import safe.training.build  # noqa: F401
