"""A race of finalists over seeds, as statistics: by hand, against scipy, and by its error rates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sweeps.results.racing import Left, Standing, holm, interaction_noise, p_behind, race, taken


def by_repeat(*values: float) -> dict[int, float]:
    return dict(enumerate(values, start=1))


def test_the_p_value_is_that_of_the_one_sided_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 3, 8):
        ours, theirs = rng.normal(size=(2, n))
        wanted = stats.ttest_rel(ours, theirs, alternative="greater").pvalue
        assert p_behind(list(ours - theirs)) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    ("differences", "p"),
    [([], 1.0), ([0.3], 1.0), ([0.0, 0.0, 0.0], 1.0), ([0.1, 0.1], 1.0), ([0.1] * 3, 0.0), ([-0.1] * 3, 1.0)],
)
def test_what_does_not_vary_is_decided_by_its_sign_from_three_on(differences: list[float], p: float) -> None:
    assert p_behind(differences) == p


def test_holm_steps_down_and_stops_at_the_first_that_holds() -> None:
    # 0.01 <= 0.05 / 3, 0.024 <= 0.05 / 2, 0.06 > 0.05: two are rejected, where Bonferroni would reject one.
    assert holm({0: 0.024, 1: 0.01, 2: 0.06}) == [1, 0]
    assert holm({0: 0.02, 1: 0.04}) == [0, 1]
    assert holm({0: 0.03, 1: 0.03}) == []
    assert holm({}) == []


def test_who_is_behind_leaves_and_is_compared_no_more() -> None:
    good = by_repeat(0.90, 0.91, 0.89, 0.90)
    close = by_repeat(0.90, 0.90, 0.90, 0.89)
    bad = by_repeat(0.50, 0.515, 0.492)
    standing = race([close, good, bad], [1, 2, 3, 4])
    assert standing.alive == (1, 0)
    # After two repeats the differences are 0.40 and 0.395: t = 159 on one degree of freedom, p = 0.002.
    assert standing.left == {
        2: Left(2, 1, pytest.approx(stats.ttest_1samp([0.4, 0.395], 0, alternative="greater").pvalue))
    }
    assert standing.repeats == (1, 2, 3, 4)
    assert standing.settled is None
    assert (standing.near, standing.tied) == ((1, 0), (1,)), "0.0025 behind, at a standard error of 0.0048"


def test_one_left_ends_it() -> None:
    standing = race([by_repeat(0.9, 0.8, 0.7), by_repeat(0.5, 0.4005, 0.3)], [1, 2, 3])
    assert (standing.alive, standing.settled, standing.repeats) == ((0,), "one is left", (1, 2))


def test_equal_finalists_tie_after_three_repeats() -> None:
    same = by_repeat(0.9, 0.8, 0.85, 0.8)
    standing = race([same, dict(same)], [1, 2, 3, 4])
    assert (standing.settled, standing.repeats, standing.tied) == ("they tie", (1, 2, 3), (0, 1))
    nearly = by_repeat(0.9002, 0.8001, 0.8499, 0.8)
    assert race([same, nearly], [1, 2, 3]).settled == "they tie"
    wider = by_repeat(0.91, 0.79, 0.85)
    assert race([same, wider], [1, 2, 3]).settled is None, "equal in the mean, but not known to be"


def test_a_finalist_whose_run_failed_is_out() -> None:
    standing = race([by_repeat(0.9, 0.8), {1: 0.9}], [1, 2])
    assert standing.left == {1: Left(2, None, None)}
    assert standing.alive == (0,)


def test_nothing_run_yet_leaves_all_in_their_order() -> None:
    assert race([{}, {}], [1]) == Standing((0, 1), {}, (), (0, 1), (0, 1), None)


def test_of_those_that_tie_the_preset_is_taken_else_the_cheaper() -> None:
    tie = race([by_repeat(0.9, 0.8), by_repeat(0.8, 0.9), by_repeat(0.85, 0.85)], [1, 2])
    assert set(tie.tied) == {0, 1, 2}
    assert taken(tie.tied, [1, 5, 1], preset=1) == 1
    assert taken(tie.tied, [2, 5, 1], preset=None) == 2
    assert taken(tie.tied, [5, 5, 5], preset=None) == tie.alive[0], "of equally cheap ones the better"
    behind = race([by_repeat(0.9, 0.8), by_repeat(0.8, 0.6)], [1, 2])
    assert behind.alive == (0, 1), "two repeats prove little"
    assert behind.near == (0,), "yet it is behind by more than a standard error"
    assert taken(behind.tied, [5, 1], preset=1) == 0
    unsure = race([by_repeat(0.9, 0.8), by_repeat(0.8, 0.89)], [1, 2])
    assert (unsure.near, unsure.tied) == ((0, 1), (0,)), "half a point behind at a standard error of ten"
    assert taken(unsure.tied, [5, 1], preset=1) == 0, "the better bet, whatever the preset"


def test_the_best_of_equals_survives_at_the_level_and_a_worse_one_does_not() -> None:
    rng = np.random.default_rng(1)
    dropped = kept = 0
    for _ in range(400):
        seeds = rng.normal(0, 0.02, 5)  # what a seed does to all of them
        values = 0.8 + seeds + rng.normal(0, 0.005, (3, 5)) + np.array([[0.004], [0.0], [-0.03]])
        standing = race([by_repeat(*row) for row in values], range(1, 6))
        dropped += 0 in standing.left
        kept += 2 in standing.alive
    assert dropped / 400 < 0.06
    assert kept / 400 < 0.02, "six times the noise behind"


def test_the_noise_is_the_residual_of_the_two_way_layout() -> None:
    rng = np.random.default_rng(2)
    table = rng.normal(size=(4, 6))
    centred = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    wanted = np.sqrt((centred**2).sum() / 15)
    assert interaction_noise([by_repeat(*row) for row in table]) == pytest.approx(wanted)
    # Configuration and seed add up: nothing is left.
    additive = [by_repeat(*(a + b for b in (0.1, 0.2, 0.4))) for a in (0.5, 0.6)]
    assert interaction_noise(additive) == pytest.approx(0, abs=1e-12)
    # Several layouts are pooled by their degrees of freedom: 15 and 2 here; what has none takes no part.
    rows = [by_repeat(*row) for row in table]
    assert interaction_noise(rows, additive, [by_repeat(1, 2)]) == pytest.approx(wanted * (15 / 17) ** 0.5)
    assert interaction_noise() is None
    assert interaction_noise([by_repeat(1, 2)]) is None
    assert interaction_noise([by_repeat(1), by_repeat(2)]) is None
    assert interaction_noise([]) is None


def test_a_difference_below_a_tenth_of_a_point_is_none_however_steady_it_is() -> None:
    steady = race([by_repeat(0.9051, 0.8849), by_repeat(0.9046, 0.8846)], [1, 2])
    assert set(steady.tied) == {0, 1}
    assert taken(steady.tied, [1, 5], preset=1) == 1, "the preset is not given up for less than anybody can see"
    larger = race([by_repeat(0.9081, 0.8879), by_repeat(0.9046, 0.8846)], [1, 2])
    assert larger.tied == (0,)


def test_the_search_counts_in_the_mean_and_in_no_test() -> None:
    """The first leads in the race by less than it was behind in the search."""
    first, second = {0: 0.70, 1: 0.80, 2: 0.81}, {0: 0.80, 1: 0.795, 2: 0.80}
    assert race([first, second], [1, 2]).alive == (1, 0)
    del first[0], second[0]
    assert race([first, second], [1, 2]).alive == (0, 1)
    far, good = {0: 0.1, 1: 0.80, 2: 0.81}, {0: 0.9, 1: 0.80, 2: 0.81}
    assert race([far, good], [1, 2]).left == {}, "by the repeats they are equal"


def test_the_search_is_one_more_pair_of_those_that_are_near() -> None:
    # Once the one is better by 2 points and once the other by 1: half a point, at a standard error of 1.5.
    assert race([{0: 0.80, 1: 0.80}, {0: 0.78, 1: 0.81}], [1]).near == (0, 1)
    assert race([{0: 0.80, 1: 0.80}, {0: 0.78, 1: 0.79}], [1]).near == (0,), "1.5 points at a standard error of a half"
    assert race([{0: 0.8, 1: 0.8}, {0: 0.799, 1: 0.7992}], [1]).tied == (0, 1), "a tenth of a point is none"
    assert race([{1: 0.80}, {1: 0.79}], [1]).near == (0, 1), "one pair tells of none"
    assert race([{0: 0.80}, {0: 0.70}], []).near == (0, 1), "nothing was repeated"
