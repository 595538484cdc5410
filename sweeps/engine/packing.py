"""How many runs share a GPU: decided from what was asked for and from measured memory."""

from __future__ import annotations

import math
from collections.abc import Iterable

from sweeps.spec.machine import MOST_ON_A_GPU, GpusPerTrial, check_share

HEADROOM = 0.85  # of a GPU's memory that runs may fill together: the CUDA context of each is not in its own figures


def even_share(gpus: float, concurrency: int) -> float:
    """Return the share of a GPU with which `concurrency` runs fit on `gpus`: 1, 1/2, 1/3, ..., or 0 without GPUs."""
    return 1 / max(1, math.ceil(concurrency / gpus)) if gpus else 0.0


def fitting_share(peak: float, total: float) -> float:
    """Return the share for runs of which one needs `peak` of `total` memory, in one unit: 1/n, n up to the most."""
    return 1 / max(1, min(MOST_ON_A_GPU, math.floor(HEADROOM * total / peak))) if peak > 0 else 1 / MOST_ON_A_GPU


class Packing:
    """The share of a GPU that the next run asks for.

    Args:
        asked: a share, more than one GPU as a whole number, `auto` (one run a GPU until a session tells how much
            memory it takes), or None: GPUs divided evenly over the runs at a time.
        gpus: GPUs there are.
        concurrency: runs at a time.

    Raises:
        UserError: a run is to have more GPUs than there are.
    """

    def __init__(self, asked: GpusPerTrial, gpus: float, concurrency: int) -> None:
        check_share(asked, gpus)
        self._gpus = gpus
        self._measuring = asked == "auto" and gpus > 0
        if not gpus:
            self.share = 0.0
        elif asked is None:
            self.share = even_share(gpus, concurrency)
        else:
            self.share = 1.0 if asked == "auto" else float(asked)
        self._peak = 0.0

    def fits(self, taken: Iterable[float]) -> bool:
        """Return whether the next run finds room beside runs with these shares; else it waits, and may ask for less."""
        return sum(taken) + self.share <= self._gpus + 1e-6

    def measured(self, peak: float, total: float) -> None:
        """Take in what a finished session used at most; later sessions of other runs may use more, never less."""
        if self._measuring and peak > self._peak:
            self._peak = peak
            self.share = fitting_share(peak, total)

    def lower(self, had: float) -> bool:
        """Put one run less on a GPU than when one that had this share ran out of memory; False when it had a whole one.

        Runs that ran out together make it one less together.
        """
        if not 0 < had < 1:
            return False
        self._measuring = False
        self.share = max(self.share, 1 / max(1, round(1 / had) - 1))
        return True
