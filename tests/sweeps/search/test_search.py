"""What searches propose, and that it depends on results in trial order alone."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.simulator import KilledError, Rehearsal
from safe.backbones.loading import skeleton
from safe.config import load_config, validate
from safe.errors import Notice, UserError
from safe.sharing.stages import sharing_key
from safe.training.cost import run_bytes, session_costs
from safe.training.memory import expected_sizes, needs
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.search import layout, proposals, tpe
from sweeps.search.history import Observation
from sweeps.spec.combinations import combinations, every, key, possible
from sweeps.spec.depth import acts_in_session_1
from sweeps.spec.options import build_spec
from sweeps.spec.space import Space, parse_space, read_space
from sweeps.spec.specs import SweepSpec
from sweeps.studies.plan import Plan, plan_of

MakeSpec = Callable[..., SweepSpec]
BASE = load_config("digits").flat()
SLOW_LR, FAST_LR = {"loguniform": [1e-3, 1e-1]}, {"zero_or_loguniform": [1e-2, 1e1]}
MIXED = {"slow.lr": SLOW_LR, "fast.cross_weight": FAST_LR, "aggregation.temperature": {"grid": [0.1, 1.0]}}
LISTED = {
    "fast.cross_weight": {"grid": [0.0, 1.0, 2.0]},
    "slow.lr": {"grid": [0.01, 0.02]},
    "aggregation.temperature": {"grid": [0.1, 1.0]},
}


def bowl(config: Mapping[str, Any]) -> float:
    """Best (0.9) at slow.lr = 0.03 and fast.cross_weight = 0.5."""
    cross = math.log10(config["fast.cross_weight"] or 1e-3)
    return 0.9 - 0.1 * (math.log10(config["slow.lr"]) + 1.5) ** 2 - 0.1 * (cross + 0.3) ** 2


def sweep(make_spec: MakeSpec, search: str, **changes: Any) -> SweepSpec:
    space = LISTED if search == "grid" else MIXED
    return make_spec(**{"search": search, "space": space, "trials": 6, "seeds": 1, "round_size": 2, **changes})


def suggest(space: Space, seed: str, told: list[Observation], count: int) -> list[dict[str, Any]]:
    return tpe.suggest(space, seed, told, set(), count, valid=lambda settings: True)


SEARCHES = ("random", "grid", "tpe", "staged")


@pytest.mark.parametrize("search", SEARCHES)
def test_a_killed_search_goes_on_to_the_same_decisions(
    make_spec: MakeSpec, search: str, fake: Any, decisions: Any
) -> None:
    spec = sweep(make_spec, search)
    whole = Rehearsal(spec)
    whole.run(fake(bowl))
    total = len(whole.done)
    assert total == (6 if search == "staged" else 0) + 6 + 1 + 1 + 6  # slow, trials, final, control, audits
    for kill_after in range(total):
        killed = Rehearsal(spec)
        with pytest.raises(KilledError):
            killed.run(fake(bowl), kill_after=kill_after)
        resumed = killed.again()
        resumed.run(fake(bowl))
        assert decisions(resumed.log) == decisions(whole.log), kill_after
        assert len(killed.done) + len(resumed.done) == total, "what was over is not done again"


@pytest.mark.parametrize("search", SEARCHES)
def test_the_order_of_completion_within_a_round_does_not_matter(
    make_spec: MakeSpec, search: str, fake: Any, decisions: Any
) -> None:
    spec = sweep(make_spec, search)
    assert decisions(Rehearsal(spec).run(fake(bowl))) == decisions(Rehearsal(spec).run(fake(bowl), backwards=True))


@pytest.mark.parametrize("search", SEARCHES)
def test_results_steer_only_what_comes_after_their_round(make_spec: MakeSpec, search: str, fake: Any) -> None:
    """Another objective changes later rounds of a search that learns, and nothing else."""
    spec = sweep(make_spec, search)
    one, other = (Rehearsal(spec).run(fake(value)) for value in (bowl, lambda config: 0.5 - bowl(config) / 2))
    first = {"random": 6, "grid": 6, "tpe": 2, "staged": 0}[search]
    same = [a.config == b.config for a, b in zip(one.of_kind(Kind.TRIAL), other.of_kind(Kind.TRIAL), strict=True)]
    assert all(same[:first])
    assert any(not equal for equal in same[first:]) == (search in ("tpe", "staged"))
    slow = [[job.config for job in log.of_kind(Kind.SLOW)] for log in (one, other)]
    assert slow[0] == slow[1]


@pytest.mark.parametrize("search", SEARCHES)
def test_what_the_test_images_say_decides_nothing(make_spec: MakeSpec, search: str, fake: Any, decisions: Any) -> None:
    """Trials proposed and the choice are the same whatever the runs on the test images gave, also in an extension."""
    spec = sweep(make_spec, search, trials=4)

    def on_test(worth: float) -> Any:
        honest = fake(bowl)
        return lambda job: fake(lambda _: worth)(job) if job.config["data.evaluate_on"] == "test" else honest(job)

    decided = []
    for worth in (0.1, 0.9):
        rehearsal = Rehearsal(spec)
        rehearsal.run(on_test(worth))
        longer = rehearsal.again(spec.model_copy(update={"trials": 6}))
        decided.append((decisions(rehearsal.log), decisions(longer.run(on_test(worth)))))
    assert decided[0] == decided[1]


@pytest.mark.parametrize("search", SEARCHES)
def test_more_trials_keep_the_old_ones(make_spec: MakeSpec, search: str, fake: Any) -> None:
    rehearsal = Rehearsal(sweep(make_spec, search, trials=3))
    old = {job.id: job.config for job in rehearsal.run(fake(bowl)).of_kind(Kind.TRIAL)}
    longer = rehearsal.again(sweep(make_spec, search, trials=6))
    new = {job.id: job.config for job in longer.run(fake(bowl)).of_kind(Kind.TRIAL)}
    assert list(new) == [f"trial-{index:02d}" for index in range(6)]
    assert {id: new[id] for id in old} == old
    assert not {id for id in longer.done if id in old}
    assert longer.log.selected is not None
    assert longer.log.selected["trial"] == max(new, key=lambda id: bowl(new[id]))


def test_a_wider_space_keeps_the_old_trials_and_draws_the_new_ones_from_it(make_spec: MakeSpec, fake: Any) -> None:
    rehearsal = Rehearsal(sweep(make_spec, "grid"))
    old = [job.config for job in rehearsal.run(fake(bowl)).of_kind(Kind.TRIAL)]
    assert len(old) == 6
    wide = {**LISTED, "slow.lr": {"grid": [0.005, 0.01, 0.02]}, "fast.lr": {"grid": [BASE["fast.lr"], 0.05]}}
    longer = rehearsal.again(sweep(make_spec, "grid", space=wide, trials=18))
    new = [job.config for job in longer.run(fake(bowl)).of_kind(Kind.TRIAL)]
    assert new[:6] == old
    points = {(config["slow.lr"], config["fast.cross_weight"], config["fast.lr"]) for config in new}
    assert len(points) == len(new) == 18


def test_staged_makes_trials_of_the_best_slow_settings_alone(make_spec: MakeSpec, fake: Any) -> None:
    spec = sweep(make_spec, "staged", trials=9, slow_candidates=7, carried=3, round_size=4)
    alone = lambda config: 1 - abs(math.log10(config["slow.lr"]) + 1.5) / 4  # noqa: E731
    log = Rehearsal(spec).run(fake(bowl, alone))
    candidates = [job.config for job in log.of_kind(Kind.SLOW)]
    assert len({config["slow.lr"] for config in candidates}) == 7
    assert {config["fast.epochs"] for config in candidates} == {0}
    assert candidates[0]["slow.lr"] == BASE["slow.lr"], "the preset's is a candidate"
    best = sorted(candidates, key=alone, reverse=True)[:3]
    trials = [job.config for job in log.of_kind(Kind.TRIAL)]
    assert {config["slow.lr"] for config in trials[1:]} == {config["slow.lr"] for config in best}
    assert {config["fast.epochs"] for config in trials} == {BASE["fast.epochs"]}
    assert len({config["fast.cross_weight"] for config in trials}) > 3
    assert not any(job.predictions for job in log.of_kind(Kind.SLOW))
    assert log.jobs["slow-00"].title == "slow 00 · slow lr 0.01"


HEADS: dict[str, Any] = {
    "slow.lr": SLOW_LR, "fast.cross_weight": FAST_LR,
    "head.kind": {"choice": ["class_means", "ridge"]}, "head.activation": {"choice": ["relu", "fourier"]},
    "head.statistics": {"choice": ["own", "shared"]},
}  # fmt: skip


def test_staged_judges_every_slow_setting_with_every_head_and_carries_the_best_one_on(
    make_spec: MakeSpec, fake: Any
) -> None:
    spec = sweep(make_spec, "staged", space=HEADS, trials=6, slow_candidates=4, carried=2, round_size=3)
    # The best head is another for small learning rates than for large ones.
    bonus = lambda config: 0.3 * ((config["head.activation"] == "fourier") == (config["slow.lr"] < 0.02))  # noqa: E731
    alone = lambda config: 0.4 + bonus(config) - abs(math.log10(config["slow.lr"]) + 1.5) / 20  # noqa: E731
    log = Rehearsal(spec).run(fake(bowl, alone))
    judged = [job.config for job in log.of_kind(Kind.SLOW)]
    kinds = [(config["head.kind"], config["head.activation"]) for config in judged]
    rates = [config["slow.lr"] for config in judged]
    heads = [("ridge", "relu"), ("class_means", "relu"), ("ridge", "fourier")]  # the trials' own first; means have none
    assert len(set(rates)) == 4
    assert rates == 3 * rates[:4]
    assert set(kinds) == set(heads)
    assert kinds[:4] == 4 * [("ridge", "relu")], "the preset's head is judged first"
    assert {config["head.statistics"] for config in judged} == {"own"}, "what needs the fast learner is not judged"
    assert len({sharing_key(validate(config), 1) for config in judged}) == 4, "heads train nothing"
    best = {rate: max((c for c in judged if c["slow.lr"] == rate), key=alone) for rate in set(rates)}
    carried = sorted(best.values(), key=alone, reverse=True)[:2]
    trials = [job.config for job in log.of_kind(Kind.TRIAL)]
    names = ("slow.lr", "head.kind", "head.activation")
    assert {tuple(c[n] for n in names) for c in trials[1:]} == {tuple(c[n] for n in names) for c in carried}
    assert {config["head.statistics"] for config in trials} == {"own", "shared"}
    assert len(log.of_kind(Kind.TRIAL)) == 6


@pytest.mark.parametrize(
    ("dataset", "space", "heads"),
    [("digits", None, 2), ("quickstart", None, 2), ("digits", Path("heads"), 14)],  # of the 14 means have two forms
)
def test_heads_in_the_space_leave_the_number_of_trainings_as_it_is(
    dataset: str, space: Path | None, heads: int
) -> None:
    def planned(**asked: Any) -> Plan:
        return plan_of(build_spec(name="a", dataset=dataset, trials=10, **asked))

    plain = planned(overrides=["runtime.device=cpu", "head.kind=ridge"])
    wide = planned(overrides=["runtime.device=cpu"], space=space)
    new = set(wide.spec.space) - set(plain.spec.space)
    assert new == {"head.kind", *(("head.activation", "head.features", "head.ridge_grid") if space else ())}
    assert (plain.slow, plain.slow_trained) == (10, 10)
    assert (wide.slow, wide.slow_trained) == (10 * heads, 10)
    assert wide.search.trained == plain.search.trained == 50
    assert wide.spec.runs == plain.spec.runs + 10 * (heads - 1)
    assert wide.search.stages["slow"] == plain.search.stages["slow"]
    frozen = 2 * 5 if "head.features" in new else 0
    assert wide.search.stages["features"] == plain.search.stages["features"] + frozen
    assert wide.search.stages["readout"] == plain.search.stages["readout"] + 10 * (heads - 1) * 5


PUBLISHED = (
    "cifar100", "imagenet_r", "imagenet_a", "cub200", "omnibenchmark", "vtab", "domainnet", "fashion_mnist",
)  # fmt: skip


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_no_head_of_the_default_space_takes_more_than_the_presets_own(dataset: str) -> None:
    """By published sizes, of memory, disk and, but for a few percent, arithmetic: it fits where the preset does."""
    kinds = read_space(None, dataset)["head.kind"]["choice"]
    taken = {}
    for kind in kinds:
        config = load_config(dataset, overrides={"data.root": "/nowhere", "head.kind": kind})
        sizes = expected_sizes(skeleton(config.backbone.name, config.backbone.image_size), config)
        need, costs = needs(config, sizes, torch.device("cpu")), session_costs(config)
        states = run_bytes(config, torch.device("cpu")).states
        taken[kind] = (need.host, states, sum(cost.slow_head_flops + cost.fast_head_flops for cost in costs))
    assert kinds[0] == load_config(dataset).head.kind == "ridge"
    for kind in kinds[1:]:
        for other, own, share in zip(taken[kind], taken["ridge"], (1.001, 1.001, 1.03), strict=True):
            assert 0 < other <= share * own, kind


def test_a_space_without_stages_is_searched_by_tpe(make_spec: MakeSpec) -> None:
    for space in ({"slow.lr": SLOW_LR}, {"fast.cross_weight": FAST_LR, "head.projection_dim": {"choice": [10, 20]}}):
        staged, tpe = (make_spec(search=search, space=space, trials=6, round_size=2) for search in ("staged", "tpe"))
        assert layout(staged) == layout(tpe)
        assert next(proposals(staged, SweepLog(staged))) == next(proposals(tpe, SweepLog(tpe)))


@pytest.mark.parametrize("search", ["tpe", "staged"])
def test_no_trial_is_proposed_twice_while_there_are_others(make_spec: MakeSpec, search: str, fake: Any) -> None:
    lists = {"slow.lr": {"grid": [0.01, 0.02, 0.03]}, "fast.cross_weight": {"grid": [0.0, 0.5, 1.0, 2.0]}}
    spec = sweep(make_spec, search, space=lists, trials=9, carried=3, slow_candidates=9)
    log = Rehearsal(spec).run(fake(bowl))
    points = [(job.config["slow.lr"], job.config["fast.cross_weight"]) for job in log.of_kind(Kind.TRIAL)]
    assert len(set(points)) == 9
    assert len(log.of_kind(Kind.SLOW)) == (3 if search == "staged" else 0), (
        "three different slow settings are all there are"
    )


ENDS = {
    "lists": ({"slow.lr": {"grid": [0.01, 0.02]}, "fast.cross_weight": {"grid": [0.0, 1.0]}}, 4),
    "whole numbers": ({"slow.epochs": {"uniform": [1, 3]}, "fast.epochs": {"zero_or_loguniform": [2, 3]}}, 9),
    "no stages": ({"fast.cross_weight": {"choice": [0.0, 1.0, 2.0]}, "fast.lr": {"choice": [0.1, 0.2]}}, 6),
    "without effect": ({"pet.kind": {"choice": ["adapter", "lora"]}, "pet.rank": {"choice": [2, 4, 8]}}, 4),
}


@pytest.mark.filterwarnings("ignore::safe.errors.Notice")  # of the run that is killed
@pytest.mark.parametrize("search", ["random", "tpe", "staged"])
@pytest.mark.parametrize("kind", ENDS)
def test_a_space_is_used_up_without_repeats_and_then_the_search_ends(
    make_spec: MakeSpec, search: str, kind: str, fake: Any
) -> None:
    space, size = ENDS[kind]

    def settings(log: SweepLog) -> list[str]:
        return [key({name: job.config[name] for name in space}) for job in log.of_kind(Kind.TRIAL)]

    for trials in (size - 1, size):
        spec = sweep(make_spec, search, space=space, trials=trials)
        made = settings(Rehearsal(spec).run(fake(bowl)))
        assert len(set(made)) == len(made) == trials, "no repeats while there is something new"
    spec = sweep(make_spec, search, space=space, trials=2 * size + 3)
    with pytest.warns(Notice, match=f"used up: {size} different trials are all there are of the {2 * size + 3} asked"):
        log = Rehearsal(spec).run(fake(bowl))
    assert len(set(settings(log))) == len(settings(log)) == size
    assert log.selected is not None, "it goes on to the choice"
    killed = Rehearsal(spec)
    with pytest.raises(KilledError):
        killed.run(fake(bowl), kill_after=size)
    with pytest.warns(Notice):
        assert settings(killed.again().run(fake(bowl))) == settings(log)


@pytest.mark.parametrize("search", ["random", "tpe", "staged"])
def test_a_wider_space_adds_only_what_is_new(make_spec: MakeSpec, search: str, fake: Any) -> None:
    lists = {"slow.lr": {"grid": [0.01, 0.02]}, "fast.cross_weight": {"grid": [0.0, 1.0]}}
    rehearsal = Rehearsal(sweep(make_spec, search, space=lists, trials=4))
    rehearsal.run(fake(bowl))
    wide = {**lists, "fast.cross_weight": {"grid": [0.0, 0.5, 1.0]}}
    log = rehearsal.again(sweep(make_spec, search, space=wide, trials=6)).run(fake(bowl))
    points = [(job.config["slow.lr"], job.config["fast.cross_weight"]) for job in log.of_kind(Kind.TRIAL)]
    assert len(set(points)) == len(points) == 6


def test_the_carried_settings_that_were_asked_for_bound_a_staged_search(make_spec: MakeSpec, fake: Any) -> None:
    space, _ = ENDS["lists"]
    with pytest.warns(Notice, match="used up: 3 different trials are all there are of the 4 asked for"):
        log = Rehearsal(sweep(make_spec, "staged", space=space, trials=4, carried=1)).run(fake(bowl))
    trials = [job.config for job in log.of_kind(Kind.TRIAL)]
    assert [config["slow.lr"] for config in trials] == [BASE["slow.lr"], 0.02, 0.02], "the preset, then the best"


@pytest.mark.parametrize("search", ["staged", "tpe", "random"])
def test_trial_0_is_the_preset_wherever_its_values_lie_in_the_space(
    make_spec: MakeSpec, search: str, fake: Any
) -> None:
    space = {"slow.lr": SLOW_LR, "fast.cross_weight": FAST_LR, "fast.lr": {"loguniform": [1e-3, 1e-1]}}
    # The preset's slow setting is the worst of all alone, so staged search carries it on to no other trial.
    log = Rehearsal(sweep(make_spec, search, space=space, trials=6, slow_candidates=6, carried=2)).run(
        fake(bowl, lambda config: abs(math.log10(config["slow.lr"] / BASE["slow.lr"])))
    )
    first, *others = (job.config for job in log.of_kind(Kind.TRIAL))
    assert first["slow.lr"] == BASE["slow.lr"]
    assert first["fast.lr"] == BASE["fast.lr"]
    assert BASE["slow.lr"] not in {config["slow.lr"] for config in others}


def test_what_a_space_holds_is_counted_where_it_has_an_end() -> None:
    assert [len(every(parse_space(space, BASE)) or ()) for space, _ in ENDS.values()] == [n for _, n in ENDS.values()]
    assert every(parse_space({"slow.lr": SLOW_LR}, BASE)) is None
    assert every(parse_space({"slow.epochs": {"uniform": [1, 2_000_000_000]}}, BASE)) is None
    with pytest.warns(Notice, match="used up: 4 different trials are all there are of the 10 asked for"):
        assert possible(10, "tpe", parse_space(ENDS["lists"][0], BASE)) == 4
    assert possible(4, "tpe", parse_space(ENDS["lists"][0], BASE)) == 4
    assert possible(10_000, "tpe", parse_space(MIXED, BASE)) == 10_000


def test_tpe_finds_more_than_chance(make_spec: MakeSpec, fake: Any) -> None:
    """The mean over seeds of the best of 24 trials on a smooth function of four settings."""
    names = ("slow.lr", "fast.lr", "slow.diag_weight", "fast.cross_weight")
    space = {name: {"loguniform": [1e-3, 1e-1]} for name in names}

    def value(config: Mapping[str, Any]) -> float:
        return 0.9 - sum(0.1 * (math.log10(config[name]) + 1.5) ** 2 for name in names)

    best = {}
    for search in ("random", "tpe"):
        bests = []
        for seed in range(8):
            spec = make_spec(search=search, space=space, trials=24, round_size=4, search_seed=seed, audit=False)
            log = Rehearsal(spec).run(fake(value))
            bests.append(max(value(job.config) for job in log.of_kind(Kind.TRIAL)))
        best[search] = sum(bests) / len(bests)
    assert 0.9 - best["tpe"] < 0.6 * (0.9 - best["random"]), best


def test_tpe_learns_the_exact_zero_and_choices_of_each_kind() -> None:
    raw = {"fast.cross_weight": FAST_LR, "pet.kind": {"choice": ["adapter", "lora"]}, "pet.rank": {"choice": [2, 4]}}
    space = parse_space(raw, BASE)
    told = [
        Observation({"fast.cross_weight": cross, "pet.kind": kind, "pet.rank": 2}, (float(kind == "lora") - cross,))
        for cross in (0.0, 0.01, 0.1, 1.0, 10.0)
        for kind in ("adapter", "lora")
    ]
    suggested = suggest(space, "seed", told, 12)
    assert sum(values["fast.cross_weight"] == 0 for values in suggested) >= 2
    assert all(values["fast.cross_weight"] in space.domains["fast.cross_weight"] for values in suggested)
    assert sum(values["pet.kind"] == "lora" for values in suggested) > 6
    assert {values["pet.rank"] for values in suggested if values["pet.kind"] == "adapter"} <= {BASE["pet.rank"]}
    assert suggest(space, "seed", told, 12) == suggested
    assert suggest(space, "other", told, 12) != suggested


def test_tpe_takes_several_objectives_and_stopped_trials() -> None:
    space = parse_space({"slow.lr": SLOW_LR, "fast.lr": SLOW_LR}, BASE)
    several = [Observation({"slow.lr": lr, "fast.lr": lr}, (lr, -lr)) for lr in (0.002, 0.01, 0.05)]
    assert len(suggest(space, "a", several, 3)) == 3
    stopped = [Observation({"slow.lr": lr, "fast.lr": lr}, (lr,), session=1, stopped=lr > 0.02) for lr in (0.01, 0.03)]
    assert len(suggest(space, "a", stopped, 3)) == 3
    nothing = Observation({"slow.lr": 0.01, "fast.lr": 0.01}, (-math.inf,))
    assert suggest(space, "a", [nothing], 2) == suggest(space, "a", [], 2)


@pytest.mark.parametrize("search", ["tpe", "staged"])
def test_settings_that_are_not_valid_together_are_not_proposed(make_spec: MakeSpec, search: str, fake: Any) -> None:
    """A schedule must be at least as long as the epochs are many."""
    space = {"slow.lr": SLOW_LR, "fast.epochs": {"uniform": [5, 20]}, "fast.schedule_epochs": {"uniform": [12, 25]}}
    base = {**BASE, "fast.epochs": 5, "fast.schedule_epochs": 25}
    for seed in range(4):
        spec = make_spec(search=search, space=space, trials=8, round_size=1, seeds=1, base=base, search_seed=seed)
        log = Rehearsal(spec).run(fake(lambda config: config["fast.epochs"] / 40))
        epochs = [(job.config["fast.epochs"], job.config["fast.schedule_epochs"]) for job in log.of_kind(Kind.TRIAL)]
        assert len(set(epochs)) > 5
        assert all(few <= many for few, many in epochs)


def test_a_grid_is_every_combination_with_settings_of_session_1_varying_fastest(make_spec: MakeSpec) -> None:
    listed = combinations(parse_space(LISTED, BASE))
    assert [(values["fast.cross_weight"], values["slow.lr"]) for values in listed] == [
        (cross, lr) for cross in (0.0, 1.0, 2.0) for lr in (0.01, 0.02)
    ]
    with pytest.raises(UserError, match=r"ranges for fast\.cross_weight, slow\.lr; list values there, or choose"):
        combinations(parse_space({"fast.cross_weight": FAST_LR, "slow.lr": SLOW_LR}, BASE))
    same = {"pet.kind": {"grid": ["adapter", "ssf"]}, "pet.bottleneck": {"grid": [16, 32]}}
    assert len(combinations(parse_space(same, BASE))) == 3, "ssf has no bottleneck"


def test_which_settings_act_in_session_1() -> None:
    first = ("slow.lr", "pet.kind", "slow.diag_weight", "backbone.weights", "data.crop_scale")
    later = ("fast.lr", "fast.cross_weight", "head.projection_dim", "aggregation.temperature", "head.logit_scale")
    assert all(map(acts_in_session_1, first))
    assert not any(map(acts_in_session_1, later))


def test_relative_paths_of_a_space_are_found_again_in_trials(
    make_spec: MakeSpec, tmp_path: Any, monkeypatch: Any, fake: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).touch()
    space = {
        "backbone.weights": {"grid": ["a.safetensors", "b.safetensors"]},
        "fast.cross_weight": {"grid": [0.0, 1.0]},
    }
    spec = make_spec(search="grid", space=space, trials=4, seeds=1)
    rehearsal = Rehearsal(spec)
    with pytest.raises(KilledError):
        rehearsal.run(fake(lambda config: config["fast.cross_weight"] / 2), kill_after=2)
    log = rehearsal.again().run(fake(lambda config: config["fast.cross_weight"] / 2))
    weights = [(job.config["backbone.weights"], job.config["fast.cross_weight"]) for job in log.of_kind(Kind.TRIAL)]
    assert len(set(weights)) == 4
    assert {path for path, _ in weights} == {str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")}


def test_proposing_brings_neither_ray_nor_torch() -> None:
    """What Ray reads at its import is set when Ray is started, so nothing may import it before."""
    code = "import sys, optuna, sweeps.search.tpe; print({'ray', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
