"""kill -9 of the process that brings records to MLflow, over and over in one sweep."""

from __future__ import annotations

from pathlib import Path

from .conftest import Check
from .sweeping import Sweep

TIMES = 10


def test_kills_of_the_process_that_delivers_change_nothing(tmp_path: Path, same_as_undisturbed: Check) -> None:
    sweep = Sweep(tmp_path)
    # Each process brings six records to MLflow, and dies before it can remember the last of them.
    ended = sweep.run({"at": "delivered", "nth": 6, "do": "kill", "times": TIMES})
    assert ended.code == 0, ended
    assert "Traceback" not in ended.errors
    assert "the process that brings records to MLflow has ended (signal 9). The work goes on" in ended.errors
    assert sweep.resume().code == 0  # brings what came too late for the end
    same_as_undisturbed(sweep)
