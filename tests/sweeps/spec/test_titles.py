"""Names and lengths of time as people say them."""

from __future__ import annotations

import pytest

from sweeps.spec.titles import duration, param


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.6, "1 s"), (119, "119 s"), (120, "2 min"), (3600, "60 min"), (7199, "120 min"), (9000, "2.5 h")],
)
def test_a_length_of_time_is_said_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_an_order_of_classes_is_a_line_that_tells_it_from_others() -> None:
    names = [f"class {number}" for number in range(1000)]
    told = param(names)
    assert told.startswith("1000 classes from class 0 to class 999 (")
    assert len(told) < 100
    assert param([*names[:500], names[501], names[500], *names[502:]]) != told
    assert param(["ant", "bee"]) == "ant, bee"
    for value in ([20, 5, 5], [[0.5, 0.5, 0.5], [0.2, 0.2, 0.2]], [], "seeded", 0.1, None):
        assert param(value) == value
