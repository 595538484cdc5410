"""The search benchmark: truth and noise of its table, what a rehearsal pays for, and what it is judged by."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from safe.errors import UserError
from sweeps.ledger.jobs import SEARCH_KINDS, Kind

IMAGES = 150


@pytest.fixture(scope="module", autouse=True)
def checkout() -> Iterator[None]:
    """Benchmarks are installed nowhere."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    yield
    sys.path.remove(str(Path(__file__).parents[1]))


@pytest.fixture(scope="module")
def search() -> ModuleType:
    from benchmarks import search

    return search


def lines(*, noise: int = 0, seeds: tuple[int, ...] = (0, 1), classes: int = 0) -> list[dict[str, str]]:
    """Tables of 90 correct pictures of 150, 10 more for each good setting; slow learners have luck with a seed."""
    from benchmarks.tabulate import GRID, combinations

    made = []
    frozen: tuple[str, dict[str, float]] = ("frozen", dict.fromkeys(GRID, 0.0))
    for seed in seeds:
        for kind, settings in [frozen, *(("trial", one) for one in combinations())]:
            luck = noise * seed * (1 if settings["slow.offdiag_weight"] else -1) * (kind == "trial")
            slow = 90 + 10 * (settings["slow.diag_weight"] == 0.1) + luck
            fast = 10 * (settings["fast.feature_weight"] == 24.0) + 10 * (settings["fast.cross_weight"] == 1.0)
            right = [slow + fast - 2, slow + fast, slow + fast - 1, slow]
            sessions = [right[-1:] * 4, right, right]  # in session 1 the learners are one
            correct = ";".join(
                "/".join(" ".join([str(n)] * number) for n in places) for number, places in enumerate(sessions, start=1)
            )
            where = {"classes": str(classes), "seed": str(seed), "kind": kind}
            made.append({**where, **{name: str(value) for name, value in settings.items()}, "correct": correct})
    return made


@pytest.fixture
def table(search: Any) -> Any:
    def of(made: list[dict[str, str]]) -> Any:
        return search.Table(search.STREAMS["glyphs"], made)

    return of


CONFIG = {
    "pet.kind": "adapter",
    "fast.epochs": 3,
    "slow.offdiag_weight": 1.0,
    "slow.diag_weight": 0.1,
    "fast.feature_weight": 24.0,
    "fast.cross_weight": 1.0,
}
ENTROPY = {"aggregation.kind": "entropy", "aggregation.temperature": 1.0}


def test_the_truth_is_the_mean_over_the_seeds(search: Any, table: Any) -> None:
    whole = table(lines(noise=3))
    assert whole.seeds == [0, 1]
    best = (100 + 2 * 120 + 3 * 1.5) / 3 / IMAGES  # with the second seed it has 3 more in every session
    assert whole.best == pytest.approx(best)
    assert whole.regret(CONFIG, ENTROPY) == pytest.approx(0)
    assert whole.regret(CONFIG, {**ENTROPY, "aggregation.temperature": 0.1}) == pytest.approx(2 * 2 / 3 / IMAGES)
    ranpac = {**CONFIG, "slow.diag_weight": 0.0, "slow.offdiag_weight": 0.0, "fast.epochs": 0}
    assert whole.regret(ranpac, {**ENTROPY, "aggregation.kind": "slow"}) == pytest.approx(best - (90 - 1.5) / IMAGES)
    # The frozen head is written as a trial of the first combination, without luck.
    assert whole.regret({**CONFIG, "pet.kind": "none"}, ENTROPY) == pytest.approx(best - 90 / IMAGES)
    # Over two seeds half of the settings differ from the others by 6 pictures, so by 3 from the means of both.
    assert whole.noise == pytest.approx((54 * 2 * 1.5**2 / (53 * 1)) ** 0.5 / IMAGES)


def test_a_run_that_is_missing_is_as_far_from_its_slow_learner_as_with_another_seed(search: Any, table: Any) -> None:
    made = lines(noise=3)
    gone = [line for line in made if (line["seed"], line["fast.feature_weight"]) == ("1", "24.0")]
    rest = table([line for line in made if line not in gone])
    whole = table(made)
    assert (min(rest.trained.values()), max(rest.trained.values())) == (1, 2)
    assert rest.seeds == whole.seeds == [0, 1], "the slow learners are those of other trials"
    for name, places in whole.truth.items():
        assert rest.truth[name] == pytest.approx(places)
        for ours, theirs in zip(rest.rows(name, 1), whole.rows(name, 1), strict=True):
            assert ours == [pytest.approx(place) for place in theirs]
    slow = {"kind": "slow", "seed": "2", **dict.fromkeys(["fast.feature_weight", "fast.cross_weight"], "0.0")}
    alone = [{**line, **slow} for line in lines(noise=3) if line["seed"] == "1" and line["kind"] == "trial"]
    frozen = {**made[0], "seed": "2"}
    assert table([*made, *alone[::9], frozen]).seeds == [0, 1, 2]


def test_a_table_that_says_too_little_is_refused_with_what_to_do(table: Any) -> None:
    for made in (lines()[:40], [line for line in lines() if line["kind"] != "frozen"]):
        with pytest.raises(UserError, match=r"is not whole; go on with: python -m benchmarks\.tabulate"):
            table(made)


def test_settings_far_behind_in_all_whole_seeds_are_hopeless(search: Any) -> None:
    from benchmarks.tabulate import hopeless, planned

    far = hopeless(lines(), IMAGES)
    # The best has 10 pictures of two more sessions than what lacks one good fast setting: 0.044; slow ones 10 of three.
    assert len(far) == 54 - 1 * 2
    other = [line for line in lines() if line["seed"] == "0"]
    equal = [{**line, "seed": "1", "correct": other[1]["correct"]} for line in other]
    assert hopeless([*other, *equal], IMAGES) == set()
    runs = list(planned(search.STREAMS["glyphs"], 4, lines))
    assert [kind for *_, kind, _ in runs[: 3 * 54]] == ["trial"] * 162, "two whole seeds, and other classes"
    assert [(seed, kind) for _, seed, kind, _ in runs[162:169]] == [(0, "frozen"), *[(0, "slow")] * 6]
    assert [(seed, kind) for _, seed, kind, _ in runs[-2:]] == [(3, "trial")] * 2


def test_sessions_are_paid_once_and_a_search_ends_at_its_budget(search: Any, table: Any) -> None:
    table = table(lines(noise=1))
    for name in ("asha over random", "tpe"):
        first, second = search.alone(table, 0, (12, 30), **search.ALONE[name])
        assert 12 <= first.sessions <= 14
        assert 30 <= second.sessions <= 32
    (whole,) = search.alone(table, 0, (200,), **search.ALONE["random"])
    assert whole.sessions == 6 + 54 * 2, "each of six slow settings trains session 1 once"
    assert whole.regret < 0.01
    asked = {"search": "staged", "max_sessions": 20, "race_sessions": 8, "trials": search.affordable("staged", 20)}
    assert asked["trials"] == (20 - 6) // 2
    log = search._log(table, 0, (), asked)
    trained = sum(record.trained for job in log.jobs.values() for record in job.sessions)
    searched = [job for job in log.jobs.values() if job.kind in SEARCH_KINDS]
    of_search = sum(record.trained for job in searched for record in job.sessions)
    assert 20 <= of_search <= 22
    assert [job.variant for job in log.of_kind(Kind.BASELINE)] == ["ranpac", "frozen"]
    assert search.rehearse(table, 0, **asked).sessions == trained


def test_what_is_learned_from_other_letters_is_told_best_first(search: Any, table: Any) -> None:
    learned = search.lessons_of(search.STREAMS["glyphs"], [*lines(), *lines(classes=50, seeds=(0,))])
    assert len(learned) == 54
    assert learned[0]["settings"] == {
        "slow.diag_weight": 0.1,
        "slow.offdiag_weight": 0.0,
        "fast.feature_weight": 24.0,
        "fast.cross_weight": 1.0,
    }
    table = table(lines())
    told = search.alone(table, 0, (9,), search="tpe", learned=learned)
    assert told[0].regret < search.alone(table, 0, (9,), search="random")[0].regret


def test_a_row_tells_how_often_the_choice_is_best_or_tied(search: Any) -> None:
    row = search.row("tpe", 50, [search.Outcome(50, 0.0), search.Outcome(52, 0.0005), search.Outcome(51, 0.01)])
    assert (row["sessions"], row["repeats"]) == (51, 3)
    assert row["best_or_tied"] == pytest.approx(2 / 3)
    assert row["regret_points"] == pytest.approx(0.35)
    assert row["regret_p90"] == pytest.approx(1.0)


def test_a_search_that_may_stop_reports_what_it_saved(search: Any, table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "REPEATS", 2)
    told = search._stopped(table(lines(noise=5)))
    assert 0 < told["sessions_stopped"] <= told["sessions_whole"]
    assert told["saved"] == pytest.approx(1 - told["sessions_stopped"] / told["sessions_whole"])
