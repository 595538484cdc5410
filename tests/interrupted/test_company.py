"""Sweeps beside each other, clocks that jump, and folders with odd names or without permission."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .conftest import Check
from .sweeping import Sweep, wait_for


def test_two_sweeps_at_once_in_one_store_and_no_two_drivers_of_one(tmp_path: Path, same_as_undisturbed: Check) -> None:
    first, second = Sweep(tmp_path, name="first"), Sweep(tmp_path, name="second")
    running = [first.start({"at": "session", "do": "wait"}), second.start()]
    running[0].reached()
    refused = first.run()
    assert refused.code == 2
    held_by = f"the sweep 'first' is being run by another process (pid {running[0].process.pid} on "
    assert held_by in refused.errors
    assert "Traceback" not in refused.errors
    running[0].go_on()
    for started in running:
        ended = started.end()
        assert ended.code == 0, ended
    for sweep in (first, second):
        same_as_undisturbed(sweep)


def test_a_clock_that_jumps_in_driver_and_workers_changes_nothing(tmp_path: Path, same_as_undisturbed: Check) -> None:
    sweep = Sweep(tmp_path, more=("--trial-timeout", "600"))
    ended = sweep.run(
        {"at": "session", "nth": 2, "do": "back"},
        {"at": "session", "nth": 4, "do": "ahead"},
        {"at": "batch", "nth": 3, "do": "ahead", "times": 2},
        {"at": "batch", "nth": 30, "do": "back", "times": 2},
    )
    assert ended.code == 0, ended
    same_as_undisturbed(sweep)
    assert len(list(sweep.folder.glob("faults-*/[0-3]-*"))) == 6, "every jump happened"


def test_a_results_folder_may_have_spaces_and_letters_of_any_kind(tmp_path: Path, same_as_undisturbed: Check) -> None:
    sweep = Sweep(tmp_path, results_folder="Läufe im Büro 结果 #1 100% 'new'")
    ended = sweep.run()
    assert ended.code == 0, ended
    same_as_undisturbed(sweep)


def test_a_results_folder_that_is_only_read_is_refused_before_anything(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.results.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", str(sweep.results)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"may not mount a folder for reading only: {mounted.stderr.strip()}")
    try:
        ended = sweep.run()
    finally:
        subprocess.run(["umount", str(sweep.results)], check=True)
    assert ended.code == 2
    assert f"error: cannot write to the results folder {sweep.results}: Read-only file system" in ended.errors
    assert "Traceback" not in ended.errors
    wait_for(lambda: not sweep.processes(), "the end of it")
