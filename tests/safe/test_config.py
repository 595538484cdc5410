"""The configuration: precedence, types, all errors at once, and the same names everywhere."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from safe.config import (
    Config,
    flatten,
    load_config,
    parse_overrides,
    preset_names,
    setting_names,
    validate,
)
from safe.datasets.facts import DATASETS
from safe.errors import UserError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def problems(flat: dict[str, Any]) -> list[str]:
    with pytest.raises(UserError) as error:
        validate(flat)
    first, *lines = str(error.value).splitlines()
    assert first == "the configuration is not valid:"
    return lines


# ---------------------------------------------------------------- precedence


def test_overrides_win_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    preset = load_config("digits")
    assert (preset.data.init_classes, preset.head.projection_dim) == (2, 1000)  # not the defaults 10 and 10 000
    file = write(tmp_path / "a.yaml", "slow: {epochs: 7, lr: 0.5}\ndata.init_classes: 4\n")
    config = load_config("digits", file, ["slow.lr=0.25", "fast.epochs=3"])
    assert (config.data.init_classes, config.data.increment) == (4, 2)
    assert (config.slow.epochs, config.slow.lr) == (7, 0.25)
    assert config.fast.epochs == 3
    assert config.head.projection_dim == 1000
    changed = {"data.init_classes", "slow.epochs", "slow.lr", "fast.epochs"}
    assert {k for k, v in config.flat().items() if v != preset.flat()[k]} == changed


def test_the_data_set_comes_from_the_argument_or_overrides_then_the_file_then_digits(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", "dataset: cub\n")
    assert load_config().dataset == "digits"
    assert load_config(file=file).dataset == "cub200"
    assert load_config(file=file, overrides=["dataset=imagenetr"]).dataset == "imagenet_r"
    assert load_config("VTAB").dataset == "vtab"


def test_a_data_set_named_twice_must_be_the_same_one(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", "dataset: cub\n")
    assert load_config("CUB200", file).dataset == "cub200"
    assert load_config("VTAB", file, ["dataset=vtab"]).dataset == "vtab"  # overrides win over the file here too
    for given in ({"overrides": ["dataset=cub"]}, {"overrides": {"dataset": "cub"}}, {"file": file}):
        with pytest.raises(UserError, match=r"^--dataset VTAB, but dataset=cub is set too; name it once$"):
            load_config("VTAB", **given)  # type: ignore[arg-type]


def test_nested_and_dotted_files_are_the_same(tmp_path: Path) -> None:
    nested = write(tmp_path / "a.yaml", "slow:\n  epochs: 3\n  lr: 1e-3\naggregation: {temperature: 2}\n")
    dotted = write(tmp_path / "b.yaml", "slow.epochs: 3\nslow.lr: 1e-3\naggregation.temperature: 2\n")
    assert load_config(file=nested) == load_config(file=dotted)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load_config(file=write(tmp_path / "a.yaml", "# nothing\n")) == load_config()


def test_overrides_may_be_a_mapping() -> None:
    assert load_config(overrides={"fast.lr": 0.5}) == load_config(overrides=["fast.lr=0.5"])


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_of_a_known_data_set_and_valid(name: str) -> None:
    assert name in DATASETS
    assert load_config(name).dataset == name


# diag, offdiag, feature, cross, temperature; slow and fast epochs, lr; schedule of the fast learner
PUBLISHED = (0.01, 10.0, 24.0, 1.0, 1.0, 20, 15, 0.01, 0.01, 20)
PRESETS = dict.fromkeys(["cars", "cub200", "domainnet", "imagenet_r", "omnibenchmark", "vtab"], PUBLISHED) | {
    "cifar100": (5e-10, 5e-9, *PUBLISHED[2:]),
    "imagenet_a": (0.01, 10.0, 48.0, 0.0, 0.01, *PUBLISHED[5:]),
    "digits": (*PUBLISHED[:5], 10, 5, 0.01, 0.01, None),
    "glyphs": (0.06, 0.0, 10.0, 1.3, 3.0, 60, 5, 0.3, 0.3, None),
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_stay_what_they_are_when_a_generic_default_moves(name: str) -> None:
    config = load_config(name)
    slow, fast = config.slow, config.fast
    weights = (slow.diag_weight, slow.offdiag_weight, fast.feature_weight, fast.cross_weight)
    steps = (slow.epochs, fast.epochs, slow.lr, fast.lr, fast.schedule_epochs)
    assert (*weights, config.aggregation.temperature, *steps) == PRESETS[name]
    assert (slow.correlation, slow.momentum, slow.weight_decay, slow.schedule_epochs) == ("sample", 0.9, 5e-4, None)
    assert (fast.new_rows, fast.slow_rows, fast.momentum, fast.weight_decay) == ("imprint", "imprint", 0.9, 5e-4)
    head = config.head
    assert (head.ridge_choice, head.ridge_split, head.logit_scale) == ("split", 0.8, "learned")
    assert head.ridge_grid == (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
    assert head.projection_dim == (1000 if name in ("digits", "glyphs") else 10_000)
    assert config.aggregation.kind == "entropy"


def test_generic_defaults_are_those_of_the_evidence() -> None:
    """docs/evidence.md: no slow loss beside cross-entropy, lambda by all errors; the fast losses as published."""
    config = Config()
    assert (config.slow.diag_weight, config.slow.offdiag_weight, config.head.ridge_choice) == (0, 0, "pooled")
    assert (config.fast.feature_weight, config.fast.cross_weight, config.aggregation.temperature) == (24, 1, 1)


def test_there_are_presets_and_a_data_set_without_one_has_the_defaults() -> None:
    assert {"digits", "glyphs"} <= set(preset_names())
    without = sorted(set(DATASETS) - set(preset_names()))
    for name in without:
        assert load_config(name) == Config(dataset=name)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1E5", 1e5), ("-2e+2", -200.0), ("1.5e3", 1500.0), (".5e1", 5.0), ("2.", 2.0),
        ("3", 3), ("0.5", 0.5), ("true", True), ("[1, 2e1]", [1, 20.0]), ("e3", "e3"), ("1e", "1e"), ("", None),
    ],
)  # fmt: skip
def test_values_are_yaml_with_numbers_as_people_write_them(text: str, value: object) -> None:
    parsed = parse_overrides([f"slow.lr={text}"])["slow.lr"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_values_may_hold_equals_signs_and_names_are_trimmed() -> None:
    assert parse_overrides(["a =b=c"]) == {"a": "b=c"}


@pytest.mark.parametrize("word", ["fast.epochs", "=3", ""])
def test_words_without_a_name_or_value_are_refused(word: str) -> None:
    with pytest.raises(UserError, match="write settings as key=value"):
        parse_overrides([word])


def test_a_setting_that_is_given_twice_is_refused_with_both_words() -> None:
    with pytest.raises(UserError) as error:
        load_config(overrides=["fast.epochs=3", "seed=1", "fast.epochs =5"])
    assert str(error.value) == "fast.epochs is set twice, by 'fast.epochs=3' and by 'fast.epochs =5'; give it once"


def test_a_setting_that_is_nested_and_dotted_in_one_file_is_refused_with_both_values(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", "slow: {epochs: 3}\nslow.epochs: 4\n")
    with pytest.raises(UserError) as error:
        load_config(file=file)
    assert str(error.value) == f"{file}: 'slow.epochs' is set twice, to 3 and to 4; write it once"


@pytest.mark.parametrize("word", ["data.root=/data/run #2", "data.root=a#1 #2", "backbone.weights=#1", "seed=#1"])
def test_a_value_that_would_end_in_a_comment_is_refused(word: str) -> None:
    with pytest.raises(UserError, match="would end before its #; write: "):
        parse_overrides([word])


def test_a_value_may_hold_a_number_sign_and_the_advice_is_right() -> None:
    assert parse_overrides(["a=b#1", 'c="/data/run #2"']) == {"a": "b#1", "c": "/data/run #2"}
    with pytest.raises(UserError) as error:
        parse_overrides(["data.root=/data/run #2"])
    (advice,) = shlex.split(str(error.value).partition("write: ")[2])
    assert parse_overrides([advice]) == {"data.root": "/data/run #2"}


@pytest.mark.parametrize(
    ("word", "value"), [("seed=010", 10), ("head.projection_dim=0200", 200), ("slow.epochs=08", 8), ("slow.lr=01", 1.0)]
)
def test_zeros_in_front_change_no_number(word: str, value: float) -> None:
    assert load_config(overrides=[word]).flat()[word.partition("=")[0]] == value


@pytest.mark.parametrize("text", ["1:30", "1_000", "0x10", "0b1", "0o17", "+0b1", "1_0.5", "'3'"])
@pytest.mark.parametrize("name", ["seed", "slow.lr"])
def test_numbers_that_are_not_decimal_are_refused_in_words(name: str, text: str) -> None:
    (line,) = problems(parse_overrides([f"{name}={text}"]))
    assert line.endswith(f", got {text.strip(chr(39))!r} (write numbers in decimal, without quotes)")


@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "Yes", "y"])
def test_only_true_and_false_are_truth_values(text: str) -> None:
    (line,) = problems(parse_overrides([f"runtime.deterministic={text}"]))
    assert line.endswith(f"got {text!r} (write true or false)")
    assert load_config(overrides=[f"data.root={text}"]).data.root == text


def test_a_long_value_is_shortened() -> None:
    (line,) = problems({"seed": "9" * 5000})
    assert len(line) < 400
    assert "(5002 letters)" in line


def test_ranges_and_lists() -> None:
    config = load_config(overrides=["data.crop_scale=[0.1, 0.9]", "head.ridge_grid=[1, 1e2]", "head.logit_scale=2"])
    assert config.data.crop_scale == (0.1, 0.9)
    assert config.head.ridge_grid == (1.0, 100.0)
    assert config.head.logit_scale == 2.0
    assert load_config(overrides=["head.logit_scale=learned"]).head.logit_scale == "learned"


def test_flat_names_round_trip_also_through_json() -> None:
    config = load_config("digits", overrides=["head.logit_scale=2.5", "fast.schedule_epochs=30", "seed=4"])
    assert validate(config.flat()) == config
    assert validate(json.loads(json.dumps(config.flat()))) == config
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_settings_have_dotted_names_and_a_description() -> None:
    names = setting_names()
    expected = {
        "slow.diag_weight", "slow.offdiag_weight", "fast.feature_weight", "fast.cross_weight",
        "aggregation.temperature", "slow.epochs", "fast.epochs", "head.projection_dim", "head.logit_scale",
        "seed", "class_order_seed", "dataset", "data.holdout_share",
    }  # fmt: skip
    assert expected <= set(names)
    assert len(names) == len(set(names))
    sections = {"": Config} | {
        name: field.annotation
        for name, field in Config.model_fields.items()
        if hasattr(field.annotation, "model_fields")
    }
    described = 0
    for name in names:
        section, _, leaf = name.rpartition(".")
        assert sections[section].model_fields[leaf].description, name
        described += 1
    assert described > 40


def test_published_defaults() -> None:
    """Method page: optimiser, epochs, views, ridge grid of the published settings."""
    config = Config()
    assert (config.slow.epochs, config.fast.epochs, config.slow.batch_size) == (20, 15, 48)
    assert (config.slow.lr, config.slow.momentum, config.slow.weight_decay) == (0.01, 0.9, 5e-4)
    assert config.data.crop_scale == (0.05, 1.0)
    assert config.data.crop_ratio == (0.75, 4 / 3)
    assert config.head.ridge_grid == (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
    assert (config.head.projection_dim, config.class_order_seed) == (10_000, 1993)
    assert (config.pet.bottleneck, config.pet.scale, config.pet.dropout, config.pet.prompts) == (64, 0.1, 0.1, 5)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().slow.lr = 1.0  # type: ignore[misc]


# ---------------------------------------------------------------- refusals


def test_all_errors_are_told_at_once_with_the_nearest_name() -> None:
    lines = problems({"slow.epoch": 3, "temperature": 1, "fast.lr": -1, "pet.kind": "adaptor", "seed": "x", "zzz": 1})
    assert len(lines) == 6
    text = "\n".join(lines)
    assert "unknown setting 'slow.epoch'. Did you mean 'slow.epochs'?" in text
    assert "unknown setting 'temperature'. Did you mean 'aggregation.temperature'?" in text
    assert "unknown setting 'zzz'. Sections: dataset, seed, class_order_seed, data, backbone, pet" in text
    assert "fast.lr: Input should be greater than 0, got -1" in text
    assert "pet.kind: unknown PET kind 'adaptor'; choose one of: none, adapter" in text
    assert "seed: Input should be a valid integer" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slow.epochs", -1), ("slow.epochs", 1.5), ("slow.epochs", "many"), ("slow.epochs", None),
        ("slow.batch_size", 0), ("slow.lr", 0), ("slow.lr", float("nan")), ("slow.lr", float("inf")),
        ("slow.momentum", 1), ("slow.weight_decay", -1e-9), ("slow.diag_weight", -1), ("slow.correlation", "row"),
        ("slow.diag_weight", float("inf")), ("slow.offdiag_weight", float("nan")),
        ("fast.feature_weight", float("nan")), ("fast.cross_weight", -0.1), ("fast.new_rows", "ones"),
        ("fast.slow_rows", "uniform"), ("head.kind", "knn"), ("head.projection_dim", -1), ("head.ridge_grid", []),
        ("head.ridge_grid", [0]), ("head.ridge_grid", 5), ("head.ridge_split", 1), ("head.logit_scale", 0),
        ("head.logit_scale", "auto"), ("aggregation.temperature", 0), ("aggregation.kind", "vote"),
        ("data.holdout_share", 1), ("data.init_classes", 0), ("data.crop_scale", [0.5]), ("data.crop_ratio", [0, 1]),
        ("data.horizontal_flip", 1.1), ("data.evaluate_on", "val"), ("pet.dropout", 1), ("pet.bottleneck", 0),
        ("pet.scale", 0), ("runtime.threads", -1), ("runtime.eval_batch_size", 0), ("seed", -1), ("seed", 2**31),
        ("dataset", 5), ("slow.epochs", 2**31), ("slow.batch_size", 2**63),
        ("backbone.name", None), ("runtime.device", 0),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_in_one_line_with_name_and_value(name: str, value: object) -> None:
    lines = problems({name: value})
    assert len(lines) == 1
    assert lines[0].startswith((f"  - {name}: ", f"  - {name} "))


def test_a_section_is_no_setting() -> None:
    assert "unknown setting 'slow'" in problems({"slow": 3})[0]


@pytest.mark.parametrize(
    ("flat", "message"),
    [
        ({"data.crop_scale": [0.9, 0.1]}, "crop_scale must be low <= high <= 1, got (0.9, 0.1)"),
        ({"data.crop_scale": [0.5, 1.5]}, "crop_scale must be low <= high <= 1"),
        ({"data.crop_ratio": [2, 1]}, "crop_ratio must be low <= high"),
        ({"data.evaluate_on": "holdout"}, "evaluate_on=holdout needs holdout_share above 0"),
        ({"fast.schedule_epochs": 10}, "schedule_epochs must be at least epochs (15), got 10"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(flat: dict[str, Any], message: str) -> None:
    (line,) = problems(flat)
    assert message in line


def test_an_unknown_data_set_lists_the_choices() -> None:
    with pytest.raises(UserError, match=r"unknown data set 'digts'; choose one of: .* Did you mean 'digits'"):
        load_config("digts")


@pytest.mark.parametrize(
    "text", ["slow: [", "a: b: c", "\t- x", "slow: &a {epochs: *b}", "!!python/object:os.system {}"]
)
def test_broken_yaml_names_the_file(tmp_path: Path, text: str) -> None:
    file = write(tmp_path / "bad.yaml", text)
    with pytest.raises(UserError, match="is not valid YAML") as error:
        load_config(file=file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_broken_value_names_its_setting() -> None:
    with pytest.raises(UserError, match=r"the value of 'head\.ridge_grid' is not valid YAML"):
        load_config(overrides=["head.ridge_grid=[1,"])


@pytest.mark.parametrize("text", ["- 1\n", "5\n", "word\n", "1: 2\n"])
def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="must hold settings"):
        load_config(file=write(tmp_path / "a.yaml", text))


def test_a_missing_file_and_a_binary_one_are_refused(tmp_path: Path) -> None:
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    for path in (tmp_path / "none.yaml", tmp_path, binary):
        with pytest.raises(UserError, match="cannot read the configuration file") as error:
            load_config(file=path)
        assert str(path) in str(error.value)


def test_flatten() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": [2]}, "e": None}) == {"a.b.c": 1, "a.d": [2], "e": None}


@pytest.mark.parametrize(("word", "name"), [("slow.epochs=true", "slow.epochs"), ('slow.lr="0.5"', "slow.lr")])
def test_a_truth_value_or_a_text_is_no_number(word: str, name: str) -> None:
    with pytest.raises(UserError, match=f"(?s){name}: Input should be a valid"):
        load_config("digits", overrides=[word])


def test_how_it_is_computed() -> None:
    runtime = load_config("digits").runtime
    assert (runtime.precision, runtime.deterministic, runtime.micro_batch) == ("auto", False, None)
    words = ["runtime.precision=bf16", "runtime.deterministic=true", "runtime.micro_batch=8"]
    runtime = load_config("digits", overrides=words).runtime
    assert (runtime.precision, runtime.deterministic, runtime.micro_batch) == ("bf16", True, 8)


@pytest.mark.parametrize(
    ("name", "value"),
    [("precision", "fp16"), ("deterministic", 1), ("deterministic", "yes"), ("micro_batch", 0), ("micro_batch", 1.5)],
)
def test_other_ways_to_compute_are_refused(name: str, value: object) -> None:
    (line,) = problems({f"runtime.{name}": value})
    assert line.startswith(f"  - runtime.{name}: ")
    assert f"got {value!r}" in line


def test_what_needs_training_is_refused_without_any() -> None:
    trained_head = {"head.kind": "cosine"}
    assert validate(trained_head | {"slow.epochs": 1, "fast.epochs": 0}).head.kind == "cosine"
    assert problems(trained_head | {"slow.epochs": 0}) == [
        "  - head.kind=cosine predicts with the trained head: slow.epochs must be at least 1, got 0"
    ]
    full = {"pet.kind": "full", "fast.epochs": 0}
    assert validate(full | {"slow.epochs": 1}).pet.kind == "full"
    assert problems(full | {"slow.epochs": 0}) == [
        "  - pet.kind=full needs slow.epochs or fast.epochs above 0; pet.kind=none trains nothing"
    ]
