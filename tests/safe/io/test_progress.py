"""How far work is, and how long it takes."""

from __future__ import annotations

import pytest

from safe.io.progress import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.6, "1 s"), (119, "119 s"), (120, "2 min"), (3600, "60 min"), (7199, "120 min"), (9000, "2.5 h")],
)
def test_a_length_of_time_is_said_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert duration(seconds) == words
