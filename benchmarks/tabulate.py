"""`python -m benchmarks.tabulate`: a grid of settings trained over several seeds, for searches to be rehearsed over.

Fifteen classes of glyphs under a heavier sheet than the data set's own, three sessions of five, half of the pictures
held out: there a few gradient steps gain and lose accuracy, so that settings differ. Every seed shifts seed, class
order and held-out images together, as repeats of a race do. A line is written when its run is over, and a run that is
in the file is not done again; `benchmarks.search` reads `benchmarks/tables/glyphs.csv`.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import random
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safe.data.sources import Dataset
    from safe.evaluation.logits import Prediction

TABLE = Path(__file__).parent / "tables" / "glyphs.csv"
GRID: Mapping[str, Sequence[float]] = {
    "slow.diag_weight": (0.0, 0.1, 1.0),
    "slow.offdiag_weight": (0.0, 1.0),
    "fast.feature_weight": (0.0, 5.0, 24.0),
    "fast.cross_weight": (0.0, 1.0, 6.0),
}
TEMPERATURES = (0.1, 1.0, 10.0)
SLOW_ALONE = len(TEMPERATURES)  # place of the slow learner's own predictions in a line
SESSIONS, CLASSES = 3, 5  # of a session
BASE: Mapping[str, Any] = {
    "data.init_classes": CLASSES,
    "data.increment": CLASSES,
    "slow.epochs": 12,
    "slow.lr": 0.2,
    "fast.epochs": 3,
    "fast.lr": 0.6,
    "head.projection_dim": 500,
    "runtime.device": "cpu",
    "runtime.threads": 1,
}
HATCH = 0.65
HOLDOUT = 0.5
IMAGES = 150  # that judge a session: 5 classes, half of 60 pictures each
FROZEN: Mapping[str, Any] = {"pet.kind": "none", "slow.epochs": 0, "fast.epochs": 0}
MAIN, OTHERS = 0, 50  # first class of the letters searched on, and of others to learn from
COLUMNS = ("classes", "seed", "kind", *GRID, "correct")
Line = dict[str, str]


def combinations() -> Iterator[dict[str, float]]:
    """Yield the settings of every trial; slow settings change last, so that neighbours share session 1."""
    return (dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values()))


def read(path: Path) -> list[Line]:
    """Return the lines of a table; none where it is not there."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def counts(line: Line) -> list[list[list[int]]]:
    """Return the correct pictures by session, setting of prediction and session group."""
    return [[[int(n) for n in group.split()] for group in session.split("/")] for session in line["correct"].split(";")]


def letters(first: int) -> Dataset:
    """Return the classes from `first` on, drawn under the heavier sheet."""
    from safe.data.benchmarks.glyphs import CLASSES as ALL
    from safe.data.benchmarks.glyphs import TEST_PER_CLASS, TRAIN_PER_CLASS, draw_split
    from safe.data.sources import ArrayImages, Dataset

    last, parts = first + SESSIONS * CLASSES, []
    for split, number in (("train", TRAIN_PER_CLASS), ("test", TEST_PER_CLASS)):
        drawn = draw_split(split, number, HATCH)
        kept = (drawn.labels >= first) & (drawn.labels < last)
        parts.append(ArrayImages(drawn.pixels[kept], drawn.labels[kept] - first))
    train, test = parts
    return Dataset("quickstart", ALL[first:last], train, test, f"{train.digest()}{test.digest()}")


def trained(data: Dataset, settings: Mapping[str, Any], seed: int, stages: Path) -> str:
    """Return the `correct` of one run."""
    from safe import SafeTrainer, load_config
    from safe.evaluation.logits import score_grid
    from sweeps.worker.stage_store import DiskStages

    seeds = {"seed": seed, "class_order_seed": 1993 + seed, "data.holdout_seed": seed}
    judged = {"data.evaluate_on": "holdout", "data.holdout_share": HOLDOUT}
    config = load_config("quickstart", overrides={**BASE, **settings, **seeds, **judged})
    trainer = SafeTrainer(config, dataset=data, stages=DiskStages(stages))
    sessions = []
    while not trainer.done:
        trainer.run_session()
        logits = trainer.session_logits
        assert logits is not None
        rows = score_grid(logits, _predictions()).rows
        right = [[round(share * n) for share, n in zip(row, logits.counts, strict=True)] for row in rows]
        sessions.append("/".join(" ".join(map(str, row)) for row in right))
    trainer.close()
    return ";".join(sessions)


def _predictions() -> list[Prediction]:
    from safe.evaluation.logits import Prediction

    return [*(Prediction("entropy", t, "learned") for t in TEMPERATURES), Prediction("slow", 1.0, "learned")]


def main(argv: Sequence[str] | None = None) -> int:
    """Train what the table lacks, seed by seed; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tabulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="of the letters searched on (default: %(default)s)")
    parser.add_argument("--cpu-minutes", type=float, default=float("inf"), help="end after so much CPU time")
    parser.add_argument("--out", type=Path, default=TABLE, help="default: %(default)s")
    arguments = parser.parse_args(argv)
    done = {tuple(line[name] for name in COLUMNS[:-1]) for line in read(arguments.out)}
    # The other letters come early: a few runs of them are something to learn from.
    order = [(MAIN, 0), (OTHERS, 0), *((MAIN, seed) for seed in range(1, arguments.seeds))]
    new = not arguments.out.exists()
    with arguments.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        for first, seed in order:
            data, stages = letters(first), arguments.out.with_suffix(".stages") / f"{first}-{seed}"
            slow = list(itertools.product(GRID["slow.diag_weight"], GRID["slow.offdiag_weight"]))
            random.Random(seed).shuffle(slow)  # so that what there is of a seed is a fair sample of its slow settings
            trials = sorted(
                combinations(), key=lambda one: slow.index((one["slow.diag_weight"], one["slow.offdiag_weight"]))
            )
            for kind, settings in [("frozen", dict.fromkeys(GRID, 0.0)), *(("trial", s) for s in trials)]:
                where = {"classes": first, "seed": seed, "kind": kind, **settings}
                if tuple(map(str, where.values())) in done:
                    continue
                if time.process_time() > 60 * arguments.cpu_minutes:
                    return 0
                extra = FROZEN if kind == "frozen" else {}
                writer.writerow({**where, "correct": trained(data, {**settings, **extra}, seed, stages)})
                file.flush()
            shutil.rmtree(stages, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
