"""What the fields of a specification say of themselves, and that nothing else lists them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import Field

from safe.errors import UserError
from sweeps.spec.marks import Group, Mark, Option, marked, option_help
from sweeps.spec.options import check_numbers
from sweeps.spec.specs import AblationSpec, SweepSpec


def test_what_may_become_of_a_field_is_said_once() -> None:
    kinds = (Mark.GROWS, Mark.MORE, Mark.MANNER, Mark.SETTLED, Mark.WHERE)
    for spec in (SweepSpec, AblationSpec):
        for name, field in spec.model_fields.items():
            assert sum(mark in kinds for mark in field.metadata) <= 1, name
    assert marked(SweepSpec, Mark.GROWS) == ("seeds", "trials")
    assert marked(AblationSpec, Mark.GROWS) == ("seeds", "variants")
    race = {"finalists", "race_sessions"}
    assert set(marked(SweepSpec, Mark.MORE)) == {"max_sessions", "max_hours", "control", "audit", *race}
    assert set(marked(SweepSpec, Mark.SETTLED)) == {
        "round_size", "created", "rules", "learn_from", "across_data", "space_asked",
    }  # fmt: skip
    assert set(marked(SweepSpec, Mark.WHERE)) == {"dataset", "base", "target", "evaluate_on"}
    assert set(marked(SweepSpec, Mark.PROTOCOL)) == {"selection", "objective", "holdout_share", "target", "first_k"}
    assert marked(AblationSpec, Mark.PARAM) == marked(AblationSpec, Mark.PROTOCOL) == ()


def test_fields_without_a_mark_must_stay_equal(make_spec: Any) -> None:
    own = {name for name in make_spec().comparable() if "." not in name and not name.startswith("space ")}
    assert own == {
        "threads", "kind", "search", "slow_candidates", "carried", "stop", "selection", "first_k", "objective",
        "search_seed", "holdout_share", "target", "seed", "class_order_seed",
    }  # fmt: skip


def test_a_new_field_is_an_option_recorded_and_never_compared_by_its_own_words(make_spec: Any) -> None:
    class Wider(SweepSpec):
        patience: int = Field(default=3, ge=1)
        haste: Any = None

    Wider.model_fields["haste"].metadata += [Mark.MANNER, Mark.PARAM, Option(Group.MACHINE, "how fast", "quick")]
    spec = Wider(**make_spec().model_dump())
    assert spec.comparable()["patience"] == 3
    assert "haste" not in spec.comparable()
    assert "haste" in marked(Wider, Mark.PARAM)
    assert option_help(Wider, "haste") == "how fast (default: quick)"
    assert spec.digest() != make_spec().digest()


def test_the_help_of_an_option_is_the_first_clause_of_its_fields_description() -> None:
    told = {name: option_help(SweepSpec, name) for name in ("retries", "stage_limit_gb", "trial_timeout")}
    assert told == {
        "retries": "how often a failed run is tried again from its last checkpoint (default: 1)",
        "stage_limit_gb": "disk that the shared work may take, in GB (10^9 bytes) (default: 20)",
        "trial_timeout": "seconds without a sign of life after which a run counts as failed (default: none)",
    }
    assert option_help(SweepSpec, "search_seed") == "seed of the proposals (default: 0)"
    assert option_help(SweepSpec, "audit") == "leave out judging the trials on the test images once the choice is final"
    assert option_help(SweepSpec, "max_hours") == "hours after which the search ends"
    assert option_help(AblationSpec, "seeds") == "runs of every variant (default: 5)"


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"trials": 0}, "--trials must be at least 1, got 0"),
        ({"trials": 10_001}, "--trials must be at most 10000, got 10001"),
        ({"seeds": 1_001}, "--seeds must be at most 1000, got 1001"),
        ({"retries": -1}, "--retries must be at least 0, got -1"),
        ({"search_seed": 2**31}, "--search-seed must be at most 2147483647, got 2147483648"),
        ({"max_hours": 0.0}, "--max-hours must be above 0, got 0"),
        ({"stage_limit_gb": float("inf")}, "--stage-limit-gb must be above 0, got inf"),
        ({"trial_timeout": float("nan")}, "--trial-timeout must be above 0, got nan"),
    ],
)
def test_numbers_out_of_a_fields_range_are_refused_by_its_option(numbers: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refusal:
        check_numbers(**numbers)
    assert str(refusal.value) == words


def test_numbers_at_the_ends_of_a_range_are_taken() -> None:
    check_numbers(trials=10_000, seeds=1, retries=0, search_seed=2**31 - 1, max_hours=1e-9, concurrency=None)
