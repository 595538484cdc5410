"""The end of a sweep in three sentences: what matters, what was chosen, what it is worth; chance is called chance."""

from __future__ import annotations

from sweeps.report.learned import learned_lines

from .made_up import make_log


def better_with_diag(index: int) -> float:
    """Trials 4 and 9 have slow.diag_weight = 0, the others 10 ** (index % 4 - 3)."""
    return 0.6 + 0.01 * (index == 9) if index % 5 == 4 else 0.8 + 0.02 * (index % 4) + 0.0012 * index


def test_what_matters_is_told_with_the_means_of_both_groups() -> None:
    first, second, third, *rest = learned_lines(make_log(trials=10, level=better_with_diag))
    # The mean over sessions of accuracies that fall by a point a session: 0.75 points below the level; forgotten are
    # 1, 2 and 3 points: on average 2. The two without have 60 and 61, the others 80 + 2 (0+1+2+3+1+2+3+0) / 8 + 0.48.
    assert first.removeprefix("slow.diag_weight matters").removeprefix(" most") == (
        ": without it average accuracy is 59.8 % and forgetting 2.0 % (mean of 2 trials), with it average accuracy is "
        "82.7 % and forgetting 2.0 % (mean of 8 trials)."
    )
    assert second == "trial-07 is chosen: average accuracy 86.1 % on the held-out images."
    # Final runs 86.8, 87.8 and 88.8 at session 1, the control's 80, 82 and 84, all 1.5 points less after the last.
    assert third == "On the test images its average accuracy is better than the preset's by 5.8 ± 2.5 points (3 seeds)."
    assert all("widen it" in line for line in rest)


def test_ties_are_told_as_ties() -> None:
    first, second, _, *rest = learned_lines(make_log(trials=8, level=lambda index: 0.9))
    assert first == "No setting's effect is told from chance by 8 trials."
    assert second.endswith("as all 8 trials have it; they tell nothing apart, and the first is taken.")
    assert rest == []
    _, second, *_ = learned_lines(make_log(trials=8, level=lambda index: 0.9 if index in (2, 5) else 0.8))
    assert second.endswith("which it shares with 1 trial more; the first is taken.")


def test_a_choice_within_noise_is_not_told_from_the_preset() -> None:
    *_, third = learned_lines(make_log(trials=8, seeds=3, level=lambda index: 0.8 + 0.0025 * (index == 3)))[:3]
    assert third == "On the test images 3 seeds do not tell its average accuracy from the preset's (-0.8 ± 2.5 points)."


def test_nothing_is_told_before_the_choice() -> None:
    log = make_log(trials=8)
    log.selected = None
    assert learned_lines(log) == []
