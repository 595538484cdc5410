"""Signs of life: what a run writes comes to the driver, and silence is measured by the driver's own clock."""

from __future__ import annotations

import os
from pathlib import Path

from safe.types import Working
from sweeps.engine.heartbeat import Heartbeat
from sweeps.worker.signs import give_sign, last_told

WORKING = Working(1, 6, "training", 3, 20, 1234, 9000, 2.31, 56.0)


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_a_run_tells_comes_once_and_counts_as_a_sign(tmp_path: Path) -> None:
    file, clock = tmp_path / "trial-00", Clock()
    heartbeat = Heartbeat(5.0, clock)
    heartbeat.started("trial-00", file)
    clock.now = 4
    give_sign(file, WORKING)
    assert heartbeat.look() == {"trial-00": WORKING}
    assert heartbeat.look() == {}
    clock.now = 9
    assert heartbeat.look() == {}
    assert heartbeat.silent() == []
    clock.now = 9.1
    assert heartbeat.silent() == ["trial-00"]
    os.utime(file, ns=(1, 1))  # a sign is a change, whatever the time elsewhere
    clock.now = 10
    assert heartbeat.look() == {"trial-00": WORKING}
    assert heartbeat.silent() == []
    heartbeat.ended("trial-00")
    clock.now = 99
    assert heartbeat.silent() == []


def test_a_sign_without_words_keeps_the_last_ones_and_half_of_them_are_none(tmp_path: Path) -> None:
    file = tmp_path / "trial-00"
    assert last_told(file) is None
    give_sign(file)
    assert last_told(file) is None
    give_sign(file, WORKING)
    give_sign(file)
    assert last_told(file) == WORKING
    file.write_bytes(file.read_bytes()[:40])
    assert last_told(file) is None
    file.write_text('{"epoch": 3}')
    assert last_told(file) is None


def test_without_a_timeout_nobody_is_silent_and_all_are_heard(tmp_path: Path) -> None:
    file, clock = tmp_path / "trial-00", Clock()
    heartbeat = Heartbeat(None, clock)
    heartbeat.started("trial-00", file)
    clock.now = 1e6
    give_sign(file, WORKING)
    assert heartbeat.silent() == []
    assert heartbeat.look() == {"trial-00": WORKING}
