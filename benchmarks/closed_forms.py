"""Every closed form on the same features, those of the frozen network, of both learners and side by side.

    python -m benchmarks.closed_forms --dataset glyphs --seeds 5 [key=value ...]

trains the preset once a seed, which changes the class order and the holdout too, keeps the features of every session
below `<results>/closed_forms`, and solves every head of `HEADS` on them. A run that is ended goes on from its last
session. With a `data.holdout_share` the same runs are judged by `data.evaluate_on=holdout` as by test images.
Without epochs (`slow.epochs=0 fast.epochs=0 pet.kind=none`) there are the frozen network's features alone. Prints final
accuracy in percent on the test images, mean ± standard deviation, and the difference to the preset's head with its 95 %
t-interval, paired by seed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safe.config import Config, load_config, validate
from safe.data.stream import Subset
from safe.evaluation.logits import SessionLogits
from safe.evaluation.session_metrics import Judge
from safe.heads import make_head
from safe.seeding import generator
from safe.states.checkpoint import load_state, save_state
from safe.training.build import build_learner, build_stream, prediction_of, projection_seed
from safe.training.trainer import SafeTrainer
from safe.types import SessionResult
from sweeps.results.statistics import paired_difference, summary

DECADES = tuple(10.0**power for power in range(-2, 9))
FINE = tuple(10.0 ** (half / 2) for half in range(-4, 19))
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
    "ridge, no projection": {**PLAIN, "ridge_grid": DECADES},
    "class means": {"kind": "class_means"},
    "SLDA": {"kind": "gaussian", **PLAIN},
    "Gaussian on relu(F W)": {"kind": "gaussian"},
    "RanDumb, KLDA": {"kind": "gaussian", "activation": "fourier"},
    "FeCAM": {"kind": "gaussian", "covariance": "per_class", **PLAIN},
}
FROZEN, SLOW, FAST, SAFE = "frozen", "slow", "fast", "SAFE"
COLUMNS = (FROZEN, SLOW, FAST, SAFE, "frozen + slow", "slow + fast")


@dataclass(frozen=True)
class Features:
    """Of one network: of every session's training images, and after every session of all images that judge it."""

    train: list[Tensor]
    judged: list[Tensor]

    def beside(self, other: Features) -> Features:
        """Return both networks' features side by side."""
        pairs = [zip(a, b, strict=True) for a, b in ((self.train, other.train), (self.judged, other.judged))]
        return Features(*([torch.cat(pair, dim=1) for pair in part] for part in pairs))


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
    trainer, state = (
        SafeTrainer(validate({**config.flat(), "data.evaluate_on": splits(config)[0]})),
        folder / "state.pt",
    )
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
                judged = [trainer._features(learner, session.evaluation) for session in stream.judged(event.session)]
                kept[f"{name} {split}"] = torch.cat(judged)
        save_state(kept, folder / f"session-{event.session}.pt")
        save_state(trainer.state_dict(), state)
        reached = f"session {event.session} of {len(sessions)}, {100 * event.metrics['accuracy']:.1f} %"
        print(f"{folder.name}: {reached}, {seconds:.0f} s", flush=True)
        seconds = 0.0
    chosen, everything = streams[config.data.evaluate_on], load_state(frozen)

    def of_frozen(subset: Subset) -> Tensor:
        features: Tensor = everything["train" if subset.images is dataset.train else "test"][subset.index]
        return features

    judged = [torch.cat([of_frozen(s.evaluation) for s in chosen.judged(now.index)]) for now in chosen.sessions]
    features: dict[str, Any] = {"stream": chosen, FROZEN: Features([of_frozen(s.train) for s in sessions], judged)}
    if not untrained:
        each = [load_state(folder / f"session-{s.index}.pt") for s in sessions]
        for name in (SLOW, FAST):
            features[name] = Features([e[name] for e in each], [e[f"{name} {config.data.evaluate_on}"] for e in each])
        features |= {key: [e[key] for e in each] for key in ("sigma", "seconds")}
    return features


def scores(
    config: Config, settings: Mapping[str, Any], features: Features, stream: Any, other: Features | None
) -> tuple[list[Tensor], float | None]:
    """Return the scores of all images that judge each session, and what log probabilities are made of them by.

    `other` are the features that a head with shared statistics adds from session 2 on.
    """
    chosen = validate({**config.flat(), **{f"head.{name}": value for name, value in settings.items()}}).head
    width = features.train[0].shape[1]
    head = make_head(chosen.kind, width, "cpu", {**dict(chosen), "projection_seed": projection_seed(config)})
    assert head is not None
    logits = []
    for place, session in enumerate(stream.sessions):
        split = [generator(config.seed, "ridge_split", session.index) for _ in range(2)]
        if chosen.statistics == "shared" and other is not None and place:
            head.add(other.train[place], session.train.labels, session.seen, split[0])
        head.update(features.train[place], session.train.labels, session.seen, split[1])
        logits.append(head.logits(features.judged[place]))
    return logits, head.own_scale


def judged(
    config: Config, known: dict[str, Any], settings: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield for every column what a head gives after the last session."""
    stream, given = known["stream"], [name for name in (FROZEN, SLOW, FAST) if name in known]
    sources = {name: known[name] for name in given}
    if SLOW in known:
        sources |= {"frozen + slow": known[FROZEN].beside(known[SLOW]), "slow + fast": known[SLOW].beside(known[FAST])}
    others = {SLOW: known.get(FAST), FAST: known.get(SLOW)}
    made = {name: scores(config, settings, one, stream, others.get(name)) for name, one in sources.items()}
    pairs = {name: (name, name) for name in sources} | ({SAFE: (SLOW, FAST)} if SLOW in known else {})
    for name, (first, second) in pairs.items():
        judge = Judge(prediction_of(config), domain_incremental=stream.domain_incremental)
        for place, session in enumerate(stream.sessions):
            so_far = stream.sessions[: session.index]
            sigma = known["sigma"][place] if SLOW in known else (1.0, 1.0)
            scales = [made[first][1] or sigma[0], made[second][1] or sigma[1]]
            logits = SessionLogits(
                slow=made[first][0][place],
                fast=made[second][0][place],
                slow_scale=scales[0],
                fast_scale=scales[1],
                labels=torch.cat([s.evaluation.labels for s in so_far]),
                counts=[len(s.evaluation) for s in so_far],
                owned=[s.own for s in so_far],
            )
            metrics = judge(logits, session.index)
        yield name, metrics if name == SAFE else {m: metrics[f"slow/{m}"] for m in ("accuracy", "average_accuracy")}


def table(runs: Sequence[Mapping[str, Mapping[str, Mapping[str, float]]]], metric: str) -> str:
    """Return a markdown table: a row a head; below its numbers the differences to the preset's head."""
    columns = [name for name in COLUMNS if name in runs[0]["preset"]]
    lines = [f"| {metric}, n = {len(runs)} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for head in runs[0]:
        cells = []
        for name in columns:
            values, preset = ([100 * run[which][name][metric] for run in runs] for which in (head, "preset"))
            stats = summary(values)
            cell = f"{stats['mean']:.1f} ± {stats['std'] or 0:.1f}"
            if head != "preset" and len(runs) > 1:
                pair = paired_difference(values, preset)
                cell += f" ({pair['mean']:+z.1f} ± {pair['half_width']:.1f})"
            cells.append(cell)
        lines.append(f"| {head} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables of a data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="glyphs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    runs, seconds = [], []
    for seed in range(given.seeds):
        own = [f"seed={seed}", f"class_order_seed={1993 + seed}", f"data.holdout_seed={seed}"]
        config = load_config(given.dataset, overrides=[*given.overrides, *own])
        known = cached(config, given.results / "closed_forms" / f"{Path(given.dataset).name}-{seed}")
        begun, run = time.perf_counter(), {}
        for head, settings in HEADS.items():
            run[head] = dict(judged(config, known, settings))
        runs.append(run)
        seconds.append(known.get("seconds", []))
        print(f"seed {seed}: all heads in {time.perf_counter() - begun:.0f} s", flush=True)
    for metric in ("accuracy", "average_accuracy"):
        print(f"\n{table(runs, metric)}")
    if seconds[0]:
        slow, fast = (summary([sum(part(each)) for each in seconds]) for part in (lambda e: e[:1], lambda e: e[1:]))
        print(f"\ntraining: slow learner {slow['mean']:.0f} s, fast learner {fast['mean']:.0f} s more")


if __name__ == "__main__":
    main()
