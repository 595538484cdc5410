"""kill -9 of the driver at moments drawn from a seed, over and over in one sweep, and then on to the end."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Check
from .sweeping import Sweep

TIMES = {"grid": 20, "random": 5, "staged": 5}


@pytest.mark.parametrize("search", TIMES)
def test_kills_of_the_driver_change_nothing(
    tmp_path: Path, undisturbed: Callable[[str], dict[str, Any]], same_as_undisturbed: Check, search: str
) -> None:
    sweep, times = Sweep(tmp_path, search), TIMES[search]
    draw = random.Random(f"kills of {search}")
    writes = undisturbed(search)["writes"]
    # A moment is when the driver writes for the nth time: every third one before the work begins, the others so soon
    # after that the sweep is not over before the last of them.
    reach = 3 * (writes["ended"] - writes["begun"]) // (2 * times)
    for kill in range(times):
        moment = draw.randint(1, writes["begun"]) if kill % 3 == 0 else writes["begun"] + draw.randint(1, reach)
        ended = sweep.run({"at": "write", "nth": moment, "do": "kill"})
        assert ended.code == -signal.SIGKILL, ended
    assert sweep.run().code == 0
    same_as_undisturbed(sweep)
