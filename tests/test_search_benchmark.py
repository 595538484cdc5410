"""The search benchmark: truth and noise of its table, what a rehearsal pays for, and what it is judged by."""

from __future__ import annotations

import statistics
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
    """Tables of 100 correct pictures of 150, 10 more for each good setting; noise goes up and down by combination."""
    from benchmarks.tabulate import GRID, combinations

    made = []
    frozen: tuple[str, dict[str, float]] = ("frozen", dict.fromkeys(GRID, 0.0))
    for seed in seeds:
        for number, (kind, settings) in enumerate([frozen, *(("trial", one) for one in combinations())]):
            slow = 10 * (settings["slow.diag_weight"] == 0.1)
            fast = 10 * (settings["fast.feature_weight"] == 24.0) + 10 * (settings["fast.cross_weight"] == 1.0)
            own = noise * (-1) ** number if seed else 0
            right = [100 + slow + fast - 2 + own, 100 + slow + fast + own, 100 + slow + fast - 1 + own, 100 + slow]
            sessions = [right[-1:] * 4, right, right]  # in session 1 the learners are one
            correct = ";".join(
                "/".join(" ".join([str(n)] * number) for n in places) for number, places in enumerate(sessions, start=1)
            )
            where = {"classes": str(classes), "seed": str(seed), "kind": kind}
            made.append({**where, **{name: str(value) for name, value in settings.items()}, "correct": correct})
    return made


def test_the_truth_is_the_mean_of_whole_seeds_and_noise_comes_from_their_differences(search: Any) -> None:
    table = search.Table(lines(noise=3)[:-5])  # of the second seed five are missing
    assert (table.seeds, table.pairs) == (1, 49)
    best = (110 + 2 * 130) / 3 / IMAGES
    assert table.best == pytest.approx(best)
    config = {"pet.kind": "adapter", "fast.epochs": 3, "slow.offdiag_weight": 1.0, "slow.diag_weight": 0.1}
    config |= {"fast.feature_weight": 24.0, "fast.cross_weight": 1.0}
    entropy = {"aggregation.kind": "entropy", "aggregation.temperature": 1.0}
    assert table.regret(config, entropy) == pytest.approx(0)
    assert table.regret(config, {**entropy, "aggregation.temperature": 0.1}) == pytest.approx(2 * 2 / 3 / IMAGES)
    ranpac = {**config, "slow.diag_weight": 0.0, "fast.epochs": 0}
    assert table.regret(ranpac, {**entropy, "aggregation.kind": "slow"}) == pytest.approx(best - 100 / IMAGES)
    assert table.regret({**config, "pet.kind": "none"}, entropy) == pytest.approx(best - (100 + 2 * 100) / 3 / IMAGES)
    # Half of the pairs are 3 pictures up in two sessions of three, the others down.
    assert table.spread == pytest.approx(3 / 2**0.5 * 2 / 3 / IMAGES, rel=0.05)


def test_a_seed_is_the_truth_and_noise_and_shares_what_training_shares(search: Any) -> None:
    table = search.Table(lines(noise=3))
    names = [name for name in table.rows if '"slow.diag_weight": 0.1' in name and '"slow.offdiag_weight": 0.0' in name]
    assert len(names) == 9
    seen = [table.seed(name, "7") for name in names]
    assert seen == [table.seed(name, "7") for name in names], "the same every time"
    alone = [[groups[search.SLOW_ALONE] for groups in rows] for rows in seen]
    assert all(one == alone[0] for one in alone), "one slow learner, however many trials carry it"
    values = [search.objective(table.seed(names[0], f"{n}"), 1) for n in range(400)]
    assert statistics.fmean(values) == pytest.approx(table.truth[names[0]][1], abs=0.0015)
    assert statistics.stdev(values) == pytest.approx(table.spread, rel=0.1)
    still = search.Table(lines())
    assert still.spread == 0
    assert still.seed(names[0], "3") == still.rows[names[0]]


def test_a_table_that_says_too_little_is_refused_with_what_to_do(search: Any) -> None:
    with pytest.raises(UserError, match=r"no seed with all combinations; make one: python -m benchmarks\.tabulate"):
        search.Table(lines(seeds=(0,))[1:])
    with pytest.raises(UserError, match="no two seeds of one combination"):
        search.Table(lines(seeds=(0,)))


def test_sessions_are_paid_once_and_a_search_ends_at_its_budget(search: Any) -> None:
    table = search.Table(lines(noise=1))
    for name in ("asha over random", "tpe"):
        first, second = search.alone(table, 0, (12, 30), **search.ALONE[name])
        assert 12 <= first.sessions <= 14
        assert 30 <= second.sessions <= 32
    (whole,) = search.alone(table, 0, (200,), **search.ALONE["random"])
    assert whole.sessions == 6 + 54 * 2, "each of six slow settings trains session 1 once"
    assert whole.regret < 0.01
    log = search._log(table, 0, (), {"search": "staged", "max_sessions": 20, "race_sessions": 8})
    trained = sum(record.trained for job in log.jobs.values() for record in job.sessions)
    searched = [job for job in log.jobs.values() if job.kind in SEARCH_KINDS]
    of_search = sum(record.trained for job in searched for record in job.sessions)
    assert 20 <= of_search <= 22
    assert [job.variant for job in log.of_kind(Kind.BASELINE)] == ["ranpac", "frozen"]
    assert search.rehearse(table, 0, search="staged", max_sessions=20, race_sessions=8).sessions == trained


def test_what_is_learned_from_other_letters_is_told_best_first(search: Any) -> None:
    learned = search.lessons_of([*lines(), *lines(classes=50, seeds=(0,))])
    assert len(learned) == 54
    assert learned[0]["settings"] == {
        "slow.diag_weight": 0.1,
        "slow.offdiag_weight": 0.0,
        "fast.feature_weight": 24.0,
        "fast.cross_weight": 1.0,
    }
    table = search.Table(lines())
    told = search.alone(table, 0, (9,), search="tpe", learned=learned)
    assert told[0].regret < search.alone(table, 0, (9,), search="random")[0].regret


def test_a_row_tells_how_often_the_choice_is_best_or_tied(search: Any) -> None:
    row = search.row("tpe", 50, [search.Outcome(50, 0.0), search.Outcome(52, 0.0005), search.Outcome(51, 0.01)])
    assert (row["sessions"], row["repeats"]) == (51, 3)
    assert row["best_or_tied"] == pytest.approx(2 / 3)
    assert row["regret_points"] == pytest.approx(0.35)
    assert row["regret_p90"] == pytest.approx(1.0)


def test_a_search_that_may_stop_reports_what_it_saved(search: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "REPEATS", 2)
    told = search._stopped(search.Table(lines(noise=20)))
    assert 0 < told["sessions_stopped"] <= told["sessions_whole"]
    assert told["saved"] == pytest.approx(1 - told["sessions_stopped"] / told["sessions_whole"])
