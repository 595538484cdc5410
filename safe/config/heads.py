"""The settings of heads."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from safe.config.marks import ABOVE_ZERO, CLOSED_FORM, Acts, Needs, Role
from safe.config.section import Section
from safe.config.values import Count, NonNegative, Positive, Seed, WholeNumber
from safe.errors import choices
from safe.heads import head_kinds

OF_A_CLOSED_FORM = Needs(("head.kind", CLOSED_FORM))
PROJECTED = Needs(("head.projection_dim", ABOVE_ZERO))
MOST_LAMBDAS = 100  # every session tries all of them, and they are written down as one parameter
MOST_LAYERS = 100  # each is a ridge head with statistics of its own


def _head_kind(kind: str) -> str:
    if kind not in head_kinds():
        raise ValueError(choices(kind, head_kinds(), "kind of head"))
    return kind


HeadKind = Annotated[str, AfterValidator(_head_kind)]  # read whenever one is checked: a module of one's own may add one


class HeadConfig(Section):
    """The classifier of each learner; the default is closed-form (RanPAC)."""

    acts = Acts.HEADS

    kind: HeadKind = "ridge"
    """`ridge`: ridge regression on projected features; `gaussian`: Gaussian class densities on them; `anacp`: ridges
    that adapt the features and one on Gaussian draws of what they give; `class_means`: cosine to each class's mean
    feature; `cosine`: no closed form, the head that gradient steps trained predicts."""
    features: Annotated[Literal["own", "with_frozen", "with_slow"], OF_A_CLOSED_FORM] = "own"
    """What a learner's closed form reads: `own` features; `with_frozen`, the frozen network's in front of them, which
    costs one more pass of every image (APER); `with_slow`, the fast learner's head reads the slow learner's in front of
    its own, and the slow learner's its own: `aggregation.kind=fast` then predicts by one head on both."""
    statistics: Annotated[
        Literal["own", "shared"],
        OF_A_CLOSED_FORM,
        Needs(("fast.epochs", ABOVE_ZERO)),
        Needs(("head.features", "own"), ("head.features", "with_frozen")),
    ] = "own"
    """Features that a learner's closed form adds up: its own, or from session 2 on those of both learners, as the
    released code does. Without effect beside `features=with_slow`, which reads both already."""
    projection_dim: Annotated[WholeNumber, Role.SIZE] = 10_000
    """M, the width of the random projection; 0 leaves the features as they are."""
    projection_seed: Annotated[Seed | None, PROJECTED] = None
    """Seed of W_rand; empty derives it from `seed`."""
    projection_density: Annotated[float, Field(gt=0, le=1, strict=True), PROJECTED] = 1.0
    """Share of the features that each column of W_rand reads; below 1 the projection is sparse (Fly-CL)."""
    activation: Annotated[Literal["relu", "gelu", "topk", "fourier"], PROJECTED] = "relu"
    """What is made of projected features: `relu` (RanPAC), `gelu` (AnaCP), `topk` keeps each image's largest values
    (Fly-CL), `fourier`: random Fourier features of a Gaussian kernel (RanDumb, KLDA)."""
    activation_share: Annotated[float, Field(gt=0, le=1, strict=True), Needs(("head.activation", "topk"))] = 0.3
    """Share of the M values that `topk` keeps."""
    fourier_gamma: Annotated[Positive, Needs(("head.activation", "fourier"))] = 1.0
    """gamma of the kernel exp(-gamma |x - y|^2 / D): larger is narrower."""
    covariance: Literal["shared", "per_class"] = "shared"
    """Of `gaussian`: one covariance of all classes (linear discriminants), or one a class (FeCAM), which takes M^2
    numbers each."""
    shrinkage: Literal["oas"] | Annotated[float, Field(gt=0, le=1, strict=True)] = "oas"
    """Of `gaussian`: the covariance's share of a multiple of the identity; `oas` reckons it from the covariance."""
    anacp_layers: Annotated[Count, Field(le=MOST_LAYERS), Role.SIZE] = 3
    """Of `anacp`: random projections whose adapted features are averaged."""
    anacp_draws: Annotated[Count, Role.SIZE] = 100
    """Of `anacp`: Gaussian draws of each class that its classifier is fitted on, after every session anew."""
    anacp_spread: NonNegative = 1.0
    """Of `anacp`: how far the classes' targets are moved apart, in standard deviations within a class."""
    ridge_grid: tuple[Positive, ...] = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
    """Values of lambda that are tried in every session."""
    ridge_split: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.8
    """Share of a session's images that lambda is fitted on; the others judge it."""
    ridge_choice: Literal["split", "pooled", "gcv"] = "pooled"
    """Whose errors choose lambda: `split`, of the session's own judging images (RanPAC), which jumps over decades where
    sessions are small; `pooled`, their sum over all sessions so far, the same in the first session; `gcv`, those that
    generalised cross-validation expects of all images of the session (Fly-CL)."""
    logit_scale: Annotated[Literal["learned"] | Positive, Acts.PREDICTION] = "learned"
    """Factor of the scores before the softmax: each learner's sigma, 1 where the head's scores are log probabilities
    (`gaussian`), or one number. Acts at prediction only."""

    @model_validator(mode="after")
    def _grid(self) -> HeadConfig:
        if not 1 <= len(self.ridge_grid) <= MOST_LAMBDAS:
            raise ValueError(f"ridge_grid takes 1 to {MOST_LAMBDAS} values, got {len(self.ridge_grid)}")
        return self
