"""Trials that raise, give NaN, hang, need too much memory or die: FAILED with the reason, and the rest goes on."""

from __future__ import annotations

from pathlib import Path

from sweeps.ledger.ledger import read_ledger

from .conftest import Check
from .state import failures, mlflow_runs
from .sweeping import Sweep, wait_for

ALWAYS = 9
TIMEOUT_S = 60  # long enough for a worker that starts on a busy machine


def test_bad_trials_fail_with_their_reasons_and_a_resume_mends_them(tmp_path: Path, same_as_undisturbed: Check) -> None:
    """trial-01 hangs, then has no memory, then raises, then dies; trial-00 gives NaN, and is well the second time."""
    sweep = Sweep(tmp_path, more=("--retries", "3", "--trial-timeout", str(TIMEOUT_S)))
    bad = {"job": "trial-01", "at": "batch"}
    ended = sweep.run(
        *({**bad, "do": do} for do in ("hang", "memory", "raise", "kill")),
        {"job": "trial-00", "at": "batch", "nth": 9, "do": "nan"},
    )
    assert ended.code == 0, ended  # a search does without a trial
    told = failures(sweep)
    reasons = [reason for job, reason in told if job == "trial-01"]
    expected = (
        f"no step within {TIMEOUT_S} s (trial_timeout)",
        "MemoryError: no memory, on purpose (details: ",
        "ValueError: broken on purpose (details: ",
        "its process was killed by signal 9 (the system or a person) (details: ",
    )
    assert len(reasons) == len(expected)
    assert all(reason.startswith(words) for reason, words in zip(reasons, expected, strict=True)), reasons
    (reason,) = (reason for job, reason in told if job == "trial-00")
    assert reason.startswith("NonFiniteLossError: "), reason
    log = read_ledger(sweep.place)
    assert {id: job.status for id, job in log.jobs.items() if "trial" in id} == {
        "trial-00": "FINISHED",
        "trial-01": "FAILED",
    }
    runs = {key: run for key, (_, run) in mlflow_runs(sweep).items()}
    assert (runs["/trial-00"]["status"], runs["/trial-01"]["status"]) == ("FINISHED", "FAILED")
    assert sweep.resume().code == 0
    same_as_undisturbed(sweep, repaired=True)


def test_all_failed_is_an_error_with_the_first_cause(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, more=("--retries", "0"))
    ended = sweep.run({"job": "trial-*", "at": "batch", "do": "raise", "times": ALWAYS})
    assert ended.code == 1
    assert "error: every trial run failed; trial-00: ValueError: broken on purpose (details: " in ended.errors
    assert "resume faulty" in ended.errors
    assert "Traceback" not in ended.errors
    wait_for(lambda: not sweep.processes(), "the end of its processes")
    assert {run["status"] for _, run in mlflow_runs(sweep).values()} == {"FAILED"}
