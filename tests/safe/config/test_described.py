"""What settings say of themselves: from where on they act, beside what, and which kind of PET uses them."""

from __future__ import annotations

import pytest

from safe.config import setting_names
from safe.config.described import acting, acts, field_of, needs, of_role
from safe.config.marks import ABOVE_ZERO, Acts, Needs, Role
from safe.config.settings import FastConfig, PetConfig, Section, SlowConfig
from safe.learners.fast import FAST_WEIGHTS
from safe.learners.slow import SLOW_WEIGHTS
from safe.pet import kinds, settings_of


def test_every_setting_says_from_where_on_it_acts() -> None:
    points = {name: acts(name) for name in setting_names()}
    assert sum(len(acting(point)) for point in Acts) == len(points) > 50
    assert acting(Acts.PREDICTION) == ("head.logit_scale", "aggregation.kind", "aggregation.temperature")
    assert acting(Acts.EXTRACTION) == ("backbone.crop_pct", "runtime.eval_batch_size")
    assert acting(Acts.EVALUATION) == ("data.evaluate_on",)
    assert points["slow.batch_size"] is points["seed"] is Acts.SESSION_1  # what is frozen sees other batches
    assert points["slow.lr"] is points["pet.rank"] is Acts.TUNING
    assert points["fast.lr"] is points["fast.cross_weight"] is Acts.SESSION_2
    assert points["backbone.weights"] is points["data.root"] is Acts.FACTS


def test_a_setting_that_does_not_say_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PetConfig, "acts", None)
    acts.cache_clear()
    with pytest.raises(LookupError, match=r"pet\.rank does not say from where on it acts"):
        acts("pet.rank")
    monkeypatch.undo()
    assert acts("pet.rank") is Acts.TUNING


def test_a_section_speaks_for_its_settings_until_they_do() -> None:
    assert Section.acts is None
    assert needs("slow.lr") == (Needs(("slow.epochs", ABOVE_ZERO)),)
    assert needs("slow.epochs") == ()  # a section's need counts for its other settings
    assert len(needs("slow.correlation")) == 2
    assert field_of("fast.cross_weight").description == "Weight of L_s2f + L_f2s, the cross classification losses."


def test_the_settings_of_pet_are_those_that_its_kinds_name() -> None:
    used = {f"pet.{name}" for kind in kinds() for name in settings_of(kind)}
    assert used == {name for name in setting_names() if name.startswith("pet.")} - {"pet.kind"}
    for kind in kinds():
        assert PetConfig(kind=kind).kind == kind


def test_settings_say_what_they_are_to_those_who_compare_move_and_size_runs() -> None:
    assert of_role(Role.PLACE) == ("dataset", "data.root")
    assert of_role(Role.SIZE) == (
        "pet.bottleneck", "pet.prompts", "pet.rank", "slow.batch_size", "fast.batch_size", "head.projection_dim",
        "head.anacp_layers", "head.anacp_draws", "runtime.eval_batch_size",
    )  # fmt: skip
    assert of_role(Role.FRAME) == (
        "dataset", "seed", "class_order_seed", "data.evaluate_on", "data.holdout_share", "runtime.threads",
    )  # fmt: skip


@pytest.mark.parametrize(("section", "weights"), [(SlowConfig, SLOW_WEIGHTS), (FastConfig, FAST_WEIGHTS)])
def test_every_loss_term_has_its_weight_and_every_weight_its_term(section: type[Section], weights: list[str]) -> None:
    assert [name for name in section.model_fields if name.endswith("_weight")] == weights
