"""Why Tune's trials failed, without a pickle of it on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ray.tune.error import TuneError
from ray.tune.experiment import Trial


@contextmanager
def causes(raised: dict[str, Exception]) -> Iterator[None]:
    """Collect in `raised`, by Tune's trial id, what trials fail with in the block; as Ray handed it to Tune.

    Tune passes it on to nobody. It pickles it into a file and unpickles that in the end; its text it only copies.
    """
    handle_error = Trial.handle_error

    def kept(trial: Trial, error: Exception | None = None) -> None:
        raised[trial.trial_id] = error or TuneError("Tune gave no reason")
        handle_error(trial, TuneError(str(error)))

    Trial.handle_error = kept
    try:
        yield
    finally:
        Trial.handle_error = handle_error
