"""Every closed form on the same features, those of the frozen network, of both learners and side by side.

    python -m benchmarks.closed_forms --dataset glyphs --seeds 5 [key=value ...]

trains the preset once a seed, which changes the class order too, keeps the features of every session below
`<results>/closed_forms`, and solves every head of `HEADS` on them. A run that is ended goes on from its last session.
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
from safe.data.stream import Session, Subset
from safe.evaluation.logits import SessionLogits
from safe.evaluation.session_metrics import Judge
from safe.heads import make_head
from safe.seeding import generator
from safe.states.checkpoint import load_state, save_state
from safe.training.build import build_learner, prediction_of, projection_seed
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


def parts(session: Session) -> list[tuple[str, Subset]]:
    """Return a session's training images and those that judge it."""
    return [("train", session.train), ("judged", session.evaluation)]


def whole(subset: Subset) -> Subset:
    """Return all the images that a subset is of."""
    everything = torch.arange(len(subset.images))
    return Subset(subset.images, everything, everything)


def cached(config: Config, folder: Path) -> dict[str, Any]:
    """Return features, sigmas and seconds of a run, trained where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    trainer, state = SafeTrainer(config), folder / "state.pt"
    sessions = trainer.stream.sessions
    frozen = folder.with_name(f"{folder.name.rpartition('-')[0]}-frozen.pt")  # of all images, whatever their order
    if not frozen.exists():
        bare = build_learner(
            validate({**config.flat(), "pet.kind": "none"}), trainer.inputs.backbone, 1, trainer.device
        )
        save_state({name: trainer._features(bare, whole(subset)) for name, subset in parts(sessions[0])}, frozen)
    if state.exists():
        trainer.load_state_dict(load_state(state))
    untrained = config.slow.epochs == config.fast.epochs == 0
    while not trainer.done and not untrained:
        event = trainer.advance()
        if not isinstance(event, SessionResult):
            continue
        assert trainer.fast is not None
        now, so_far, seconds = sessions[event.session - 1], sessions[: event.session], dict(event.seconds)
        kept: dict[str, Any] = {
            "seconds": seconds,
            "sigma": [trainer.slow.scale("learned"), trainer.fast.scale("learned")],
        }
        for name, learner in ((SLOW, trainer.slow), (FAST, trainer.fast)):
            kept[name] = trainer._features(learner, now.train)
            kept[f"{name} judged"] = torch.cat([trainer._features(learner, s.evaluation) for s in so_far])
        save_state(kept, folder / f"session-{event.session}.pt")
        save_state(trainer.state_dict(), state)
        print(
            f"{folder.name}: session {event.session} of {len(sessions)}, {100 * event.metrics['accuracy']:.1f} %",
            flush=True,
        )
    everything = load_state(frozen)
    train, judged = ([everything[name][dict(parts(s))[name].index] for s in sessions] for name in ("train", "judged"))
    features: dict[str, Any] = {"stream": trainer.stream}
    features[FROZEN] = Features(train, [torch.cat(judged[: t + 1]) for t in range(len(sessions))])
    if not untrained:
        each = [load_state(folder / f"session-{s.index}.pt") for s in sessions]
        features |= {
            name: Features([e[name] for e in each], [e[f"{name} judged"] for e in each]) for name in (SLOW, FAST)
        }
        features |= {"sigma": [e["sigma"] for e in each], "seconds": [e["seconds"]["train"] for e in each]}
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
        own = [f"seed={seed}", f"class_order_seed={1993 + seed}"]
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
