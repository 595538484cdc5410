"""kill -9 of a trial's worker, wherever it is: the trial is tried again and the sweep's end is the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from .conftest import Check
from .state import failures
from .sweeping import Sweep

KILLS = [
    {"job": "trial-00", "at": "batch", "nth": 5},
    {"job": "trial-00", "at": "state", "file": "resume.pt"},
    {"job": "trial-00", "at": "checkpoint-done"},  # its checkpoint is there and has not been told
    {"job": "trial-01", "at": "state", "file": ".stage"},
    {"job": "trial-01", "at": "state", "file": "session-02.pt"},
    {"job": "final-*", "at": "files-done"},  # its files are there, its result has not been told
    {"job": "final-*", "at": "checkpoint"},  # its result has been told, its checkpoint is not there
]


def test_a_kill_of_a_worker_anywhere_changes_nothing(tmp_path: Path, same_as_undisturbed: Check) -> None:
    sweep = Sweep(tmp_path, more=("--retries", "3"))
    ended = sweep.run(*({**kill, "do": "kill"} for kill in KILLS))
    assert ended.code == 0, ended
    assert Counter(job.split("-")[0] for job, _ in failures(sweep)) == {"trial": 5, "final": 2}
    same_as_undisturbed(sweep)
