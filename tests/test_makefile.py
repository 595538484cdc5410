"""The Makefile: unknown variables are refused, and what is typed reaches the command."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def make(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run make without running its recipes."""
    command = ["make", "--dry-run", "--assume-old=.venv/.ready", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("DATSET=glyphs", "unknown variable DATSET: did you mean DATASET?"),
        ("dataset=glyphs", "unknown variable dataset: did you mean DATASET?"),
        ("TRIAL=3", "unknown variable TRIAL: did you mean TRIALS?"),
        ("XQZW=1", "unknown variable XQZW. "),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest(given: str, told: str) -> None:
    done = make("sweep", given)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stdout == ""


def test_known_variables_and_what_programs_read_pass() -> None:
    done = make("sweep", "DATASET=my birds", "NAME=demo", "TRIALS=3", "MLFLOW_TRACKING_URI=http://x", "HF_HOME=/y")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == (
        [".venv/bin/python", "-m", "sweeps", "run", "--trials", "3", "--dataset", '"my', 'birds"', "--name", '"demo"']
    )
    assert make("sweep", DATSET="glyphs").returncode == 0, "an environment may hold anything"


def test_commands_on_a_sweep_need_no_name() -> None:
    for target in ("show", "report", "resume", "stop", "export", "ui"):
        assert make(target).stdout.split() == [".venv/bin/python", "-m", "sweeps", target]
        assert make(target, "NAME=a b").stdout.split()[3:] == [target, '"a', 'b"']


def test_a_trial_is_added_and_dropped_here_and_in_a_cluster() -> None:
    assert make("add", "NAME=a", "SETTINGS=slow.lr=0.1 fast.lr=1").stdout.split() == (
        [".venv/bin/python", "-m", "sweeps", "add", '"a"', "slow.lr=0.1", "fast.lr=1"]
    )
    assert make("drop", "ID=trial-03").stdout.split()[3:] == ["drop", "trial-03"]
    assert make("drop", "NAME=a", "ID=trial-03", "CLUSTER=1").stdout.split()[1:] == (
        ["-m", "sweeps.cluster", "drop", '"a"', "trial-03"]
    )
    assert make("add", "NAME=a", "SETTINGS=x=1", "RAY_ADDRESS=http://h:1").stdout.split() == (
        [".venv/bin/python", "-m", "sweeps.cluster.submit", "add", '"a"', "x=1"]
    )


@pytest.mark.parametrize("target", ["predict", "serve"])
def test_a_model_is_named_or_is_the_champion_of_a_data_set(target: str) -> None:
    assert make(target, "DATASET=digits").stdout.split()[3:] == [target, "--model", '"models:/safe-digits@champion"']
    assert make(target, "MODEL=models:/m-1").stdout.split()[3:] == [target, "--model", '"models:/m-1"']
