"""Every closed form on the same features, those of the frozen network, of both learners and side by side.

    python -m benchmarks.closed_forms --dataset glyphs --seeds 5 [--head NAME ...] [--average] [key=value ...]

trains the preset once a seed, which changes the class order and the holdout too, keeps the features of every session
below `<results>/closed_forms`, and solves the heads of `HEADS` on them; what was solved is kept beside. A run that is
ended goes on from its last session. Without epochs (`slow.epochs=0 fast.epochs=0 pet.kind=none`) there are the frozen
network's features alone. With a `data.holdout_share` the same runs are judged by held-out and by test images.

Prints final accuracy in percent, mean ± standard deviation, and the difference to the preset's head with its 95 %
t-interval, paired by seed; which head on which features the holdout takes for the best, and what that gives on test
images; and what each learner adds for the CPU seconds of its gradient steps. `--average` solves after every session,
not after the last alone, for the mean of the accuracies after all of them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safe.config import Config, load_config, validate
from safe.data.stream import Subset
from safe.evaluation.logits import SessionLogits
from safe.heads import make_head
from safe.seeding import generator
from safe.states.checkpoint import load_state, save_state
from safe.training.build import build_learner, build_stream, prediction_of, projection_seed
from safe.training.trainer import SafeTrainer
from safe.types import SessionResult
from sweeps.results.statistics import paired_difference, summary

DECADES = tuple(10.0**power for power in range(-2, 9))
# Sums are float32: below about 1e-7 of the largest eigenvalue lambda is lost in them, which M columns make large.
FINE = tuple(10.0 ** (half / 2) for half in range(6, 19))
PLAIN: dict[str, Any] = {"projection_dim": 0}
FLY = {"activation": "topk", "activation_share": 0.3, "projection_density": 0.4, "ridge_choice": "gcv"}
HEADS: dict[str, dict[str, Any]] = {
    "preset": {},
    "shared statistics": {"statistics": "shared"},
    "lambda pooled": {"ridge_choice": "pooled"},
    "lambda by GCV": {"ridge_choice": "gcv"},
    "lambda by GCV, fine grid": {"ridge_choice": "gcv", "ridge_grid": FINE},
    "Fly-CL, fine grid": {**FLY, "ridge_grid": FINE},
    "ridge on Fourier features": {"activation": "fourier", "ridge_grid": DECADES},
    "ridge, no projection": {**PLAIN, "ridge_grid": DECADES[2:]},
    "class means": {"kind": "class_means"},
    "SLDA": {"kind": "gaussian", **PLAIN},
    "Gaussian on relu(F W)": {"kind": "gaussian"},
    "RanDumb, KLDA": {"kind": "gaussian", "activation": "fourier"},
    "FeCAM": {"kind": "gaussian", "covariance": "per_class", **PLAIN},
    "AnaCP": {"kind": "anacp", "activation": "gelu", "ridge_grid": (100.0,)},
}
FROZEN, SLOW, FAST, SAFE, BESIDE, BOTH = "frozen", "slow", "fast", "SAFE", "frozen + slow", "slow + fast"
COLUMNS = (FROZEN, SLOW, FAST, SAFE, BESIDE, BOTH)


@dataclass(frozen=True)
class Features:
    """Of one network: of every session's training images, and by split after every session of all that judge it."""

    train: list[Tensor]
    judged: dict[str, list[Tensor]]

    def beside(self, other: Features) -> Features:
        """Return both networks' features side by side."""

        def side(one: list[Tensor], two: list[Tensor]) -> list[Tensor]:
            return [torch.cat(pair, dim=1) for pair in zip(one, two, strict=True)]

        judged = {split: side(rows, other.judged[split]) for split, rows in self.judged.items()}
        return Features(side(self.train, other.train), judged)


def whole(images: Any) -> Subset:
    """Return all the images of a data set's split."""
    everything = torch.arange(len(images))
    return Subset(images, everything, everything)


def splits(config: Config) -> tuple[str, ...]:
    """Return which images can judge a run: those held out of training, where there are any, and the test images."""
    return ("holdout", "test") if config.data.holdout_share else ("test",)


def cached(config: Config, folder: Path) -> dict[str, Any]:
    """Return features, sigmas and seconds of a run, trained where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state.pt"
    trainer = SafeTrainer(validate({**config.flat(), "data.evaluate_on": splits(config)[0]}))
    dataset, sessions = trainer.inputs.dataset, trainer.stream.sessions
    streams = {
        split: build_stream(validate({**config.flat(), "data.evaluate_on": split}), dataset) for split in splits(config)
    }
    frozen = folder.with_name(f"{folder.name.rpartition('-')[0]}-frozen.pt")  # of all images, whatever their order
    if not frozen.exists():
        bare = build_learner(
            validate({**config.flat(), "pet.kind": "none"}), trainer.inputs.backbone, 1, trainer.device
        )
        every = {"train": dataset.train, "test": dataset.test}
        save_state({name: trainer._features(bare, whole(images)) for name, images in every.items()}, frozen)
    if state.exists():
        trainer.load_state_dict(load_state(state))
    untrained, seconds = config.slow.epochs == config.fast.epochs == 0, 0.0
    while not trainer.done and not untrained:
        begun = time.process_time()
        event = trainer.advance()
        if not isinstance(event, SessionResult):
            seconds += time.process_time() - begun
            continue
        assert trainer.fast is not None
        now = sessions[event.session - 1]
        sigma = [learner.scale("learned") for learner in (trainer.slow, trainer.fast)]
        kept: dict[str, Any] = {"seconds": seconds, "sigma": sigma}
        for name, learner in ((SLOW, trainer.slow), (FAST, trainer.fast)):
            kept[name] = trainer._features(learner, now.train)
            for split, stream in streams.items():
                parts = [trainer._features(learner, session.evaluation) for session in stream.judged(event.session)]
                kept[f"{name} {split}"] = torch.cat(parts)
        save_state(kept, folder / f"session-{event.session}.pt")
        save_state(trainer.state_dict(), state)
        reached = f"session {event.session} of {len(sessions)}, {100 * event.metrics['accuracy']:.1f} %"
        print(f"{folder.name}: {reached}, {seconds:.0f} s", flush=True)
        seconds = 0.0
    everything = load_state(frozen)

    def of_frozen(subset: Subset) -> Tensor:
        features: Tensor = everything["train" if subset.images is dataset.train else "test"][subset.index]
        return features

    judged = {
        split: [torch.cat([of_frozen(s.evaluation) for s in stream.judged(now.index)]) for now in stream.sessions]
        for split, stream in streams.items()
    }
    features: dict[str, Any] = {"streams": streams, FROZEN: Features([of_frozen(s.train) for s in sessions], judged)}
    if not untrained:
        each = [load_state(folder / f"session-{s.index}.pt") for s in sessions]
        for name in (SLOW, FAST):
            judged = {split: [e[f"{name} {split}"] for e in each] for split in streams}
            features[name] = Features([e[name] for e in each], judged)
        features |= {key: [e[key] for e in each] for key in ("sigma", "seconds")}
    return features


Scores = dict[str, list[Tensor]]  # by split, of each judged session


def scores(
    config: Config,
    settings: Mapping[str, Any],
    features: Features,
    streams: Any,
    other: Features | None,
    *,
    every: bool,
) -> tuple[Scores, float | None]:
    """Return the scores of all images that judge the last session, or each, and the head's own scale.

    `other` are the features that a head with shared statistics adds from session 2 on.
    """
    chosen = validate({**config.flat(), **{f"head.{name}": value for name, value in settings.items()}}).head
    width = features.train[0].shape[1]
    head = make_head(chosen.kind, width, "cpu", {**dict(chosen), "projection_seed": projection_seed(config)})
    assert head is not None
    logits: Scores = {split: [] for split in streams}
    sessions = streams["test"].sessions
    for place, session in enumerate(sessions):
        split_of = [generator(config.seed, "ridge_split", session.index) for _ in range(2)]
        if chosen.statistics == "shared" and other is not None and place:
            head.add(other.train[place], session.train.labels, session.seen, split_of[0])
        solved = every or session is sessions[-1]
        (head.update if solved else head.add)(features.train[place], session.train.labels, session.seen, split_of[1])
        for split in streams if solved else ():
            logits[split].append(head.logits(features.judged[split][place]))
    return logits, head.own_scale


def judged(
    config: Config, known: dict[str, Any], settings: Mapping[str, Any], *, every: bool
) -> dict[str, dict[str, dict[str, float]]]:
    """Return by split and column what a head gives after the last session, and on average over `every` one."""
    streams, sources = known["streams"], {name: known[name] for name in (FROZEN, SLOW, FAST) if name in known}
    pairs = {name: (name, name) for name in sources}
    if SLOW in known:
        sources |= {BESIDE: known[FROZEN].beside(known[SLOW]), BOTH: known[SLOW].beside(known[FAST])}
        pairs |= {SAFE: (SLOW, FAST), BESIDE: (BESIDE, BESIDE), BOTH: (BOTH, BOTH)}
    others = {SLOW: known.get(FAST), FAST: known.get(SLOW)}
    made = {
        name: scores(config, settings, one, streams, others.get(name), every=every) for name, one in sources.items()
    }
    told: dict[str, dict[str, dict[str, float]]] = {}
    for split, stream in streams.items():
        places = range(len(stream.sessions))[0 if every else -1 :]
        told[split] = {}
        for name, (first, second) in pairs.items():
            accuracies = []
            for number, place in enumerate(places):
                so_far = stream.judged(place + 1)
                sigma = known["sigma"][place] if SLOW in known else (1.0, 1.0)
                logits = SessionLogits(
                    slow=made[first][0][split][number],
                    fast=made[second][0][split][number],
                    slow_scale=made[first][1] or sigma[0],
                    fast_scale=made[second][1] or sigma[1],
                    labels=torch.cat([s.evaluation.labels for s in so_far]),
                    counts=[len(s.evaluation) for s in so_far],
                    owned=[s.own for s in so_far],
                )
                right = logits.combined(prediction_of(config)).argmax(dim=1) == logits.labels
                accuracies.append(right.double().mean().item())
            told[split][name] = {"accuracy": accuracies[-1]}
            if every:
                told[split][name]["average_accuracy"] = sum(accuracies) / len(accuracies)
    return told


def solved(
    config: Config, known: dict[str, Any], heads: Sequence[str], file: Path, *, every: bool
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Return what `judged` gives of each head, from a file where it was solved before."""
    kept = json.loads(file.read_text()) if file.exists() else {}
    told = {}
    for head in heads:
        key = json.dumps([HEADS[head], every])
        if key not in kept:
            kept[key] = judged(config, known, HEADS[head], every=every)
            file.write_text(json.dumps(kept))
        told[head] = kept[key]
    return told


Told = Sequence[Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]]  # seed, head, split, column, metric


def percents(runs: Told, head: str, split: str, column: str, metric: str = "accuracy") -> list[float]:
    """Return what a head gives with each seed."""
    return [100 * run[head][split][column][metric] for run in runs]


def difference(one: Sequence[float], other: Sequence[float]) -> str:
    """Return the first minus the second with the 95 % interval, paired by seed."""
    pair = paired_difference(list(one), list(other))
    return f"{pair['mean']:+z.1f} ± {pair['half_width']:.1f}"


def table(runs: Told, split: str, metric: str) -> str:
    """Return a markdown table: a row a head; beside its numbers the differences to the preset's head."""
    columns = [name for name in COLUMNS if name in runs[0]["preset"][split]]
    lines = [f"| {metric}, {split}, n = {len(runs)} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for head in runs[0]:
        cells = []
        for name in columns:
            values, preset = (percents(runs, which, split, name, metric) for which in (head, "preset"))
            stats = summary(values)
            cell = f"{stats['mean']:.1f} ± {stats['std'] or 0:.1f}"
            cells.append(cell + (f" ({difference(values, preset)})" if head != "preset" and len(runs) > 1 else ""))
        lines.append(f"| {head} | {' | '.join(cells)} |")
    return "\n".join(lines)


def answer(runs: Told, seconds: Sequence[Sequence[float]]) -> str:
    """Return what the first split takes for the best head and features, and what each learner adds on test images."""
    by = next(iter(runs[0]["preset"]))
    columns = [name for name in COLUMNS if name in runs[0]["preset"][by]]
    means = {(h, c): summary(percents(runs, h, by, c))["mean"] for h in runs[0] for c in columns}
    best, where = max(means, key=lambda pair: means[pair])
    lines = [f"best by {by}: {best} on {where}"]
    rivals = [("preset", FROZEN), ("preset", SLOW), ("preset", SAFE), *((best, column) for column in columns)]
    for head, column in [pair for pair in dict.fromkeys(rivals) if pair != (best, where) and pair[1] in columns]:
        gap = difference(percents(runs, best, "test", where), percents(runs, head, "test", column))
        lines.append(f"on test images, minus {head} on {column}: {gap}")
    if SLOW not in columns:
        return "\n".join(lines)
    slow, fast = (summary([sum(part(each)) for each in seconds])["mean"] for part in (lambda e: e[:1], lambda e: e[1:]))
    lines += ["", "| on test images | preset's head | best head | CPU seconds |", "|---|---|---|---|"]
    for what, upper, lower, cost in (("slow - frozen", SLOW, FROZEN, slow), ("SAFE - slow", SAFE, SLOW, fast)):
        gaps = [
            difference(percents(runs, head, "test", upper), percents(runs, head, "test", lower))
            for head in ("preset", best)
        ]
        lines.append(f"| {what} | {' | '.join(gaps)} | {cost:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables of a data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="glyphs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--head", action="append", choices=list(HEADS), help="a row of the table (all)")
    parser.add_argument("--average", action="store_true", help="solve after every session")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    heads = list(dict.fromkeys(["preset", *(given.head or HEADS)]))
    runs, seconds = [], []
    for seed in range(given.seeds):
        own = [f"seed={seed}", f"class_order_seed={1993 + seed}", f"data.holdout_seed={seed}"]
        config = load_config(given.dataset, overrides=[*given.overrides, *own])
        folder = given.results / "closed_forms" / f"{Path(given.dataset).name}-{seed}"
        known, begun = cached(config, folder), time.process_time()
        runs.append(solved(config, known, heads, folder / "heads.json", every=given.average))
        seconds.append(known.get("seconds", []))
        print(f"seed {seed}: heads in {time.process_time() - begun:.0f} CPU seconds", flush=True)
    for metric in ("accuracy", "average_accuracy") if given.average else ("accuracy",):
        for split in runs[0]["preset"]:
            print(f"\n{table(runs, split, metric)}")
    if given.seeds > 1:
        print(f"\n{answer(runs, seconds)}")


if __name__ == "__main__":
    main()
