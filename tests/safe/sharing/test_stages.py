"""Sharing changes no bit: whatever a store holds, a run gives what it gives alone; and keys hold what matters only."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import safe
from safe import learners
from safe.config import Config, setting_names
from safe.data.sources import ArrayImages, Dataset, Domains
from safe.errors import NonFiniteLossError
from safe.heads.ridge import RidgeHead
from safe.io.sources import sources_digest
from safe.sharing.numerics import NUMERICS, numerics_digest, numerics_files
from safe.sharing.stages import KINDS, Stage, StageKeys, sharing_key
from safe.states.checkpoint import load_state, save_state
from safe.training import steps as training
from safe.training.build import build_stream
from safe.training.session_end import SessionEnd
from safe.training.trainer import SafeTrainer
from safe.types import SessionResult

Trial = Callable[..., "Outcome"]


@dataclass
class MemoryStages:
    """A store in memory whose values nobody shares; `held` are claims that are not over, `too_big` what is not kept."""

    stages: dict[tuple[str, str], Stage] = field(default_factory=dict)
    held: set[tuple[str, str]] = field(default_factory=set)
    too_big: float = float("inf")

    def claim(self, kind: str, key: str) -> MemoryClaim:
        assert (kind, key) not in self.held, "claimed twice at the same time"
        stage = copy.deepcopy(self.stages.get((kind, key)))
        if stage is None:
            self.held.add((kind, key))
        return MemoryClaim(self, (kind, key), stage)

    def try_claim(self, kind: str, key: str, size: int) -> MemoryClaim | None:
        if (kind, key) in self.held or size >= self.too_big:
            return None
        claim = self.claim(kind, key)
        claim.size = size
        return claim

    def evict(self, kinds: tuple[str, ...]) -> None:
        self.stages = {place: stage for place, stage in self.stages.items() if place[0] not in kinds}


@dataclass
class MemoryClaim:
    store: MemoryStages
    place: tuple[str, str]
    stage: Stage | None
    waited: float = 0.0
    size: int | None = None

    def put(self, value: dict[str, Any], seconds: float) -> None:
        assert self.place in self.store.held
        assert self.size is None or self.size == value["features"].nbytes
        assert self.place not in self.store.stages, "computed twice"
        self.store.stages[self.place] = Stage(copy.deepcopy(value), seconds)

    def release(self) -> None:
        self.store.held.discard(self.place)


@dataclass
class Outcome:
    results: list[SessionResult]
    states: list[dict[str, Any]]
    logits: list[dict[str, Any]]
    end: dict[str, Any]

    @property
    def training(self) -> list[str]:
        return [result.work.training for result in self.results]


@pytest.fixture(scope="module")
def domains(make_dataset: Callable[..., Dataset]) -> Dataset:
    """Return the tiny data set with its images dealt out to three domains."""
    plain = make_dataset(train=9, test=6)
    dealt = [torch.arange(len(images)) % 3 for images in (plain.train, plain.test)]
    return replace(plain, domains=Domains(("photo", "sketch", "print"), *dealt))


@pytest.fixture(scope="module")
def trainer(
    make_config: Callable[..., Config], tiny_dataset: Dataset, domains: Dataset, tiny_vit: VisionTransformer
) -> Callable[..., SafeTrainer]:
    def make(overrides: dict[str, Any], store: MemoryStages | None = None) -> SafeTrainer:
        wanted = {"pet.dropout": 0.3, **overrides}
        dataset = domains if wanted.pop("domains", False) else tiny_dataset
        return SafeTrainer(make_config(wanted), dataset, tiny_vit, stages=store)

    return make


@pytest.fixture(scope="module")
def trial(trainer: Callable[..., SafeTrainer]) -> Trial:
    def run(overrides: dict[str, Any], store: MemoryStages | None = None) -> Outcome:
        run, results, states, logits = trainer(overrides, store), [], [], []
        while not run.done:
            results.append(run.run_session())
            states.append(run.inference_state())
            logits.append(vars(run.session_logits))
        end = whole_state(run)
        assert store is None or not store.held
        return Outcome(results, states, logits, end)

    return run


def whole_state(run: SafeTrainer) -> dict[str, Any]:
    """Return a run's state once the statistics that reused readouts left out are added."""
    for name, learner in run._learners().items():
        run._session_end._add_pending(name, learner)
    return run.state_dict()


def assert_same(a: Any, b: Any, where: str = "") -> None:
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            if key != "train_seconds":
                assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def assert_equal_outcomes(a: Outcome, b: Outcome) -> None:
    assert a.results == b.results
    assert_same(a.states, b.states, "inference")
    assert_same(a.logits, b.logits, "logits")
    assert_same(a.end, b.end, "state")


# ---------------------------------------------------------------- sharing changes no bit

VARIANTS: dict[str, dict[str, Any]] = {
    "ridge": {},
    "ridge, split": {"head.ridge_choice": "split", "head.ridge_grid": [1e-3, 0.1, 10.0]},
    "uniform rows": {"fast.new_rows": "uniform", "fast.slow_rows": "zeros"},
    "class means": {"head.kind": "class_means"},
    "gaussian": {"head.kind": "gaussian"},
    "anacp": {"head.kind": "anacp"},
    "shared statistics": {"head.statistics": "shared"},
    "shared statistics, domains": {"head.statistics": "shared", "domains": True},
    "with frozen": {"head.features": "with_frozen"},
    "with frozen, shared statistics": {"head.features": "with_frozen", "head.statistics": "shared"},
    "with frozen, means, slow only": {"head.features": "with_frozen", "head.kind": "class_means", "fast.epochs": 0},
    "with slow": {"head.features": "with_slow"},
    "with slow, means": {"head.features": "with_slow", "head.kind": "class_means"},
    "with slow, domains": {"head.features": "with_slow", "domains": True},
    "cosine": {"head.kind": "cosine"},
    "cosine, slow only": {"head.kind": "cosine", "fast.epochs": 0},
    "cosine, full": {"head.kind": "cosine", "pet.kind": "full"},
    "cosine, head alone": {"head.kind": "cosine", "pet.kind": "none"},
    "slow only": {"fast.epochs": 0},
    "no slow epochs": {"slow.epochs": 0},
    "nothing trained": {"slow.epochs": 0, "fast.epochs": 0, "pet.kind": "none"},
    "domains": {"domains": True},
    "domains, holdout": {"domains": True, "data.evaluate_on": "holdout", "data.holdout_share": 0.3},
}
TRAINING, DERIVED = ("slow", "fast"), ("features", "readout", "logits")
TWO = [("readout", "features"), ("logits", "features")]
ALL_BUT_VIEWS = (*TRAINING, *DERIVED)
EVICTED = [*((kind,) for kind in KINDS), TRAINING, DERIVED, *TWO, ALL_BUT_VIEWS]


@pytest.mark.parametrize("overrides", VARIANTS.values(), ids=VARIANTS)
def test_off_cold_and_warm_are_the_same(trial: Trial, overrides: dict[str, Any]) -> None:
    store = MemoryStages()
    alone, cold, warm = trial(overrides), trial(overrides, store), trial(overrides, store)
    assert_equal_outcomes(cold, alone)
    assert_equal_outcomes(warm, alone)
    shared = {"trained": "reused", "none": "none"}
    assert warm.training == [shared[training] for training in alone.training] == [shared[t] for t in cold.training]
    for result in warm.results:
        assert all(counts["computed"] == 0 for counts in result.work.stages.values())
    kinds = {kind for kind, _ in store.stages}
    assert kinds >= {"features", "logits"}


def test_training_and_test_images_in_the_same_places_have_features_of_their_own(
    make_config: Callable[..., Config], make_dataset: Callable[..., Dataset], tiny_vit: VisionTransformer
) -> None:
    """As where a folder has as many test as training images a class: number and class of an image say nothing then."""
    plain = make_dataset(train=6, test=6)
    places = [images.labels.argsort(stable=True) for images in (plain.train, plain.test)]
    train, test = (
        ArrayImages(images.pixels[place], images.labels[place])
        for images, place in zip((plain.train, plain.test), places, strict=True)
    )
    dataset, config = replace(plain, train=train, test=test), make_config({"head.features": "with_frozen"})
    alone, sharing = SafeTrainer(config, dataset, tiny_vit), SafeTrainer(config, dataset, tiny_vit, MemoryStages())
    while not alone.done:
        assert alone.run_session().metrics == sharing.run_session().metrics
        assert_same(vars(alone.session_logits), vars(sharing.session_logits))


@pytest.mark.parametrize(
    "variant",
    ["ridge", "cosine", "class means", "slow only", "domains", "shared statistics", "with frozen", "with slow"],
)
def test_a_partly_evicted_store_changes_nothing(trial: Trial, variant: str) -> None:
    alone = trial(VARIANTS[variant])
    full = MemoryStages()
    trial(VARIANTS[variant], full)
    draw = random.Random(0)
    for kinds in EVICTED if variant == "ridge" else [DERIVED, *TWO]:
        store = copy.deepcopy(full)
        store.evict(kinds)
        assert_equal_outcomes(trial(VARIANTS[variant], store), alone)
    for _ in range(4):
        store = copy.deepcopy(full)
        for place in draw.sample(sorted(store.stages), len(store.stages) // 2):
            del store.stages[place]
        assert_equal_outcomes(trial(VARIANTS[variant], store), alone)


TRIALS: list[dict[str, Any]] = [
    {},
    {"fast.lr": 0.02},
    {"slow.diag_weight": 0.5, "fast.lr": 0.02},
    {"head.projection_dim": 0},
    {"data.evaluate_on": "holdout"},
    {"fast.epochs": 0},
]


def test_the_order_of_trials_changes_nothing(trial: Trial) -> None:
    trials = [{"data.holdout_share": 0.25, **one} for one in TRIALS]
    alone = [trial(one) for one in trials]
    for seed in (None, 1, 2):
        order = list(range(len(trials)))
        if seed is not None:
            random.Random(seed).shuffle(order)
        store, trained = MemoryStages(), 0
        for place in order:
            outcome = trial(trials[place], store)
            assert_equal_outcomes(outcome, alone[place])
            trained += outcome.training.count("trained")
        # Two slow settings; of the others, three distinct fast ones in two later sessions each.
        assert trained == 2 + 3 * 2


def test_an_audit_on_test_images_trains_nothing(trial: Trial) -> None:
    store = MemoryStages()
    chosen = {"data.holdout_share": 0.25}
    trial({**chosen, "data.evaluate_on": "holdout"}, store)
    audit = trial({**chosen, "data.evaluate_on": "test"}, store)
    assert audit.training == ["reused"] * 3
    assert {kind: {name: n for name, n in counts.items() if name in ("computed", "reused")} for kind, counts in
            audit.results[0].work.stages.items()} == {
        "slow": {"computed": 0, "reused": 1}, "readout": {"computed": 0, "reused": 1},
        "features": {"computed": 1, "reused": 0}, "logits": {"computed": 1, "reused": 0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "evicted"),
    [
        (variant, evicted)
        for variant in ("ridge", "cosine, slow only", "shared statistics", "with slow")
        for evicted in (KINDS, ())
    ]
    + [("ridge", ALL_BUT_VIEWS)],
)
def test_a_run_resumed_anywhere_with_or_without_a_store_is_the_uninterrupted_one(
    trial: Trial, trainer: Callable[..., SafeTrainer], tmp_path: Path, variant: str, evicted: tuple[str, ...]
) -> None:
    overrides, filled, warm = VARIANTS[variant], MemoryStages(), not evicted
    alone = trial(overrides, filled)
    if evicted == ALL_BUT_VIEWS:
        filled.evict(evicted)
    run = trainer(overrides, MemoryStages() if evicted == KINDS else copy.deepcopy(filled))
    saved = []
    while not run.done:
        saved.append(tmp_path / f"{len(saved)}.state")
        save_state(run.state_dict(), saved[-1])
        run.advance()
    assert len(saved) == (3 if warm else sum(len(result.losses) + 1 for result in alone.results))
    for path, store in itertools.product(saved, (None, MemoryStages(), filled) if warm else (None, filled)):
        resumed = trainer(overrides, copy.deepcopy(store))
        resumed.load_state_dict(load_state(path))
        rest = []
        while not resumed.done:
            rest.append(resumed.run_session())
        assert rest == alone.results[-len(rest) :]
        assert_same(whole_state(resumed), alone.end)
        assert_same(resumed.inference_state(), alone.states[-1])


def test_states_at_every_boundary_are_those_of_a_run_without_a_store(trainer: Callable[..., SafeTrainer]) -> None:
    """Statistics that a reused readout left out are the same whether they are added session after session or late."""
    store = MemoryStages()
    alone, cold = trainer({}), trainer({}, store)
    expected = []
    while not alone.done:
        alone.run_session()
        cold.run_session()
        expected.append(alone.state_dict())
        assert_same(whole_state(cold), expected[-1])
    every, late = trainer({}, store), trainer({}, store)
    for state in expected:
        every.run_session()
        late.run_session()
        assert_same(whole_state(every), state)
    assert_same(whole_state(late), expected[-1])


@pytest.mark.parametrize("variant", ["ridge", "gaussian", "anacp", "shared statistics", "with slow"])
def test_a_run_that_finds_everything_adds_nothing_up_and_its_state_says_what_lacks(
    trial: Trial, trainer: Callable[..., SafeTrainer], monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    store = MemoryStages()
    alone = trial(VARIANTS[variant], store)
    with monkeypatch.context() as patched:
        patched.setattr(SessionEnd, "_add_pending", lambda *_: pytest.fail("statistics that nobody needs"))
        warm, states = trainer(VARIANTS[variant], store), []
        while not warm.done:
            warm.run_session()
            states.append(warm.state_dict())
    lacking = [[index for index, _ in state["pending"]["fast"]] for state in states]
    assert lacking == [[1], [1, 2], [1, 2, 3]]
    if "gram" in (head := states[-1]["learners"]["fast"]["closed"]):
        assert head["gram"] == []
    for state in states:
        resumed = trainer(VARIANTS[variant])
        resumed.load_state_dict(copy.deepcopy(state))
        while not resumed.done:
            assert resumed.run_session() == alone.results[resumed.session - 1]
        assert_same(whole_state(resumed), alone.end)


def test_where_all_logits_are_there_no_image_is_looked_at(
    trial: Trial, trainer: Callable[..., SafeTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStages()
    trial({}, store)
    store.evict(("features",))
    run = trainer({}, store)

    def fail(*arguments: Any) -> Any:
        raise AssertionError("nothing has to be computed")

    monkeypatch.setattr(RidgeHead, "accumulate", fail)
    monkeypatch.setattr(RidgeHead, "update", fail)
    monkeypatch.setattr(type(run._features), "__call__", fail)
    monkeypatch.setattr(training, "train_epoch", fail)
    monkeypatch.setattr(learners.learner.Learner, "logits", fail)
    while not run.done:
        run.run_session()
        run.inference_state()


# ---------------------------------------------------------------- the account


def test_a_grid_trains_each_distinct_session_once(trial: Trial) -> None:
    """3 slow settings by 2 fast ones over 3 sessions: 3 first sessions and 3 * 2 * 2 later ones of 18."""
    store, training = MemoryStages(), []
    for diag, cross in itertools.product([0.0, 0.1, 1.0], [0.0, 1.0]):
        training += trial({"slow.diag_weight": diag, "fast.cross_weight": cross}, store).training
    assert training.count("trained") == 3 + 3 * 2 * 2
    assert training.count("reused") == 3
    assert sum(kind == "slow" for kind, _ in store.stages) == 3
    assert sum(kind == "fast" for kind, _ in store.stages) == 12


@pytest.mark.parametrize(("epochs", "distinct"), [(2, 4 + 16 * 4), (0, 4)])
def test_a_plan_counts_the_same_before_anything_runs(
    make_config: Callable[..., Config], epochs: int, distinct: int
) -> None:
    grid = itertools.product([0.0, 0.1, 1.0, 2.0], [0.0, 0.1, 1.0, 2.0], [0.1, 1.0, 10.0])
    configs = [
        make_config({
            "slow.diag_weight": diag, "fast.cross_weight": cross, "fast.epochs": epochs, "aggregation.temperature": tau,
        })
        for diag, cross, tau in grid
    ]  # fmt: skip
    assert len({sharing_key(config, session) for config in configs for session in range(1, 6)}) == distinct


def test_the_account_adds_up(trial: Trial) -> None:
    store = MemoryStages()
    cold, warm = trial({}, store), trial({}, store)
    within = ("features", "views")  # what other stages are made of, and what is not asked for where those are there
    cost = sum(stage.seconds for (kind, _), stage in store.stages.items() if kind not in within)
    assert sum(result.work.saved_seconds for result in warm.results) == pytest.approx(cost)
    for one, other in zip(cold.results, warm.results, strict=True):
        assert other.work.seconds > 0
        assert one.work.saved_seconds == one.work.waited_seconds == 0
        computed = {kind: counts["computed"] for kind, counts in one.work.stages.items()}
        reused = {kind: counts["reused"] for kind, counts in other.work.stages.items()}
        assert {k: n for k, n in computed.items() if k not in within} == {k: n for k, n in reused.items() if n}
    fast = {kind: counts["computed"] for kind, counts in cold.results[1].work.stages.items()}
    # Features: both learners' training images; evaluation of the slow one's new group and of all the fast one's.
    assert fast == {"features": 4, "fast": 1, "readout": 2, "logits": 2, "views": 2}


def test_no_second_is_counted_twice(trial: Trial) -> None:
    store = MemoryStages()
    cold = trial(VARIANTS["uniform rows"], store)
    cost = sum(stage.seconds for (kind, _), stage in store.stages.items() if kind == "views")
    store.evict(ALL_BUT_VIEWS)
    warm = trial(VARIANTS["uniform rows"], store)
    for result in (*cold.results, *warm.results):
        assert sum(counts["seconds"] for counts in result.work.stages.values()) <= result.work.seconds
    assert sum(result.work.saved_seconds for result in warm.results) == pytest.approx(cost)


def test_the_account_begins_anew_with_a_loaded_state(trainer: Callable[..., SafeTrainer]) -> None:
    run = trainer({})
    state = run.state_dict()
    run.advance()
    run.load_state_dict(state)
    assert {kind: counts["computed"] for kind, counts in run.run_session().work.stages.items()} == {
        "views": 2, "slow": 1, "features": 2, "readout": 1, "logits": 1,
    }  # fmt: skip


@pytest.mark.parametrize("overrides", [{"slow.lr": 1e30}, {"fast.lr": 1e30}, {"head.kind": "cosine", "fast.lr": 1e30}])
def test_a_run_that_diverges_leaves_nothing_claimed_and_nothing_false(trial: Trial, overrides: dict[str, Any]) -> None:
    store = MemoryStages()
    told = []
    for _ in range(2):
        with pytest.raises(NonFiniteLossError) as error:
            trial(overrides, store)
        told.append(str(error.value))
        assert not store.held
    assert told[0] == told[1]


def test_a_closed_trainer_leaves_its_gradient_steps_to_others(trainer: Callable[..., SafeTrainer]) -> None:
    store = MemoryStages()
    first, second = trainer({}, store), trainer({}, store)
    first.advance()
    assert len(store.held) == 1
    first.close()
    assert not store.held
    theirs = second.run_session()
    assert theirs.work.training == "trained"
    mine = first.run_session()
    assert (mine.work.training, mine) == ("reused", theirs)
    assert not store.held


# ---------------------------------------------------------------- views of the frozen networks


def views_of(outcome: Outcome) -> list[tuple[int, int]]:
    """Return for each session how many epochs of views were computed and reused."""
    counted = [result.work.stages.get("views", {"computed": 0, "reused": 0}) for result in outcome.results]
    return [(int(counts["computed"]), int(counts["reused"])) for counts in counted]


@pytest.mark.parametrize(
    "overrides",
    [{}, {"runtime.micro_batch": 3}, {"runtime.precision": "bf16"}, VARIANTS["cosine, full"], VARIANTS["domains"]],
    ids=["ridge", "micro-batches", "bf16", "full", "domains"],
)
def test_kept_views_change_no_bit(trial: Trial, overrides: dict[str, Any]) -> None:
    store = MemoryStages()
    alone, cold = trial(overrides), trial(overrides, store)
    store.evict(ALL_BUT_VIEWS)
    warm = trial(overrides, store)
    assert_equal_outcomes(cold, alone)
    assert_equal_outcomes(warm, alone)
    assert views_of(alone) == views_of(cold) == [(2, 0)] * 3
    assert views_of(warm) == [(0, 2)] * 3
    assert warm.training == ["trained"] * 3


# Change of a setting -> epochs of views computed and reused in sessions 1 and 2 after a run without the change.
SHARED: list[tuple[dict[str, Any], tuple[int, int], tuple[int, int]]] = [
    ({"slow.diag_weight": 1.0}, (0, 2), (2, 0)),
    ({"pet.bottleneck": 2, "slow.epochs": 3}, (1, 2), (2, 0)),
    ({"fast.cross_weight": 0.5}, (0, 0), (0, 2)),  # session 1 has no gradient steps here
    ({"fast.feature_weight": 0.0, "fast.epochs": 3}, (0, 0), (1, 2)),
    ({"fast.batch_size": 5}, (0, 0), (2, 0)),
    ({"slow.batch_size": 5}, (2, 0), (2, 0)),
    ({"seed": 1}, (2, 0), (2, 0)),
    ({"data.crop_scale": [0.4, 1.0]}, (2, 0), (2, 0)),
    ({"runtime.micro_batch": 3}, (2, 0), (2, 0)),
]


@pytest.mark.parametrize(("change", "first", "second"), SHARED, ids=[",".join(change) for change, _, _ in SHARED])
def test_trials_that_see_the_same_views_share_them(
    trial: Trial, change: dict[str, Any], first: tuple[int, int], second: tuple[int, int]
) -> None:
    store = MemoryStages()
    trial({}, store)
    other = trial(change, store)
    assert views_of(other)[:2] == [first, second]
    assert_equal_outcomes(other, trial(change))


def test_views_that_no_term_needs_are_neither_asked_for_nor_computed(trial: Trial) -> None:
    weights = ("slow.diag_weight", "slow.offdiag_weight", "fast.feature_weight", "fast.cross_weight")
    store = MemoryStages()
    assert views_of(trial(dict.fromkeys(weights, 0.0), store)) == [(0, 0)] * 3
    assert not [key for kind, key in store.stages if kind == "views"]


def test_views_that_another_run_is_computing_are_not_waited_for(
    trial: Trial, trainer: Callable[..., SafeTrainer]
) -> None:
    store, alone = MemoryStages(), trial({})
    run = trainer({}, store)
    theirs = store.try_claim("views", run.inputs.stage_keys("views", learner="ptm", session=1, epoch=1), 0)
    assert theirs is not None
    results = []
    while not run.done:
        results.append(run.run_session())
    assert store.held == {theirs.place}
    assert sum(kind == "views" for kind, _ in store.stages) == 2 * 3 - 1
    assert theirs.place not in store.stages
    assert results == alone.results
    assert_same(run.state_dict(), alone.end)


def test_views_that_are_too_big_are_not_kept(trial: Trial) -> None:
    images, width = 16, 16
    store = MemoryStages(too_big=4 * images * width)
    assert_equal_outcomes(trial({}, store), trial({}))
    assert not [key for kind, key in store.stages if kind == "views"]


def test_an_interrupted_epoch_leaves_no_views_and_nothing_claimed(
    trainer: Callable[..., SafeTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, batches = MemoryStages(), []
    run, terms = trainer({}, store), training.GradientSteps.terms

    def interrupted(*arguments: Any) -> Any:
        batches.append(len(store.held))
        if len(batches) == 4:  # the second epoch's second batch
            raise KeyboardInterrupt
        return terms(*arguments)

    monkeypatch.setattr(training.GradientSteps, "terms", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.run_session()
    assert batches == [1, 2, 1, 2], "the session's training, and from the first batch on the epoch's views"
    assert not store.held
    assert [kind for kind, _ in store.stages] == ["views"]


# ---------------------------------------------------------------- keys hold what matters, and nothing else

ALL, NOTHING = "all", "nothing"
# Setting -> another value than the base's, and the stages that it must tell apart.
DEPTHS: dict[str, tuple[Any, str]] = {
    "dataset": ("glyphs", NOTHING),  # the digest of the data says more
    "seed": (1, ALL),
    "class_order_seed": (1, ALL),
    "data.root": ("elsewhere", NOTHING),
    "data.init_classes": (3, ALL),
    "data.increment": (1, "after session 1"),
    "data.sessions": ([1, 2, 3], ALL),
    "data.scenario": ("class", NOTHING),  # where the data set has no domains
    "data.class_order": ("natural", ALL),
    "data.evaluate_on": ("holdout", "evaluation"),
    "data.holdout_share": (0.5, ALL),
    "data.holdout_seed": (1, ALL),
    "data.crop_scale": ([0.4, 1.0], ALL),
    "data.crop_ratio": ([0.8, 1.25], ALL),
    "data.horizontal_flip": (0.0, ALL),
    "backbone.name": ("vit_tiny_patch16_224.augreg_in21k", ALL),
    "backbone.weights": ("random", NOTHING),  # their digest says more
    "backbone.image_size": (32, ALL),
    "backbone.input_norm": ("none", ALL),
    "backbone.crop_pct": (0.5, "all but slow training and views"),
    "pet.kind": ("ssf", "tuning"),
    "pet.bottleneck": (2, "tuning"),
    "pet.scale": (0.5, "tuning"),
    "pet.dropout": (0.0, "tuning"),
    "pet.prompts": (2, NOTHING),  # of another kind, as the next two
    "pet.rank": (2, NOTHING),
    "pet.alpha": (2.0, NOTHING),
    "slow.epochs": (3, "tuning"),
    "slow.schedule_epochs": (9, "tuning"),
    "slow.batch_size": (5, ALL),
    "slow.lr": (0.01, "tuning"),
    "slow.momentum": (0.5, "tuning"),
    "slow.weight_decay": (0.1, "tuning"),
    "slow.diag_weight": (1.0, "tuning"),
    "slow.offdiag_weight": (1.0, "tuning"),
    "slow.correlation": ("batch", "tuning"),
    "fast.epochs": (3, "fast"),
    "fast.schedule_epochs": (9, "fast"),
    "fast.batch_size": (5, "fast and its views"),
    "fast.lr": (0.01, "fast"),
    "fast.momentum": (0.5, "fast"),
    "fast.weight_decay": (0.1, "fast"),
    "fast.feature_weight": (0.5, "fast"),
    "fast.cross_weight": (0.5, "fast"),
    "fast.new_rows": ("uniform", "fast"),
    "fast.slow_rows": ("zeros", "fast"),
    "head.kind": ("class_means", "heads"),
    "head.projection_dim": (12, "heads"),
    "head.projection_seed": (3, "heads"),
    "head.projection_density": (0.5, "heads"),
    "head.activation": ("topk", "heads"),
    "head.activation_share": (0.5, "heads"),
    "head.fourier_gamma": (2.0, "heads"),
    "head.covariance": ("per_class", NOTHING),  # of other kinds, as the next
    "head.shrinkage": (0.5, NOTHING),
    "head.features": ("with_frozen", "heads"),
    "head.statistics": ("shared", "heads after session 1"),
    "head.anacp_layers": (2, NOTHING),
    "head.anacp_draws": (5, NOTHING),
    "head.anacp_spread": (0.0, NOTHING),
    "head.ridge_grid": ([2.0], "heads"),
    "head.ridge_split": (0.5, "heads"),
    "head.ridge_choice": ("split", "heads"),
    "head.logit_scale": (2.0, NOTHING),
    "aggregation.kind": ("mean", NOTHING),
    "aggregation.temperature": (0.1, NOTHING),
    "runtime.device": ("auto", NOTHING),  # the device's kind says more, as do the next two's outcomes
    "runtime.threads": (1, NOTHING),
    "runtime.precision": ("float32", NOTHING),
    "runtime.eval_batch_size": (5, "all but slow training and views"),
    "runtime.deterministic": (True, ALL),
    "runtime.micro_batch": (3, ALL),
}
BASE = {"data.holdout_share": 0.25}
Where = tuple[str, str, int, str, int | None]


def places(sessions: int = 3) -> list[Where]:
    """Return every stage of a class-incremental run as (kind, learner, session, split, group or epoch)."""
    later = range(2, sessions + 1)
    listed: list[Where] = [("slow", "slow", 1, "train", None)]
    listed += [("fast", "fast", t, "train", None) for t in later]
    listed += [("features", "slow", 1, split, g) for split in ("train", "evaluation") for g in (1, *later)]
    listed += [("features", "fast", t, "train", t) for t in later]
    listed += [("features", "fast", t, "evaluation", None) for t in later]
    listed += [("views", "ptm" if t == 1 else "slow", t, "train", epoch) for t in (1, *later) for epoch in (0, 1)]
    for kind in ("readout", "logits"):
        listed += [(kind, "slow", t, "train", None) for t in (1, *later)]
        listed += [(kind, "fast", t, "train", None) for t in later]
    return listed


def affected(depth: str, place: Where) -> bool:
    kind, learner, session, split, group = place
    return {
        ALL: True,
        NOTHING: False,
        "tuning": learner != "ptm",
        "all but slow training and views": kind not in ("slow", "views"),
        "after session 1": max(session, group or 1) > 1,
        "fast": learner == "fast",
        "fast and its views": learner == "fast" or (kind == "views" and session > 1),
        "heads": kind in ("readout", "logits"),
        "heads after session 1": kind in ("readout", "logits") and session > 1,
        "evaluation": kind == "logits" or split == "evaluation",
    }[depth]


def keys_of(config: Config, dataset: Dataset, **changes: Any) -> dict[Where, str]:
    facts = {"data": dataset.digest, "weights": "w", "device": torch.device("cpu"), "precision": "float32", **changes}
    keys = StageKeys(config, build_stream(config, dataset), **facts)
    return {
        (kind, learner, session, split, last): keys(
            kind, learner=learner, session=session, split=split, **{"epoch" if kind == "views" else "group": last}
        )
        for kind, learner, session, split, last in places()
    }


def test_the_table_has_every_setting() -> None:
    """A new setting needs a line: where does it act first? What `safe.sharing.stages` leaves out counts from 1 on."""
    assert set(DEPTHS) == set(setting_names())


@pytest.mark.parametrize("name", DEPTHS)
def test_a_setting_changes_the_keys_of_its_depth_and_no_other(
    make_config: Callable[..., Config], tiny_dataset: Dataset, name: str
) -> None:
    value, depth = DEPTHS[name]
    base, other = make_config(BASE), make_config({**BASE, name: value})
    assert base.flat()[name] != other.flat()[name]
    before, after = (keys_of(config, tiny_dataset) for config in (base, other))
    assert len(set(before.values())) == len(before)
    changed = {place for place in before if before[place] != after[place]}
    assert changed == {place for place in before if affected(depth, place)}


def test_the_frozen_networks_features_hang_on_the_network_and_on_the_images_alone(
    make_config: Callable[..., Config], tiny_dataset: Dataset
) -> None:
    def known(config: Config) -> dict[tuple[str, int], tuple[str, list[int]]]:
        stream = build_stream(config, tiny_dataset)
        keys = StageKeys(config, stream, data="d", weights="w", device=torch.device("cpu"), precision="float32")
        return {
            (split, s.index): (
                keys("features", learner="ptm", session=1, split=split, group=s.index),
                [s.known, s.seen, *(s.train if split == "train" else s.evaluation).index.tolist()],
            )
            for s in stream.sessions
            for split in ("train", "evaluation")
        }

    seen = {"backbone.name", "backbone.image_size", "backbone.input_norm", "backbone.crop_pct"}
    computed = {"runtime.eval_batch_size", "runtime.deterministic"}
    before = known(make_config(BASE))
    for name, (value, _) in DEPTHS.items():
        after = known(make_config({**BASE, name: value}))
        for place in before.keys() & after.keys():
            other = name in seen | computed or before[place][1] != after[place][1]
            assert (before[place][0] != after[place][0]) == other, (name, place)


def test_classes_and_sessions_share_by_what_they_come_to_however_they_are_said(
    make_config: Callable[..., Config], tiny_dataset: Dataset
) -> None:
    seeded = make_config(BASE)
    order = [tiny_dataset.classes[number] for number in build_stream(seeded, tiny_dataset).order]
    said = make_config({**BASE, "data.class_order": order, "data.sessions": [2, 2, 2], "class_order_seed": 7})
    assert keys_of(said, tiny_dataset) == keys_of(seeded, tiny_dataset)
    others = make_config({**BASE, "data.class_order": [*order[:4], order[5], order[4]]})
    before, after = keys_of(seeded, tiny_dataset), keys_of(others, tiny_dataset)
    assert before["slow", "slow", 1, "train", None] == after["slow", "slow", 1, "train", None]
    assert before["fast", "fast", 2, "train", None] == after["fast", "fast", 2, "train", None]
    assert before["fast", "fast", 3, "train", None] != after["fast", "fast", 3, "train", None]


@pytest.fixture(scope="module")
def filled(trial: Trial) -> MemoryStages:
    store = MemoryStages()
    trial(BASE, store)
    return store


@pytest.mark.parametrize("name", [name for name, (_, depth) in DEPTHS.items() if depth != ALL])
def test_stages_of_equal_keys_hold_the_same_bits(trial: Trial, filled: MemoryStages, name: str) -> None:
    """What is claimed not to matter really does not: two runs that differ in it fill their own stores alike."""
    one, other = filled, MemoryStages()
    trial({**BASE, name: DEPTHS[name][0]}, other)
    common = one.stages.keys() & other.stages.keys()
    assert len(common) == sum(not affected(DEPTHS[name][1], place) for place in places())
    for place in common:
        assert_same(one.stages[place].value, other.stages[place].value, place[0])


@pytest.mark.parametrize("change", ["data", "weights", "precision"])
def test_facts_are_in_every_key(make_config: Callable[..., Config], tiny_dataset: Dataset, change: str) -> None:
    before, after = keys_of(make_config(), tiny_dataset), keys_of(make_config(), tiny_dataset, **{change: "other"})
    assert not set(before.values()) & set(after.values())


def test_thread_count_and_code_are_in_every_key(
    make_config: Callable[..., Config], tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = [set(keys_of(make_config(), tiny_dataset).values())]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 97)
    seen.append(set(keys_of(make_config(), tiny_dataset).values()))
    monkeypatch.setattr("safe.sharing.stages.numerics_digest", lambda: "other code")
    seen.append(set(keys_of(make_config(), tiny_dataset).values()))
    assert len(set.union(*seen)) == 3 * len(places())


def test_settings_without_effect_are_in_no_key(make_config: Callable[..., Config], tiny_dataset: Dataset) -> None:
    for still, idle in (
        ({"pet.kind": "lora"}, {"pet.bottleneck": 2, "pet.dropout": 0.5, "pet.prompts": 9}),
        ({"slow.epochs": 0}, {"slow.lr": 1.0, "slow.diag_weight": 3.0, "slow.schedule_epochs": 7}),
        ({"head.kind": "class_means"}, {"head.projection_dim": 7, "head.ridge_grid": [3.0]}),
        ({"fast.epochs": 0}, {"fast.lr": 1.0, "fast.cross_weight": 3.0, "fast.slow_rows": "zeros"}),
    ):
        assert keys_of(make_config(still), tiny_dataset) == keys_of(make_config({**still, **idle}), tiny_dataset)


def test_rows_that_predict_are_in_the_slow_learners_keys(
    make_config: Callable[..., Config], tiny_dataset: Dataset
) -> None:
    one, other = (
        keys_of(make_config({"head.kind": "cosine", "fast.slow_rows": rows}), tiny_dataset)
        for rows in ("imprint", "zeros")
    )
    changed = {place for place in one if one[place] != other[place]}
    assert changed == {p for p in one if p[1] == "fast" or (p[0] in ("readout", "logits") and p[2] > 1)}


def test_domains_tell_streams_apart(make_config: Callable[..., Config], domains: Dataset) -> None:
    one, other = (keys_of(make_config({"data.scenario": scenario}), domains) for scenario in ("auto", "class"))
    assert not set(one.values()) & set(other.values())


# ---------------------------------------------------------------- the code's digest

# Modules of `safe` on which no stage depends, a package for all of its own: they judge, check, show, fetch, or build on
# finished logits.
OTHERS = {
    "", "__main__", "cli", "datasets", "errors", "io", "predictor", "states", "types",
    # What settings say is in the keys.
    "config.__init__", "config.described", "config.heads", "config.loading", "config.marks", "config.section",
    "config.settings", "config.values",
    "evaluation.__init__", "evaluation.aggregation", "evaluation.image_metrics", "evaluation.metrics",
    "evaluation.session_metrics", "training.__init__", "training.cost", "training.memory", "training.pretrain",
    "training.resources", "training.watch",
    # The digest of a data set and the images of every session say what these gave.
    "data.__init__", "data.__main__", "data.benchmarks", "data.check", "data.decoder", "data.fetching", "data.folders",
    "data.loading", "data.sessions", "data.split",
}  # fmt: skip


def test_every_module_is_known_to_matter_or_not() -> None:
    root = Path(safe.__file__).parent
    files = {path.relative_to(root).as_posix() for path in root.rglob("*.py")}
    others = {name for name in files if any(_below(_module(name), other) for other in OTHERS)}
    numerics = set(numerics_files())
    assert not numerics & others
    assert files - numerics - others == set(), (
        "add it to safe.sharing.numerics.NUMERICS, or here if no stage depends on it"
    )
    assert {"training/trainer.py", "heads/ridge.py", "pet/adapter.py", "learners/fast.py"} <= numerics
    assert all((root / name).is_file() for name in numerics)
    assert len(NUMERICS) == len(set(NUMERICS))


def _module(file: str) -> str:
    return "" if file == "__init__.py" else file.removesuffix(".py").replace("/", ".")


def _below(module: str, package: str) -> bool:
    return module == package or (package != "" and module.startswith(f"{package}."))


def test_words_and_layout_do_not_change_the_digest_and_numbers_do() -> None:
    code = 'def f(x):\n    """Say."""\n    return 2 * x\n'
    same = ['"""A module."""\n# a comment\ndef f(x):\n\n    return (2 * x)\n', code]
    other = ["def f(x):\n    return 3 * x\n", "def f(x):\n    return 2 * x + 0\n", "def g(x):\n    return 2 * x\n"]
    digests = [sources_digest([("m", text)]) for text in (*same, *other)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4
    assert sources_digest([("n", code)]) != digests[1]
    assert numerics_digest() == numerics_digest()
