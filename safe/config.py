"""The typed configuration of one training run: preset, then file, then `key=value` overrides.

Dotted names (`slow.diag_weight`) are the same in YAML, on the command line, in search spaces, JSON and MLflow.
Only the trainer and the builders unpack a `Config`; numerics receive plain scalars.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from safe.datasets.facts import canonical_name
from safe.errors import UserError, choices, nearest, shortened
from safe.heads import head_kinds, is_closed_form
from safe.io.documents import parse_yaml
from safe.io.opening import read_regular

# Strict, so that `true` is no number and "0.5" is a text; whole numbers pass as fractions.
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(ge=1, lt=2**31, strict=True)]
WholeNumber = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
Seed = WholeNumber
MOST_LAMBDAS = 100  # every session tries all of them, and they are written down as one parameter
Share = Annotated[float, Field(ge=0, lt=1, strict=True)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_validator("*")
    @classmethod
    def _no_nul(cls, value: Any) -> Any:
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"no name and no path has a NUL in it, got {value!r}")
        return value


class DataConfig(_Section):
    """Which images, in which order, and how they are shown to the network."""

    root: str = "data"
    """Folder that holds `<dataset>/{train,test}/...` of the downloaded data sets and the cache of generated ones."""
    init_classes: Count = 10
    """Classes in the first session; the number of all classes gives one joint session."""
    increment: Count = 10
    """Classes in each later session; the last one may be smaller."""
    scenario: Literal["auto", "class"] = "auto"
    """`auto`: sessions of domains where the data set has domains, else of classes; `class`: always of classes."""
    class_order: Literal["seeded", "natural"] = "seeded"
    """`seeded`: a permutation drawn from `class_order_seed`; `natural`: the data set's own order."""
    evaluate_on: Literal["test", "holdout"] = "test"
    """Images that give the metrics: the test images, or the share of the training images held out for selection."""
    holdout_share: Share = 0.0
    """Share of each class's training images that is held out of training; at least one image once it is above 0."""
    holdout_seed: Seed = 0
    """Seed of the choice of held-out images, apart from `seed` so that every trial is judged on the same ones."""
    crop_scale: tuple[Positive, Positive] = (0.05, 1.0)
    """Range of the area of a random resized crop, as a share of the image."""
    crop_ratio: tuple[Positive, Positive] = (0.75, 4 / 3)
    """Range of the aspect ratio of a random resized crop."""
    horizontal_flip: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.5
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


class BackboneConfig(_Section):
    """The frozen pre-trained ViT."""

    name: str = "safe_small_vit"
    """`safe_small_vit` (shipped) or a full timm name `arch.tag`."""
    weights: str | None = None
    """Local weights file (.safetensors, .pth, .npz) or `random`; empty for the backbone's own."""


class PetConfig(_Section):
    """Parameter-efficient tuning modules of both learners."""

    kind: Literal["none", "adapter", "ssf", "vpt_deep", "vpt_shallow", "lora", "full"] = "adapter"
    """Which modules are attached; `none` leaves the plain pre-trained model, `full` trains every weight of a copy."""
    bottleneck: Count = 64
    """Adapter: width of the bottleneck."""
    scale: Positive = 0.1
    """Adapter: factor of its output."""
    dropout: Share = 0.1
    """Adapter: dropout after the ReLU."""
    prompts: Count = 5
    """VPT: prompt tokens per block (deep) or in all (shallow)."""
    rank: Count = 8
    """LoRA: rank of the update."""
    alpha: Positive = 8.0
    """LoRA: the update is scaled by alpha / rank."""


class OptimizerConfig(_Section):
    """SGD with a cosine schedule from `lr` to 0 over `schedule_epochs`."""

    epochs: WholeNumber = 20
    """Epochs in a session; 0 trains nothing."""
    schedule_epochs: Count | None = None
    """Length of the cosine schedule in epochs, at least `epochs`; empty for `epochs`."""
    batch_size: Count = 48
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

    diag_weight: NonNegative = 1e-2
    """Weight of L_diag, which keeps the PTM's directions; useful about 1e-3..1e1."""
    offdiag_weight: NonNegative = 1e1
    """Weight of L_rdn, which drops redundancy between channels; useful about 1e-1..1e3."""
    correlation: Literal["sample", "batch"] = "sample"
    """How the cross-correlation is normalised: each row to unit length, or each channel standardised over the batch."""


class FastConfig(OptimizerConfig):
    """The fast learner: starts as a copy of the slow one and trains in every later session."""

    epochs: WholeNumber = 15
    """Epochs in each session from the second on; 0 leaves the fast learner equal to the slow one."""
    feature_weight: NonNegative = 24.0
    """Weight of L_cos, which holds the fast features to the slow ones; 48 times the released `fast_disf`."""
    cross_weight: NonNegative = 1.0
    """Weight of L_s2f + L_f2s, the cross classification losses."""
    new_rows: Literal["imprint", "uniform", "zeros"] = "imprint"
    """Start of the fast head's rows of new classes."""
    slow_rows: Literal["imprint", "zeros"] = "imprint"
    """The slow head's rows of classes of later sessions, which it never trains."""


def _head_kind(kind: str) -> str:
    if kind not in head_kinds():
        raise ValueError(choices(kind, head_kinds(), "kind of head"))
    return kind


HeadKind = Annotated[str, AfterValidator(_head_kind)]  # read whenever one is checked: a module of one's own may add one


class HeadConfig(_Section):
    """The classifier of each learner; the default is closed-form (RanPAC)."""

    kind: HeadKind = "ridge"
    """`ridge`: ridge regression on projected features; `class_means`: cosine to each class's mean feature; `cosine`:
    no closed form, the head that gradient steps trained predicts."""
    projection_dim: WholeNumber = 10_000
    """M, the width of the random projection; 0 fits the ridge on the features themselves."""
    projection_seed: Seed | None = None
    """Seed of W_rand; empty derives it from `seed`."""
    ridge_grid: tuple[Positive, ...] = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
    """Values of lambda that are tried in every session."""
    ridge_split: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.8
    """Share of a session's images that lambda is fitted on; the others judge it."""
    logit_scale: Literal["learned"] | Positive = "learned"
    """Factor of the ridge scores before the softmax: each learner's sigma, or one number. Acts at prediction only."""

    @model_validator(mode="after")
    def _grid(self) -> HeadConfig:
        if not 1 <= len(self.ridge_grid) <= MOST_LAMBDAS:
            raise ValueError(f"ridge_grid takes 1 to {MOST_LAMBDAS} values, got {len(self.ridge_grid)}")
        return self


class AggregationConfig(_Section):
    """How the two learners' predictions become one; acts at prediction only."""

    kind: Literal["entropy", "mean", "max", "slow", "fast"] = "entropy"
    """`entropy`: weighted by certainty; `mean`, `max`: of the two logits; `slow`, `fast`: one learner alone."""
    temperature: Positive = 1.0
    """tau of the entropy weights: large is the plain average, towards 0 the more certain learner decides."""


class RuntimeConfig(_Section):
    """Where and how it is computed."""

    device: str = "auto"
    """`auto` (a GPU when there is one), `cpu`, `cuda` or `cuda:N`."""
    threads: WholeNumber = 0
    """CPU threads of torch; 0 leaves torch's own choice. Results are equal for equal thread counts."""
    eval_batch_size: Count = 256
    """Images in a forward pass without gradients."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Of the networks' forward passes: `auto` is bf16 autocast on a GPU and float32 on a CPU. Features, heads, losses
    and closed-form statistics are float32 either way. Part of the results."""
    deterministic: Annotated[bool, Field(strict=True)] = False
    """Only algorithms that give the same bits every time, which some GPU operations by default do not; slower."""
    micro_batch: Count | None = None
    """Images in one backward pass, for batches that do not fit into memory; gradients add up to one step a batch.
    Cross-entropy and L_cos are means over images, so they add up exactly. L_diag, L_rdn and the cross losses are
    defined over a batch: they are taken per micro-batch and averaged by its share of the images, so they are not those
    of the whole batch. Empty for whole batches. Part of the results."""


class Config(_Section):
    """Everything one training run depends on."""

    dataset: str = "digits"
    """Name or alias of a data set, or the path of a folder with train/ and test/."""
    seed: Seed = 0
    """Drives every random choice except the class order and the holdout."""
    class_order_seed: Seed = 1993
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


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as one with dotted names; `UserError` if it has a name twice, nested and dotted."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        for leaf, one in (flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}).items():
            if leaf in flat:
                raise UserError(f"{leaf!r} is set twice, to {flat[leaf]!r} and to {one!r}; write it once")
            flat[leaf] = one
    return flat


def setting_names() -> tuple[str, ...]:
    """Return the dotted name of every setting."""
    return tuple(Config().flat())


def preset_names() -> tuple[str, ...]:
    """Return the data sets that have a preset, sorted."""
    return tuple(sorted(p.name.removesuffix(".yaml") for p in _presets().iterdir() if p.name.endswith(".yaml")))


def load_config(
    dataset: str | None = None,
    file: str | Path | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
) -> Config:
    """Return the configuration of a data set's preset, changed by a YAML file, then by overrides.

    Args:
        dataset: name or alias; `None` takes it from the overrides, else the file, else `digits`.
        file: YAML, nested (`slow: {epochs: 5}`) or with dotted names (`slow.epochs: 5`).
        overrides: `key=value` words with YAML values, or a mapping of dotted names.

    Raises:
        UserError: names every unknown key (with the nearest known one) and every value out of range, all at once; or
            `dataset` is one data set and the file's or overrides' setting another.
    """
    from_file = _read_file(Path(file)) if file is not None else {}
    from_words = dict(overrides) if isinstance(overrides, Mapping) else parse_overrides(overrides)
    changes = {**from_file, **from_words}
    setting = str(changes.get("dataset", dataset or "digits"))
    name = canonical_name(setting if dataset is None else dataset)
    if canonical_name(setting) != name:
        raise UserError(f"--dataset {dataset}, but dataset={setting} is set too; name it once")
    preset = _presets() / f"{name}.yaml"
    flat = flatten(parse_yaml(preset.read_text("utf-8"), f"preset {name}") or {}) if name in preset_names() else {}
    flat = {**flat, **changes, "dataset": name}
    return validate(flat)


def validate(flat: Mapping[str, Any]) -> Config:
    """Return the `Config` of a mapping of dotted names; see `load_config` for what is raised."""
    known = setting_names()
    problems = [f"unknown setting {name!r}.{_hint(name, known)}" for name in flat if name not in known]
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        if name in known:
            section, _, leaf = name.rpartition(".")
            (tree.setdefault(section, {}) if section else tree)[leaf] = value
    config: Config | None = None
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        problems += _problems(error)
    if problems or config is None:
        raise UserError("\n".join(["the configuration is not valid:", *(f"  - {p}" for p in problems)]))
    return config


def parse_overrides(words: Iterable[str]) -> dict[str, Any]:
    """Return `key=value` words as a mapping; values are YAML, so `1e-3`, `true` and `[1, 2]` have their types.

    Raises:
        UserError: a word is no `key=value`, its value is no YAML or has a comment in it, or a key stands twice.
    """
    parsed: dict[str, Any] = {}
    told: dict[str, str] = {}
    for word in words:
        key, equals, text = word.partition("=")
        name = key.strip()
        if not equals or not name:
            raise UserError(f"cannot read {word!r}: write settings as key=value, for example fast.epochs=3")
        if name in told:
            raise UserError(f"{name} is set twice, by {told[name]!r} and by {word!r}; give it once")
        told[name], value = word, parse_yaml(text, f"the value of {name!r}")
        if isinstance(value, str | None) and text.count("#") > (value or "").count("#"):
            quoted = shlex.quote(f'{name}="{text}"')
            raise UserError(f"the value of {word!r} would end before its #; write: {quoted}")
        parsed[name] = value
    return parsed


def _presets() -> Any:
    return files("safe") / "presets"


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = read_regular(path).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the configuration file {path}: {error}") from None
    tree = parse_yaml(text, str(path))
    if tree is None:
        return {}
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise UserError(f"{path} must hold settings (`name: value`), got {type(tree).__name__}")
    try:
        return flatten(tree)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _hint(name: str, known: Sequence[str]) -> str:
    by_leaf = {k.rpartition(".")[2]: k for k in known}
    leaf = name.rpartition(".")[2]
    if leaf in by_leaf:
        return f" Did you mean {by_leaf[leaf]!r}?"
    return nearest(name, known) or f" Sections: {', '.join(dict.fromkeys(k.split('.')[0] for k in known))}."


def _problems(error: ValidationError) -> list[str]:
    """One line per pydantic error: dotted name, what was given, what is allowed."""
    lines: dict[str, str] = {}
    for item in error.errors():
        # A union reports one error per member, its location extended by the member's name: one line is enough.
        parts = [str(p) for p in item["loc"]]
        name = ".".join(parts[:2]) if len(parts) > 1 and parts[0] in Config.model_fields else ".".join(parts)
        message = item["msg"].removeprefix("Value error, ")
        given = "" if item["type"] == "value_error" else f", got {shortened(repr(item['input']))}{_plainly(item)}"
        told = f"{name}: {message}" if name else message  # a rule about several settings names them itself
        lines[name] = f"{lines[name]}; or {message}" if name in lines else f"{told}{given}"
    return list(lines.values())


def _plainly(item: Mapping[str, Any]) -> str:
    """Return how to write what YAML takes for text but a setting does not; nothing for other faults."""
    if not isinstance(item["input"], str):
        return ""
    if item["type"] == "bool_type":
        return " (write true or false)"
    digits = item["type"] in ("int_type", "float_type") and any(letter.isdigit() for letter in item["input"])
    return " (write numbers in decimal, without quotes)" if digits else ""
