"""`python -m benchmarks.tabulate`: a grid of settings trained over several seeds, for searches to be rehearsed over.

Every seed shifts seed, class order and held-out images together, as repeats of a race do. A line is written when its
run is over, and a run that is in the file is not done again; `benchmarks.search` reads the tables of `STREAMS`. The
first seeds have every setting; then all have the slow learners alone, which most of a seed's luck acts on, then the
settings that the first seeds do not put far behind.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safe.data.sources import Dataset
    from safe.evaluation.logits import Prediction

GRID: Mapping[str, Sequence[float]] = {
    "slow.diag_weight": (0.0, 0.1, 1.0),
    "slow.offdiag_weight": (0.0, 1.0),
    "fast.feature_weight": (0.0, 5.0, 24.0),
    "fast.cross_weight": (0.0, 1.0, 6.0),
}
TEMPERATURES = (0.1, 1.0, 10.0)
SLOW_ALONE = len(TEMPERATURES)  # place of the slow learner's own predictions in a line
SESSIONS = 3
HOLDOUT = 0.5
HATCH = 0.65
PICTURES = 80  # of a class of Fashion-MNIST
ALONE: Mapping[str, Mapping[str, Any]] = {
    "frozen": {"pet.kind": "none", "slow.epochs": 0, "fast.epochs": 0},
    "slow": {"fast.epochs": 0},
    "trial": {},
}
SLOW = [name for name in GRID if name.startswith("slow.")]
WHOLE = (0, 1)  # seeds that have every setting
FAR = 0.03  # settings so far behind in all of these are not trained with further seeds
MAIN, OTHERS = 0, 50  # first class of those searched on, and of the letters to learn from
COLUMNS = ("classes", "seed", "kind", *GRID, "correct")
Line = dict[str, str]
Rows = list[list[list[float]]]  # shares of correct pictures by session, setting of prediction and session group


@dataclass(frozen=True)
class Stream:
    """What the settings are trained on: three sessions, half of the training pictures held out to judge them.

    Attributes:
        load: from the folder of the data sets and the first class.
        classes: of a session.
        images: that judge a session.
        base: what differs from the preset of the data set.
        others: whether there are other classes to learn from.
    """

    name: str
    load: Callable[[Path, int], Dataset]
    classes: int
    images: int
    base: Mapping[str, Any]
    others: bool = False

    @property
    def table(self) -> Path:
        """Return where its lines are."""
        return Path(__file__).parent / "tables" / f"{self.name}.csv"

    @property
    def overrides(self) -> dict[str, Any]:
        """Return what every run sets."""
        here = {"data.init_classes": self.classes, "data.increment": self.classes, "head.projection_dim": 500}
        return {**here, "runtime.device": "cpu", "runtime.threads": 1, **self.base}


def letters(root: Path, first: int) -> Dataset:
    """Return fifteen classes of glyphs from `first` on, drawn under a heavier sheet: settings differ there."""
    from safe.data.benchmarks.glyphs import CLASSES, TEST_PER_CLASS, TRAIN_PER_CLASS, draw_split
    from safe.data.sources import ArrayImages, Dataset

    last, parts = first + SESSIONS * STREAMS["glyphs"].classes, []
    for split, number in (("train", TRAIN_PER_CLASS), ("test", TEST_PER_CLASS)):
        drawn = draw_split(split, number, HATCH)
        kept = (drawn.labels >= first) & (drawn.labels < last)
        parts.append(ArrayImages(drawn.pixels[kept], drawn.labels[kept] - first))
    train, test = parts
    return Dataset("quickstart", CLASSES[first:last], train, test, f"{train.digest()}{test.digest()}")


def clothes(root: Path, first: int) -> Dataset:
    """Return the first pictures of nine classes of Fashion-MNIST."""
    import torch

    from safe.data.benchmarks.fashion_mnist import load_fashion_mnist
    from safe.data.sources import ArrayImages, Dataset, arrays_digest

    whole = load_fashion_mnist(root / "fashion_mnist")
    classes = range(first, first + SESSIONS * STREAMS["fashion_mnist"].classes)
    parts = []
    for images in (whole.train, whole.test):
        assert isinstance(images, ArrayImages)
        kept = torch.cat([(images.labels == number).nonzero().flatten()[:PICTURES] for number in classes])
        parts.append(ArrayImages(images.pixels[kept], images.labels[kept] - first))
    train, test = parts
    return Dataset("fashion_mnist", whole.classes[first : classes.stop], train, test, arrays_digest(train, test))


STREAMS = {
    "glyphs": Stream(
        "glyphs",
        letters,
        classes=5,
        images=150,
        base={"slow.epochs": 12, "slow.lr": 0.2, "fast.epochs": 3, "fast.lr": 0.6},
        others=True,
    ),
    # DINOv2 at the pictures' own size: five tokens, which a processor can afford.
    "fashion_mnist": Stream(
        "fashion_mnist",
        clothes,
        classes=3,
        images=120,
        base={
            "backbone.image_size": 28,
            "runtime.precision": "bf16",
            "slow.epochs": 6,
            "slow.lr": 0.3,
            "fast.epochs": 2,
            "fast.lr": 0.3,
        },
    ),
}


def combinations() -> Iterator[dict[str, float]]:
    """Yield the settings of every trial; slow settings change last, so that neighbours share session 1."""
    return (dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values()))


def slow_combinations() -> Iterator[dict[str, float]]:
    """Yield the settings of every slow learner, those of the fast one at 0."""
    return (one for one in combinations() if not any(value for name, value in one.items() if name not in SLOW))


def read(path: Path) -> list[Line]:
    """Return the lines of a table; none where it is not there."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Write a line at the end of a table, after the names of the columns where it is the first."""
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if not file.tell():
            writer.writeheader()
        writer.writerow(line)


def rows(line: Line, images: int) -> Rows:
    """Return the shares of correct pictures by session, setting of prediction and session group."""
    sessions = [[group.split() for group in session.split("/")] for session in line["correct"].split(";")]
    return [[[int(n) / images for n in group] for group in session] for session in sessions]


def objective(run: Rows, place: int) -> float:
    """Return the average accuracy of a run at one of its settings of prediction."""
    return fmean(fmean(session[place]) for session in run)


def best_of(run: Rows) -> float:
    """Return the average accuracy of a run at its best temperature."""
    return max(objective(run, place) for place in range(SLOW_ALONE))


def settings_of(line: Line) -> tuple[float, ...]:
    """Return what a line sets, in the order of the grid."""
    return tuple(float(line[name]) for name in GRID)


def hopeless(lines: Sequence[Line], images: int) -> set[tuple[float, ...]]:
    """Return the settings that every whole seed puts far behind its best, whatever the temperature."""
    behind: list[set[tuple[float, ...]]] = []
    for seed in WHOLE:
        here = {"classes": str(MAIN), "seed": str(seed), "kind": "trial"}
        mine = [line for line in lines if here.items() <= line.items()]
        values = {settings_of(line): best_of(rows(line, images)) for line in mine}
        behind.append({one for one, value in values.items() if value < max(values.values()) - FAR})
    return set.intersection(*behind)


def trained(stream: Stream, data: Dataset, root: Path, settings: Mapping[str, Any], seed: int, stages: Path) -> str:
    """Return the `correct` of one run."""
    from safe import SafeTrainer, load_config
    from safe.evaluation.logits import score_grid
    from sweeps.worker.stage_store import DiskStages

    seeds = {"seed": seed, "class_order_seed": 1993 + seed, "data.holdout_seed": seed}
    judged = {"data.evaluate_on": "holdout", "data.holdout_share": HOLDOUT, "data.root": str(root)}
    config = load_config(data.name, overrides={**stream.overrides, **settings, **seeds, **judged})
    trainer = SafeTrainer(config, dataset=data, stages=DiskStages(stages))
    sessions = []
    while not trainer.done:
        trainer.run_session()
        logits = trainer.session_logits
        assert logits is not None
        scores = score_grid(logits, _predictions()).rows
        right = [[round(share * n) for share, n in zip(row, logits.counts, strict=True)] for row in scores]
        sessions.append("/".join(" ".join(map(str, row)) for row in right))
    trainer.close()
    return ";".join(sessions)


def planned(
    stream: Stream, seeds: int, lines: Callable[[], list[Line]]
) -> Iterator[tuple[int, int, str, dict[str, float]]]:
    """Yield the runs of a table in their order, each with its classes, seed and kind; `lines` are those so far."""
    whole = [(MAIN, seed) for seed in WHOLE] + [(OTHERS, 0)] * stream.others
    yield from ((*where, "trial", one) for where in whole for one in combinations())
    for seed in range(seeds):
        yield MAIN, seed, "frozen", dict.fromkeys(GRID, 0.0)
        yield from ((MAIN, seed, "slow", one) for one in slow_combinations())
    for seed in range(len(WHOLE), seeds):
        far = hopeless(lines(), stream.images)
        yield from ((MAIN, seed, "trial", one) for one in combinations() if tuple(one.values()) not in far)


def _known(where: Mapping[str, Any], lines: Sequence[Line]) -> bool:
    """Whether a run is in the table, or the slow learner as part of a trial."""
    same = {name: str(value) for name, value in where.items() if where["kind"] != "slow" or name not in GRID}
    same |= {name: str(where[name]) for name in SLOW}
    kinds = ("slow", "trial") if same.pop("kind") == "slow" else (where["kind"],)
    return any(same.items() <= line.items() and line["kind"] in kinds for line in lines)


def _predictions() -> list[Prediction]:
    from safe.evaluation.logits import Prediction

    return [*(Prediction("entropy", t, "learned") for t in TEMPERATURES), Prediction("slow", 1.0, "learned")]


def main(argv: Sequence[str] | None = None) -> int:
    """Train what a table lacks, seed by seed; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tabulate", description=__doc__)
    parser.add_argument("--stream", choices=list(STREAMS), default="glyphs", help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=20, help="of the classes searched on (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="seed to begin with (default: %(default)s)")
    parser.add_argument("--cpu-minutes", type=float, default=float("inf"), help="end after so much CPU time")
    parser.add_argument(
        "--root", type=Path, default=Path("data"), help="of data sets and weights (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="default: benchmarks/tables/STREAM.csv")
    arguments = parser.parse_args(argv)
    stream, out = STREAMS[arguments.stream], arguments.out or STREAMS[arguments.stream].table
    data = cache(stream.load)
    for first, seed, kind, settings in planned(stream, arguments.seeds, lambda: read(out)):
        where = {"classes": first, "seed": seed, "kind": kind, **settings}
        if seed < arguments.first or _known(where, read(out)):
            continue
        if time.process_time() > 60 * arguments.cpu_minutes:
            return 0
        stages = Path("results") / "tabulate" / f"{stream.name}-{first}-{seed}"
        whole = {**settings, **ALONE[kind]}
        correct = trained(stream, data(arguments.root, first), arguments.root, whole, seed, stages)
        append(out, {**where, "correct": correct})
    return 0


if __name__ == "__main__":
    sys.exit(main())
