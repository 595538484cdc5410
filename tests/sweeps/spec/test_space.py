"""Search spaces: what is taken, what is refused, and the values between."""

from __future__ import annotations

import math
import re
import time
from typing import Any

import pytest

from safe.config import load_config, validate
from safe.config.marks import ABOVE_ZERO, Needs
from safe.errors import UserError
from sweeps.search.random_ import draw
from sweeps.spec.conditions import conditions
from sweeps.spec.domains import ZERO_SHARE
from sweeps.spec.space import (
    MOST_PREDICTIONS,
    PREDICTION_SETTINGS,
    Space,
    parse_domain,
    parse_space,
    read_space,
)

BASE = load_config("digits").flat()


def sample(space: Space, seed: int, index: int) -> dict[str, Any]:
    return space.settings(draw(space, seed, index))


def draws(entry: Any, name: str = "slow.diag_weight", count: int = 2000) -> list[Any]:
    space = parse_space({name: entry}, BASE)
    return [sample(space, 0, index)[name] for index in range(1, count + 1)]


def test_a_trial_depends_on_seed_index_and_name_alone() -> None:
    small = parse_space({"slow.lr": {"loguniform": [1e-3, 1e-1]}}, BASE)
    wide = parse_space({"fast.lr": {"uniform": [0.1, 0.2]}, "slow.lr": {"loguniform": [1e-3, 1e-1]}}, BASE)
    first = [sample(small, 7, index) for index in range(5)]
    assert first == [sample(small, 7, index) for index in range(5)]
    assert [trial["slow.lr"] for trial in first] == [sample(wide, 7, index)["slow.lr"] for index in range(5)]
    assert first[1:] != [sample(small, 8, index) for index in range(1, 5)]
    assert len({trial["slow.lr"] for trial in first}) == 5


def test_trial_0_takes_the_values_of_the_preset_where_the_space_has_them() -> None:
    raw = {"slow.diag_weight": {"zero_or_loguniform": [1e-3, 1e1]}, "fast.cross_weight": {"choice": [3.0, 5.0]}}
    first = sample(parse_space(raw, BASE), 0, 0)
    assert first["slow.diag_weight"] == BASE["slow.diag_weight"]
    assert first["fast.cross_weight"] in (3.0, 5.0)


def test_zero_or_loguniform_gives_zeros_and_covers_the_decades() -> None:
    values = draws({"zero_or_loguniform": [1e-3, 1e1]})
    zeros = sum(value == 0 for value in values) / len(values)
    assert abs(zeros - ZERO_SHARE) < 0.03
    positive = [math.log10(value) for value in values if value]
    assert -3 <= min(positive) < -2.9
    assert 0.9 < max(positive) <= 1
    for decade in range(-3, 1):
        share = sum(decade <= value < decade + 1 for value in positive) / len(positive)
        assert abs(share - 0.25) < 0.05, decade


def test_ranges_stay_within_bounds_and_lists_within_their_values() -> None:
    uniform = draws({"uniform": [0.25, 0.75]})
    assert 0.25 <= min(uniform) < 0.26
    assert 0.74 < max(uniform) <= 0.75
    assert abs(sum(uniform) / len(uniform) - 0.5) < 0.02
    assert set(draws({"choice": [0, 0.5, 2]})) == {0, 0.5, 2}
    assert set(draws({"uniform": [1, 4]}, "slow.epochs")) == {1, 2, 3, 4}
    assert set(draws(0.125)) == {0.125}


def test_the_temperature_never_makes_a_trial() -> None:
    space = parse_space({"aggregation.temperature": {"grid": [0.1, 1, 10]}}, BASE)
    assert [p["aggregation.temperature"] for p in space.predictions] == [0.1, 1.0, 10.0]
    assert sample(space, 0, 3) == {}
    assert parse_space({"slow.lr": 0.1}, BASE).predictions == ({name: BASE[name] for name in PREDICTION_SETTINGS},)
    with pytest.raises(UserError, match="scored for free; list values"):
        parse_space({"aggregation.temperature": {"loguniform": [0.1, 1]}}, BASE)


def test_every_problem_is_named_at_once() -> None:
    raw = {
        "slow.diag_wieght": {"uniform": [0, 1]},
        "slow.lr": {"loguniform": [0, 1]},
        "fast.lr": {"uniform": [-1, 1]},
        "fast.epochs": {"logunifrom": [1, 2]},
        "pet.kind": {"choice": ["adapter", "adaptor"]},
        "slow.momentum": {"uniform": [0.5, 0.1]},
        "seed": {"choice": [0, 1]},
        "pet.rank": {"choice": [4], "grid": [4]},
        "pet.alpha": {"choice": [4.0, 4.0]},
        "pet.scale": {"uniform": "0..1"},
    }
    with pytest.raises(UserError) as caught:
        parse_space(raw, BASE)
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + len(raw)
    expected = [
        "Did you mean 'slow.diag_weight'?",
        "needs bounds above 0",
        "greater than 0",
        "Did you mean 'loguniform'?",
        "'adaptor'",
        "low < high",
        "the sweep itself sets this",
        "exactly one of",
        "lists a value twice",
        "needs a list, got '0..1'",
    ]
    for line, words in zip(lines[1:], expected, strict=True):
        assert words in line


@pytest.mark.parametrize("dataset", ["digits", "glyphs", "cub200"])
def test_presets_are_valid_and_contain_the_weights_of_the_configuration(dataset: str) -> None:
    base = load_config(dataset).flat()
    space = parse_space(read_space(None, dataset), base)
    assert sample(space, 0, 0) == {name: base[name] for name in space.domains}
    assert set(space.domains) == {
        "slow.diag_weight",
        "slow.offdiag_weight",
        "fast.feature_weight",
        "fast.cross_weight",
        "head.kind",
    }
    assert 1.0 in {p["aggregation.temperature"] for p in space.predictions}


def test_a_space_file_that_cannot_be_read_is_refused(tmp_path: Any) -> None:
    with pytest.raises(UserError, match="cannot read the search space"):
        read_space(tmp_path / "none.yaml", "digits")
    (tmp_path / "list.yaml").write_text("- slow.lr")
    with pytest.raises(UserError, match="one setting a line"):
        read_space(tmp_path / "list.yaml", "digits")


def test_predictions_are_many_at_most_and_take_no_time() -> None:
    values = [*range(1, 1 + MOST_PREDICTIONS)]
    began = time.process_time()
    space = parse_space({"aggregation.temperature": {"grid": values}}, BASE)
    assert time.process_time() - began < 1
    assert [p["aggregation.temperature"] for p in space.predictions] == values
    with pytest.raises(UserError, match=f"have {MOST_PREDICTIONS + 1} combinations.* at most {MOST_PREDICTIONS} are"):
        parse_space({"aggregation.temperature": {"grid": [*values, 0.5]}}, BASE)


def test_every_combination_of_the_settings_of_prediction_is_scored() -> None:
    base = load_config("digits").flat()
    raw = {"aggregation.kind": {"choice": ["entropy", "max"]}, "head.logit_scale": {"grid": ["learned", 1.0]}}
    space = parse_space({**raw, "aggregation.temperature": {"grid": [0.5, 2.0]}}, base)
    assert [tuple(p.values()) for p in space.predictions] == [
        ("entropy", 0.5, "learned"),
        ("entropy", 0.5, 1.0),
        ("entropy", 2.0, "learned"),
        ("entropy", 2.0, 1.0),
        ("max", 1.0, "learned"),  # where the temperature has no effect it is not varied
        ("max", 1.0, 1.0),
    ]
    assert not space.domains
    with pytest.raises(UserError, match="acts at prediction only"):
        parse_space({"head.logit_scale": {"uniform": [1, 5]}}, base)


def test_a_setting_that_is_empty_by_default_is_drawn_as_the_whole_number_it_is() -> None:
    base = load_config("digits").flat()
    space = parse_space({"slow.schedule_epochs": {"uniform": [10, 30]}, "slow.lr": {"uniform": [1, 2]}}, base)
    drawn = [sample(space, 0, index) for index in range(1, 20)]
    assert {type(values["slow.schedule_epochs"]) for values in drawn} == {int}
    assert {type(values["slow.lr"]) for values in drawn} == {float}


@pytest.mark.parametrize(
    ("entry", "values"),
    [
        ({"uniform": [0.0, 0.5]}, {0.0: 0.0, 0.25: 0.125, 1.0: 0.5}),
        ({"loguniform": [1e-3, 1e1]}, {0.0: 1e-3, 0.25: 1e-2, 0.75: 1.0, 1.0: 1e1}),
        ({"zero_or_loguniform": [1e-3, 1.0]}, {0.0: 0.0, 0.2499: 0.0, 0.25: 1e-3, 0.5: 1e-2, 1.0: 1.0}),
        ({"choice": [3, 5]}, {0.0: 3, 0.49: 3, 0.5: 5, 0.99: 5}),
    ],
)
def test_a_domain_is_the_unit_interval(entry: dict[str, Any], values: dict[float, Any]) -> None:
    domain = parse_domain("slow.diag_weight", entry)
    for position, value in values.items():
        assert domain.at(position) == pytest.approx(value, rel=1e-5)
        assert domain.at(domain.position(domain.at(position))) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "covered"),
    [
        ({"choice": [1.0, 2.0]}, {"grid": [2.0, 1.0, 3.0]}, True),
        ({"choice": [1.0, 2.0]}, {"grid": [2.0, 3.0]}, False),
        ({"choice": [0.0, 1.0]}, {"zero_or_loguniform": [0.1, 1.0]}, True),
        ({"choice": [0.0, 1.0]}, {"loguniform": [0.1, 1.0]}, False),
        ({"loguniform": [0.1, 1.0]}, {"zero_or_loguniform": [0.1, 2.0]}, True),
        ({"zero_or_loguniform": [0.1, 1.0]}, {"loguniform": [0.01, 1.0]}, False),
        ({"uniform": [0.1, 1.0]}, {"uniform": [0.2, 1.0]}, False),
        ({"uniform": [0.1, 1.0]}, {"choice": [0.1, 1.0]}, False),
        (0.5, {"uniform": [0.1, 1.0]}, True),
        (0.5, 0.6, False),
    ],
)
def test_a_wider_domain_holds_every_value_of_the_old_one(old: Any, new: Any, covered: bool) -> None:
    assert parse_domain("slow.diag_weight", new).covers(parse_domain("slow.diag_weight", old)) is covered


def test_a_setting_that_a_trial_does_not_use_keeps_its_value() -> None:
    raw = {
        "pet.kind": {"choice": ["adapter", "lora", "ssf"]},
        "pet.rank": {"choice": [2, 4]},
        "pet.bottleneck": {"choice": [16, 32]},
        "slow.diag_weight": {"choice": [0.0, 1.0]},
        "slow.offdiag_weight": {"choice": [0.0, 1.0]},
        "slow.correlation": {"choice": ["batch"]},
    }
    space = parse_space(raw, BASE)
    all_values = {"pet.rank": 2, "pet.bottleneck": 16, "slow.correlation": "batch"}
    lora = space.settings({**all_values, "pet.kind": "lora", "slow.diag_weight": 0.0, "slow.offdiag_weight": 0.0})
    assert (lora["pet.rank"], lora["pet.bottleneck"]) == (2, BASE["pet.bottleneck"])
    assert lora["slow.correlation"] == BASE["slow.correlation"] == "sample"
    adapter = space.settings({**all_values, "pet.kind": "adapter", "slow.diag_weight": 0.0, "slow.offdiag_weight": 1.0})
    assert (adapter["pet.rank"], adapter["pet.bottleneck"]) == (BASE["pet.rank"], 16)
    assert adapter["slow.correlation"] == "batch"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"pet.rank": {"choice": [2, 4]}}, "pet.rank: changes nothing, because it needs pet.kind lora"),
        ({"pet.kind": "ssf", "pet.scale": {"uniform": [0.1, 1]}}, "pet.scale: changes nothing"),
        (
            {"slow.diag_weight": 0.0, "slow.offdiag_weight": 0.0, "slow.correlation": {"choice": ["batch", "sample"]}},
            "it needs slow.diag_weight above 0 or slow.offdiag_weight above 0",
        ),
        ({"fast.epochs": 0, "fast.cross_weight": {"uniform": [0, 1]}}, "it needs fast.epochs above 0"),
        ({"aggregation.kind": "max", "aggregation.temperature": {"grid": [1.0, 2.0]}}, "aggregation.kind entropy"),
    ],
)
def test_a_setting_that_can_change_nothing_is_refused(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        parse_space(raw, BASE)


def test_what_a_setting_needs_is_a_setting_and_a_value_that_it_takes() -> None:
    """The kinds of PET say which settings they use; every alternative is one that the configuration accepts."""
    assert conditions("pet.rank") == (Needs(("pet.kind", "lora")),)
    assert set(conditions("pet.prompts")[0].alternatives) == {("pet.kind", "vpt_deep"), ("pet.kind", "vpt_shallow")}
    assert conditions("fast.lr") == (Needs(("fast.epochs", ABOVE_ZERO)),)
    assert conditions("head.ridge_grid") == (Needs(("head.kind", "ridge"), ("head.kind", "anacp")),)
    assert conditions("fast.new_rows") == (Needs(("fast.epochs", ABOVE_ZERO), ("head.kind", "cosine")),)
    assert conditions("fast.epochs") == conditions("seed") == conditions("pet.kind") == ()
    for name in BASE:
        for condition in conditions(name):
            assert condition.alternatives, name
            for other, value in condition.alternatives:
                assert validate({**BASE, other: 1 if value is ABOVE_ZERO else value}), name
