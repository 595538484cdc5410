"""What an ablation compares: variants, each a configuration, and the rows that the runs of a variant give.

`ABLATION` is SAFE beside its baselines and bounds, on the test images. `VARIANTS` are the choices that the method
leaves open, each against the preset, on held-out training images: what is decided there has seen no test image.

Variants that share training share it through the stage store: one that only predicts otherwise trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeps.ledger.job_log import JobLog

ALL_CLASSES = "all"


@dataclass(frozen=True)
class Row:
    """One row of the table: its title, and what gives its numbers, the last session's metrics without split prefix."""

    title: str
    source: Callable[[JobLog], Mapping[str, float]]


@dataclass(frozen=True)
class Variant:
    """One configuration and its rows.

    Attributes:
        group: heading over its rows.
        settings: what differs from the preset; `data.init_classes: all` is the number of classes of the data set.
        rows: what its runs give.
        factors: what the preset's value of a setting is multiplied by.
        fixed: seeds that stay the same in all of its runs.
        joint: one session with every class: it has no forgetting and no average over sessions.
    """

    group: str
    settings: Mapping[str, Any]
    rows: tuple[Row, ...]
    factors: Mapping[str, float] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    joint: bool = False


@dataclass(frozen=True)
class Column:
    """One column of numbers: a metric, or with `difference` the paired difference to the reference row.

    `difference` is +1 for the reference minus this row, -1 for this row minus the reference.
    """

    heading: str
    key: str
    metric: str
    difference: int = 0


@dataclass(frozen=True)
class Catalogue:
    """The variants of one kind of ablation and how they are shown.

    Attributes:
        reference: title of the row that the others are compared with.
    """

    reference: str
    columns: tuple[Column, ...]
    variants: Mapping[str, Variant]


def logged(job: JobLog, prefix: str = "") -> Mapping[str, float]:
    """Return the metrics of the last session: of the aggregate, or of one learner (`slow/`, `fast/`)."""
    return job.sessions[-1].judged(prefix)


def best_learner(job: JobLog) -> Mapping[str, float]:
    """Return the metrics of the better learner. Judging images choose it, so this bounds such a choice from above."""
    return max((logged(job, "slow/"), logged(job, "fast/")), key=lambda metrics: metrics["accuracy"])


def _one(group: str, title: str, settings: Mapping[str, Any], **more: Any) -> Variant:
    return Variant(group, settings, (Row(title, logged),), **more)


# ---------------------------------------------------------------- SAFE beside its baselines and bounds

_UNTRAINED = {"pet.kind": "none", "slow.epochs": 0, "fast.epochs": 0}
_CE_ONLY = {"slow.diag_weight": 0.0, "slow.offdiag_weight": 0.0}
_RANPAC = {**_CE_ONLY, "fast.epochs": 0}
# G of the features is some hundred times smaller than of their projections: lambda must be free to be smaller too.
_UNPROJECTED = {"head.projection_dim": 0, "head.ridge_grid": [10.0**power for power in range(-2, 9)]}
# Other closed forms on the same features, which train nothing of their own (docs/heads.md).
_SLDA = {"head.kind": "gaussian", "head.projection_dim": 0}
_FOURIER = {"head.kind": "gaussian", "head.activation": "fourier"}
_FECAM = {**_SLDA, "head.covariance": "per_class"}
_FLY = {
    "head.activation": "topk",
    "head.activation_share": 0.3,
    "head.projection_density": 0.4,
    "head.ridge_choice": "gcv",
    # Smaller ones are lost in float32 sums over projected features, and generalised cross-validation would take them.
    "head.ridge_grid": [10.0 ** (half / 2) for half in range(6, 19)],
}
_ANACP = {"head.kind": "anacp", "head.activation": "gelu", "head.ridge_grid": [100.0]}
_APER = {"head.kind": "class_means", "head.features": "with_frozen"}
_ON_BOTH = {"head.features": "with_slow", "aggregation.kind": "fast"}
# 20 epochs over everything, the published number for session 1, whatever a preset needs for its small sessions.
_JOINT = {**_RANPAC, "data.init_classes": ALL_CLASSES, "slow.epochs": 20, "slow.schedule_epochs": None}
_JOINT_TRAINED = {**_JOINT, "head.kind": "cosine"}
_JOINT_PROBE = {**_JOINT_TRAINED, "pet.kind": "none", "slow.lr": 0.1}
_JOINT_FULL = {**_JOINT_TRAINED, "pet.kind": "full", "slow.lr": 0.01}
# The PET trained on and on by cross-entropy, with fresh rows for new classes and nothing that holds on to old ones.
_FINETUNE = {
    **_CE_ONLY,
    "head.kind": "cosine",
    "fast.feature_weight": 0.0,
    "fast.cross_weight": 0.0,
    "fast.new_rows": "uniform",
    "aggregation.kind": "fast",
}

FROZEN, FIRST, SAFE, LESS, BOUNDS = "frozen PTM", "first-session PET", "SAFE", "SAFE without a loss", "bounds"
OTHER_HEADS = "SAFE with another head"
OURS = "SAFE (entropy)"

ABLATION = Catalogue(
    reference=OURS,
    columns=(
        Column("final", "accuracy", "accuracy"),
        Column("average", "average_accuracy", "average_accuracy"),
        Column("forgetting", "forgetting", "forgetting"),
        Column("SAFE - this", "safe_minus_this", "accuracy", +1),
    ),
    variants={
        "class-means": _one(FROZEN, "class means", {**_UNTRAINED, "head.kind": "class_means"}),
        "frozen-plain": _one(FROZEN, "ridge", {**_UNTRAINED, **_UNPROJECTED}),
        "frozen": _one(FROZEN, "projection + ridge", _UNTRAINED),
        "frozen-slda": _one(FROZEN, "SLDA", {**_UNTRAINED, **_SLDA}),
        "frozen-fourier": _one(FROZEN, "RanDumb, KLDA", {**_UNTRAINED, **_FOURIER}),
        "frozen-fecam": _one(FROZEN, "FeCAM", {**_UNTRAINED, **_FECAM}),
        "frozen-fly": _one(FROZEN, "Fly-CL", {**_UNTRAINED, **_FLY}),
        "ranpac-plain": _one(FIRST, "RanPAC, no projection", {**_RANPAC, **_UNPROJECTED}),
        "ranpac": _one(FIRST, "RanPAC", _RANPAC),
        "aper": _one(FIRST, "APER", {**_RANPAC, **_APER}),
        "anacp": _one(FIRST, "AnaCP", {**_RANPAC, **_ANACP}),
        "safe": Variant(
            SAFE,
            {"aggregation.kind": "entropy"},
            (
                Row("slow learner", lambda job: logged(job, "slow/")),
                Row("fast learner", lambda job: logged(job, "fast/")),
                Row("better learner (oracle)", best_learner),
                Row(OURS, logged),
            ),
        ),
        "mean": _one(SAFE, "mean of logits", {"aggregation.kind": "mean"}),
        "max": _one(SAFE, "max of logits", {"aggregation.kind": "max"}),
        "safe-shared": _one(OTHER_HEADS, "shared statistics", {"head.statistics": "shared"}),
        "safe-slda": _one(OTHER_HEADS, "SLDA", _SLDA),
        "safe-fourier": _one(OTHER_HEADS, "RanDumb, KLDA", _FOURIER),
        "safe-fly": _one(OTHER_HEADS, "Fly-CL", _FLY),
        "safe-anacp": _one(OTHER_HEADS, "AnaCP", _ANACP),
        "safe-frozen": _one(OTHER_HEADS, "ridge, the frozen features beside", {"head.features": "with_frozen"}),
        "safe-both": _one(OTHER_HEADS, "one ridge on both learners", _ON_BOTH),
        "no-diag": _one(LESS, "without L_diag", {"slow.diag_weight": 0.0}),
        "no-offdiag": _one(LESS, "without L_rdn", {"slow.offdiag_weight": 0.0}),
        "no-feature": _one(LESS, "without L_cos", {"fast.feature_weight": 0.0}),
        "no-cross": _one(LESS, "without L_s2f + L_f2s", {"fast.cross_weight": 0.0}),
        "finetune": _one(BOUNDS, "sequential fine-tuning", _FINETUNE),
        "joint-probe": _one(BOUNDS, "joint linear probe", _JOINT_PROBE, joint=True),
        "joint": _one(BOUNDS, "joint PET", _JOINT, joint=True),
        "joint-trained": _one(BOUNDS, "joint PET, trained head", _JOINT_TRAINED, joint=True),
        "joint-full": _one(BOUNDS, "joint full fine-tuning", _JOINT_FULL, joint=True),
    },
)


# ---------------------------------------------------------------- the choices that the method leaves open

DEFAULT = "default (the preset)"
# Unscaled ridge scores lie in [0, 1], where the entropies of many classes differ little: the best tau is a small one.
TEMPERATURES = (0.001, 0.01, 0.1, 1.0)
# Standardised channels give averages, whose gradients are smaller than those of the sums. With these factors their
# norms over the PET parameters are equal on average along the preset's own session 1 on glyphs (30 epochs: 20 and 8).
# No factor does it everywhere: near the PTM the diagonal term is of fourth order in the features' change, not second.
BATCH_FACTORS = {"slow.diag_weight": 20.0, "slow.offdiag_weight": 8.0}


def _batch(title: str, strength: float) -> Variant:
    factors = {name: strength * factor for name, factor in BATCH_FACTORS.items()}
    return _one("", title, {"slow.correlation": "batch"}, factors=factors)


VARIANTS = Catalogue(
    reference=DEFAULT,
    columns=(
        Column("average", "average_accuracy", "average_accuracy"),
        Column("- default", "average_minus_default", "average_accuracy", -1),
        Column("final", "accuracy", "accuracy"),
        Column("- default", "final_minus_default", "accuracy", -1),
    ),
    variants={
        "default": _one("", DEFAULT, {}),
        "batch": _batch("correlation batch", 1),
        "batch-strong": _batch("correlation batch, x 10", 10),
        "new-uniform": _one("", "new_rows uniform", {"fast.new_rows": "uniform"}),
        "new-zeros": _one("", "new_rows zeros", {"fast.new_rows": "zeros"}),
        "slow-zeros": _one("", "slow_rows zeros", {"fast.slow_rows": "zeros"}),
        "shared": _one("", "statistics shared", {"head.statistics": "shared"}),
        **{
            f"scale1-tau{tau:g}": _one(
                "", f"logit_scale 1, tau {tau:g}", {"head.logit_scale": 1.0, "aggregation.temperature": tau}
            )
            for tau in TEMPERATURES
        },
    },
)


# ---------------------------------------------------------------- what the order of the classes does

OVER_ORDERS, OVER_SEEDS = "over class orders, one seed", "over seeds, one class order"

ORDERS = Catalogue(
    reference=OVER_ORDERS,
    columns=(
        Column("final", "accuracy", "accuracy"),
        Column("average", "average_accuracy", "average_accuracy"),
        Column("forgetting", "forgetting", "forgetting"),
    ),
    variants={
        "orders": _one("", OVER_ORDERS, {}, fixed=("seed",)),
        "seeds": _one("", OVER_SEEDS, {}, fixed=("class_order_seed",)),
    },
)
