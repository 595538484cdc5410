"""Every setting of one training run: its type, range, default and meaning, from where on it acts and beside what."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from safe.config.heads import HeadConfig
from safe.config.marks import ABOVE_ZERO, GRADIENT_TRAINED, Acts, Needs, Role
from safe.config.section import Section
from safe.config.values import (
    ClassOrder,
    Count,
    CropShare,
    InputNorm,
    NonNegative,
    Positive,
    Seed,
    Share,
    Side,
    WholeNumber,
)  # fmt: skip
from safe.errors import choices
from safe.heads import is_closed_form
from safe.io.documents import flatten

FACTS, SESSION_1, EXTRACTION = Acts.FACTS, Acts.SESSION_1, Acts.EXTRACTION
IN_EQUAL_STEPS = Needs(("data.sessions", None))
TRAINED_HEAD = ("head.kind", GRADIENT_TRAINED)  # whose rows matter without epochs too


class DataConfig(Section):
    """Which images, in which order, and how they are shown to the network."""

    root: Annotated[str, FACTS, Role.PLACE] = "data"
    """Folder that holds `<dataset>/{train,test}/...` of the downloaded data sets and the cache of generated ones."""
    init_classes: Annotated[Count, FACTS, IN_EQUAL_STEPS] = 10
    """Classes in the first session; the number of all classes gives one joint session."""
    increment: Annotated[Count, FACTS, IN_EQUAL_STEPS] = 10
    """Classes in each later session; the last one may be smaller."""
    sessions: Annotated[tuple[Count, ...] | None, Field(min_length=1), FACTS] = None
    """Classes in each session, `[20, 5, 5]`, which together are all; empty goes by `init_classes` and `increment`."""
    scenario: Annotated[Literal["auto", "class"], FACTS] = "auto"
    """`auto`: sessions of domains where the data set has domains, else of classes; `class`: always of classes."""
    class_order: Annotated[ClassOrder, FACTS] = "seeded"
    """`seeded`: a permutation drawn from `class_order_seed`; `natural`: the data set's own order; or a file with one
    class name a line, every class once. A run keeps the names: the file is read when it begins."""
    evaluate_on: Annotated[Literal["test", "holdout"], Acts.EVALUATION, Role.FRAME] = "test"
    """Images that give the metrics: the test images, or the share of the training images held out for selection."""
    holdout_share: Annotated[Share, FACTS, Role.FRAME] = 0.0
    """Share of each class's training images that is held out of training; at least one image once it is above 0."""
    holdout_seed: Annotated[Seed, FACTS] = 0
    """Seed of the choice of held-out images, apart from `seed` so that every trial is judged on the same ones."""
    crop_scale: Annotated[tuple[Positive, Positive], SESSION_1] = (0.05, 1.0)
    """Range of the area of a random resized crop, as a share of the image."""
    crop_ratio: Annotated[tuple[Positive, Positive], SESSION_1] = (0.75, 4 / 3)
    """Range of the aspect ratio of a random resized crop."""
    horizontal_flip: Annotated[float, Field(ge=0, le=1, strict=True), SESSION_1] = 0.5
    """Probability of a left-right flip of a training image."""

    @model_validator(mode="after")
    def _ranges(self) -> DataConfig:
        if not self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale must be low <= high <= 1, got {self.crop_scale}")
        if not self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ValueError(f"crop_ratio must be low <= high, got {self.crop_ratio}")
        if self.evaluate_on == "holdout" and self.holdout_share == 0:
            raise ValueError("evaluate_on=holdout needs holdout_share above 0, for example holdout_share=0.2")
        return self


class BackboneConfig(Section):
    """The frozen pre-trained ViT."""

    name: Annotated[str, SESSION_1] = "safe_small_vit"
    """`safe_small_vit` (shipped) or a full timm name `arch.tag`."""
    weights: Annotated[str | None, FACTS] = None
    """Local weights file (.safetensors, .pth, .npz) or `random`; empty for the backbone's own."""
    image_size: Annotated[Side | None, SESSION_1] = None
    """Side in pixels of what the network sees, a multiple of its patch; empty for the one it was trained at. Position
    embeddings are resampled."""
    input_norm: Annotated[InputNorm, SESSION_1] = "pretrained"
    """How pixels are scaled: `none` leaves them in [0, 1], `pretrained` takes mean and standard deviation that timm
    states for the backbone (the small ViT was trained on [0, 1]), `[[r, g, b], [r, g, b]]` gives both."""
    crop_pct: Annotated[Literal["pretrained"] | CropShare, EXTRACTION] = "pretrained"
    """Side of the centre that the network sees, as a share of the shorter side to which picture files are resized for
    tests: what timm states for the backbone, or a number; 0.875 resizes to 256 pixels and shows 224."""


# Each with the module that registers it, imported once the kind is asked for: configurations are checked without torch.
# `safe.pet.registry` adds those of a user's own.
PET_KINDS = {
    "none": "safe.pet.registry",
    "adapter": "safe.pet.adapter",
    "ssf": "safe.pet.ssf",
    "vpt_deep": "safe.pet.vpt",
    "vpt_shallow": "safe.pet.vpt",
    "lora": "safe.pet.lora",
    "full": "safe.pet.full",
}


def _pet_kind(kind: str) -> str:
    if kind not in PET_KINDS:
        raise ValueError(choices(kind, PET_KINDS, "PET kind"))
    return kind


PetKind = Annotated[str, AfterValidator(_pet_kind)]


class PetConfig(Section):
    """Parameter-efficient tuning modules of both learners."""

    acts = Acts.TUNING

    kind: PetKind = "adapter"
    """Which modules are attached; `none` leaves the plain pre-trained model, `full` trains every weight of a copy."""
    bottleneck: Annotated[Count, Role.SIZE] = 64
    """Adapter: width of the bottleneck."""
    scale: Positive = 0.1
    """Adapter: factor of its output."""
    dropout: Share = 0.1
    """Adapter: dropout after the ReLU."""
    prompts: Annotated[Count, Role.SIZE] = 5
    """VPT: prompt tokens per block (deep) or in all (shallow)."""
    rank: Annotated[Count, Role.SIZE] = 8
    """LoRA: rank of the update."""
    alpha: Positive = 8.0
    """LoRA: the update is scaled by alpha / rank."""


class OptimizerConfig(Section):
    """SGD with a cosine schedule from `lr` to 0 over `schedule_epochs`."""

    epochs: WholeNumber = 20
    """Epochs in a session; 0 trains nothing."""
    schedule_epochs: Count | None = None
    """Length of the cosine schedule in epochs, at least `epochs`; empty for `epochs`."""
    batch_size: Annotated[Count, Role.SIZE] = 48
    """Images in a step; the last batch of an epoch may be smaller."""
    lr: Positive = 0.01
    """Learning rate at the start of every session."""
    momentum: Share = 0.9
    """Momentum of SGD."""
    weight_decay: NonNegative = 5e-4
    """L2 weight decay of SGD."""

    @model_validator(mode="after")
    def _schedule(self) -> OptimizerConfig:
        if self.schedule_epochs is not None and self.schedule_epochs < self.epochs:
            raise ValueError(f"schedule_epochs must be at least epochs ({self.epochs}), got {self.schedule_epochs}")
        return self


class SlowConfig(OptimizerConfig):
    """The slow learner: trained in session 1, then frozen (method, session 1)."""

    acts = Acts.TUNING
    needs = (Needs(("slow.epochs", ABOVE_ZERO)),)
    batch_size: Annotated[Count, SESSION_1, Role.SIZE] = 48
    """Images in a step; the last batch of an epoch may be smaller."""

    diag_weight: NonNegative = 0.0
    """Weight of L_diag, which keeps the PTM's directions; useful about 1e-3..1e1. Like that of L_rdn it is 0 unless a
    preset or a search sets it: docs/evidence.md says what both did to streams without a preset."""
    offdiag_weight: NonNegative = 0.0
    """Weight of L_rdn, which drops redundancy between channels; useful about 1e-1..1e3. With `correlation: sample` it
    is about the mean of cos(f_slow_a, f_slow_b) cos(f_ptm_a, f_ptm_b) over pairs of images: it drives images of one
    class apart too, and the more the more alike all images look to the network."""
    correlation: Annotated[
        Literal["sample", "batch"],
        Needs(("slow.epochs", ABOVE_ZERO)),
        Needs(("slow.diag_weight", ABOVE_ZERO), ("slow.offdiag_weight", ABOVE_ZERO)),
    ] = "sample"
    """How the cross-correlation is normalised: each row to unit length, or each channel standardised over the batch."""


class FastConfig(OptimizerConfig):
    """The fast learner: starts as a copy of the slow one and trains in every later session."""

    acts = Acts.SESSION_2
    needs = (Needs(("fast.epochs", ABOVE_ZERO)),)

    epochs: WholeNumber = 15
    """Epochs in each session from the second on; 0 leaves the fast learner equal to the slow one."""
    feature_weight: NonNegative = 24.0
    """Weight of L_cos, which holds the fast features to the slow ones; 48 times the released `fast_disf`."""
    cross_weight: NonNegative = 1.0
    """Weight of L_s2f + L_f2s, the cross classification losses."""
    new_rows: Annotated[Literal["imprint", "uniform", "zeros"], Needs(("fast.epochs", ABOVE_ZERO), TRAINED_HEAD)] = (
        "imprint"
    )
    """Start of the fast head's rows of new classes."""
    slow_rows: Annotated[
        Literal["imprint", "zeros"],
        Needs(("fast.epochs", ABOVE_ZERO), TRAINED_HEAD),
        Needs(("fast.cross_weight", ABOVE_ZERO), TRAINED_HEAD),
    ] = "imprint"
    """The slow head's rows of classes of later sessions, which it never trains."""


class AggregationConfig(Section):
    """How the two learners' predictions become one; acts at prediction only."""

    acts = Acts.PREDICTION

    kind: Literal["entropy", "mean", "max", "slow", "fast"] = "entropy"
    """`entropy`: weighted by certainty; `mean`, `max`: of the two logits; `slow`, `fast`: one learner alone."""
    temperature: Annotated[Positive, Needs(("aggregation.kind", "entropy"))] = 1.0
    """tau of the entropy weights: large is the plain average, towards 0 the more certain learner decides."""


class RuntimeConfig(Section):
    """Where and how it is computed."""

    device: Annotated[str, FACTS] = "auto"
    """`auto` (a GPU when there is one), `cpu`, `cuda` or `cuda:N`."""
    threads: Annotated[WholeNumber, FACTS, Role.FRAME] = 0
    """CPU threads of torch; 0 leaves torch's own choice. Results are equal for equal thread counts."""
    eval_batch_size: Annotated[Count, EXTRACTION, Role.SIZE] = 256
    """Images in a forward pass without gradients."""
    precision: Annotated[Literal["auto", "float32", "bf16"], FACTS] = "auto"
    """Of the networks' forward passes: `auto` is bf16 autocast on a GPU and float32 on a CPU. Features, heads, losses
    and closed-form statistics are float32 either way. Part of the results."""
    deterministic: Annotated[bool, Field(strict=True), SESSION_1] = False
    """Only algorithms that give the same bits every time, which some GPU operations by default do not; slower."""
    micro_batch: Annotated[Count | None, SESSION_1] = None
    """Images in one backward pass, for batches that do not fit into memory; gradients add up to one step a batch.
    Cross-entropy and L_cos are means over images, so they add up exactly. L_diag, L_rdn and the cross losses are
    defined over a batch: they are taken per micro-batch and averaged by its share of the images, so they are not those
    of the whole batch. Empty for whole batches. Part of the results."""


class Config(Section):
    """Everything one training run depends on."""

    dataset: Annotated[str, FACTS, Role.FRAME, Role.PLACE] = "digits"
    """Name or alias of a data set, or the path of a folder with train/ and test/."""
    seed: Annotated[Seed, SESSION_1, Role.FRAME] = 0
    """Drives every random choice except the class order and the holdout."""
    class_order_seed: Annotated[Seed, FACTS, Role.FRAME] = 1993
    """Seed of the class order (numpy's legacy generator, as in the published orders)."""
    data: DataConfig = DataConfig()
    backbone: BackboneConfig = BackboneConfig()
    pet: PetConfig = PetConfig()
    slow: SlowConfig = SlowConfig()
    fast: FastConfig = FastConfig()
    head: HeadConfig = HeadConfig()
    aggregation: AggregationConfig = AggregationConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _something_is_trained(self) -> Config:
        if self.slow.epochs == 0 and not is_closed_form(self.head.kind):
            raise ValueError(
                f"head.kind={self.head.kind} predicts with the trained head: slow.epochs must be at least 1, got 0"
            )
        if self.pet.kind == "full" and self.slow.epochs == self.fast.epochs == 0:
            raise ValueError("pet.kind=full needs slow.epochs or fast.epochs above 0; pet.kind=none trains nothing")
        return self

    def flat(self) -> dict[str, Any]:
        """Return every setting under its dotted name, tuples as lists, in the order of declaration."""
        return flatten(self.model_dump(mode="json"))
