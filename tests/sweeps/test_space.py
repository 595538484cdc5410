from __future__ import annotations

import math
from typing import Any

import pytest

from safe.config import load_config
from safe.errors import UserError
from sweeps.space import PREDICTION_SETTINGS, ZERO_PROBABILITY, parse_space, read_space, sample

BASE = load_config("digits").flat()


def draws(entry: Any, name: str = "slow.diag_weight", count: int = 2000) -> list[Any]:
    space = parse_space({name: entry}, BASE)
    return [sample(space, 0, index, BASE)[name] for index in range(1, count + 1)]


def test_a_trial_depends_on_seed_index_and_name_alone() -> None:
    small = parse_space({"slow.lr": {"loguniform": [1e-3, 1e-1]}}, BASE)
    wide = parse_space({"fast.lr": {"uniform": [0.1, 0.2]}, "slow.lr": {"loguniform": [1e-3, 1e-1]}}, BASE)
    first = [sample(small, 7, index, BASE) for index in range(5)]
    assert first == [sample(small, 7, index, BASE) for index in range(5)]
    assert [trial["slow.lr"] for trial in first] == [sample(wide, 7, index, BASE)["slow.lr"] for index in range(5)]
    assert first[1:] != [sample(small, 8, index, BASE) for index in range(1, 5)]
    assert len({trial["slow.lr"] for trial in first}) == 5


def test_trial_0_takes_the_values_of_the_preset_where_the_space_has_them() -> None:
    raw = {"slow.diag_weight": {"zero_or_loguniform": [1e-3, 1e1]}, "fast.cross_weight": {"choice": [3.0, 5.0]}}
    first = sample(parse_space(raw, BASE), 0, 0, BASE)
    assert first["slow.diag_weight"] == BASE["slow.diag_weight"]
    assert first["fast.cross_weight"] in (3.0, 5.0)


def test_zero_or_loguniform_gives_zeros_and_covers_the_decades() -> None:
    values = draws({"zero_or_loguniform": [1e-3, 1e1]})
    zeros = sum(value == 0 for value in values) / len(values)
    assert abs(zeros - ZERO_PROBABILITY) < 0.03
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
    assert sample(space, 0, 3, BASE) == {}
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
    assert sample(space, 0, 0, base) == {name: base[name] for name in space.domains}
    assert set(space.domains) == {
        "slow.diag_weight",
        "slow.offdiag_weight",
        "fast.feature_weight",
        "fast.cross_weight",
    }
    assert 1.0 in {p["aggregation.temperature"] for p in space.predictions}


def test_a_space_file_that_cannot_be_read_is_refused(tmp_path: Any) -> None:
    with pytest.raises(UserError, match="cannot read the search space"):
        read_space(tmp_path / "none.yaml", "digits")
    (tmp_path / "list.yaml").write_text("- slow.lr")
    with pytest.raises(UserError, match="one setting a line"):
        read_space(tmp_path / "list.yaml", "digits")


def test_every_combination_of_the_settings_of_prediction_is_scored() -> None:
    base = load_config("digits").flat()
    raw = {"aggregation.kind": {"choice": ["mean", "max"]}, "head.logit_scale": {"grid": ["learned", 1.0]}}
    space = parse_space({**raw, "aggregation.temperature": 0.5}, base)
    assert [tuple(p.values()) for p in space.predictions] == [
        ("mean", 0.5, "learned"),
        ("mean", 0.5, 1.0),
        ("max", 0.5, "learned"),
        ("max", 0.5, 1.0),
    ]
    assert not space.domains
    with pytest.raises(UserError, match="acts at prediction only"):
        parse_space({"head.logit_scale": {"uniform": [1, 5]}}, base)


def test_a_setting_that_is_empty_by_default_is_drawn_as_the_whole_number_it_is() -> None:
    base = load_config("digits").flat()
    space = parse_space({"slow.schedule_epochs": {"uniform": [10, 30]}, "slow.lr": {"uniform": [1, 2]}}, base)
    drawn = [sample(space, 0, index, base) for index in range(1, 20)]
    assert {type(values["slow.schedule_epochs"]) for values in drawn} == {int}
    assert {type(values["slow.lr"]) for values in drawn} == {float}
