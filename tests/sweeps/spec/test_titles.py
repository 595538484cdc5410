"""Names as people say them."""

from __future__ import annotations

import pytest

from safe.config import load_config
from sweeps.spec.titles import param, run_name, trial_title


def test_an_order_of_classes_is_a_line_that_tells_it_from_others() -> None:
    names = [f"class {number}" for number in range(1000)]
    told = param(names)
    assert told.startswith("1000 classes from class 0 to class 999 (")
    assert len(told) < 100
    assert param([*names[:500], names[501], names[500], *names[502:]]) != told
    assert param(["ant", "bee"]) == "ant, bee"
    for value in ([20, 5, 5], [[0.5, 0.5, 0.5], [0.2, 0.2, 0.2]], [], "seeded", 0.1, None):
        assert param(value) == value


@pytest.mark.parametrize("label", ["trial 07", "race 2 · trial 07", "audit 07", "slow 03"])
def test_a_run_is_called_by_its_title_without_settings(label: str) -> None:
    config = load_config("digits").flat()
    varied = list(config)
    assert run_name(trial_title(label, config, varied), config) == label, "whichever setting comes first"
    assert [run_name(trial_title(label, config, [name]), config) for name in varied] == [label] * len(varied)
    assert run_name("final of RanPAC 1", config) == "final of RanPAC 1"
