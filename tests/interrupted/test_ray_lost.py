"""Ray's own processes die, the signals of terminals and schedulers, and Ray's memory monitor."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from sweeps.ledger.ledger import read_ledger

from .conftest import Check
from .state import failures, mlflow_runs
from .sweeping import Started, Sweep, processes, wait_for

BUSY = {"at": "batch", "job": "trial-*", "nth": 3, "do": "wait"}
MOST_S = 60.0  # in which all is over; an idle machine needs about ten


def kill(kind: str, number: signal.Signals = signal.SIGKILL) -> Callable[[Sweep, Started], None]:
    def to_one(sweep: Sweep, started: Started) -> None:
        (pid,) = (pid for pid, command in processes(sweep.mark).items() if f"/{kind} " in command)
        os.kill(pid, number)

    return to_one


def to_group(number: signal.Signals) -> Callable[[Sweep, Started], None]:
    return lambda sweep, started: os.killpg(started.process.pid, number)


def to_all(sweep: Sweep, started: Started) -> None:
    for pid in processes(sweep.mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


LOSSES = {
    "the raylet is killed": (
        kill("raylet"),
        "interrupted: Ray's raylet was killed by signal 9 (the system or a person); ",
    ),
    "the GCS is killed": (kill("gcs_server"), "interrupted: Ray's gcs_server was killed by signal 9 (the system or "),
    "SIGTERM to the group": (to_group(signal.SIGTERM), "interrupted; continue with: "),
    "SIGHUP to the group": (to_group(signal.SIGHUP), "interrupted; continue with: "),
    "the GCS is asked to end": (kill("gcs_server", signal.SIGTERM), "interrupted: Ray's gcs_server does not answer; "),
    "SIGTERM to every process": (to_all, "interrupted"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_one_message_and_the_sweep_goes_on_to_the_same_end(
    tmp_path: Path, same_as_undisturbed: Check, loss: str
) -> None:
    sweep, (happen, words) = Sweep(tmp_path), LOSSES[loss]
    started = sweep.start(BUSY)
    started.reached()
    happen(sweep, started)
    began = time.monotonic()
    started.go_on()
    ended = started.end()
    assert time.monotonic() - began < MOST_S
    assert ended.code == 130, ended
    *before, last = ended.errors.splitlines()
    assert before in ([], ["stopping after the epochs that are running; Ctrl-C again stops at once"]), ended.errors
    assert last.startswith(words)
    assert last.endswith(f"-m sweeps resume faulty --results {sweep.results}")
    assert {job.status for job in read_ledger(sweep.place).jobs.values()} == {"KILLED"}
    assert {run["status"] for _, run in mlflow_runs(sweep).values()} == {"KILLED"}
    assert failures(sweep) == []
    assert sweep.resume().code == 0
    same_as_undisturbed(sweep)


def test_nothing_outlives_a_driver_that_is_killed(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    started = sweep.start(BUSY)
    started.reached()
    started.process.kill()
    started.end()
    began = time.monotonic()
    wait_for(lambda: not sweep.processes(), "the end of its processes")
    assert time.monotonic() - began < MOST_S


def test_a_worker_that_takes_too_much_memory_fails_alone_and_is_tried_again(
    tmp_path: Path, same_as_undisturbed: Check
) -> None:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kib = {words[0]: int(words[1]) for words in lines}
    threshold = (
        1 - (kib["MemAvailable:"] - 3 * 2**20) / kib["MemTotal:"]
    )  # 3 GiB more than now: Ray and two trials take one
    if threshold > 0.9:
        pytest.skip("needs more than 3 GiB of free memory")
    limit = {"RAY_memory_usage_threshold": f"{threshold:.4f}", "RAY_memory_monitor_refresh_ms": "50"}
    sweep = Sweep(tmp_path, environment=limit, more=("--retries", "0"))
    ended = sweep.run({"at": "batch", "job": "trial-01", "nth": 3, "do": "fill"})
    assert ended.code == 0, ended
    told = dict(failures(sweep))  # Ray may end the other worker with it
    assert "trial-01" in told
    for reason in told.values():
        assert reason.startswith("its process was ended because the machine ran low on memory (details: "), reason
    same_as_undisturbed(sweep)
