"""The examples: each is short, and does what it says, at tiny sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TINY = ["slow.epochs=1", "fast.epochs=1", "runtime.device=cpu", "head.projection_dim=64"]
STRIPES = ["--import", "examples.own_data", "--dataset", "stripes", "data.init_classes=2", "data.increment=1"]


def run(*words: str) -> list[str]:
    command = [sys.executable, "-m", *words]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    return told.stdout.splitlines()


def test_every_example_is_short_and_says_what_it_is() -> None:
    assert [path.stem for path in EXAMPLES] == ["own_data", "own_head", "own_pet", "read_results", "run_a_sweep"]
    for path in EXAMPLES:
        lines = path.read_text("utf-8").splitlines()
        assert len(lines) < 60, path
        assert lines[0].startswith('"""'), path
        assert "python -m" in path.read_text("utf-8").split('"""')[1], path


@pytest.mark.parametrize("own", [[], ["--import", "examples.own_pet", "pet.kind=gain"]], ids=["data", "pet"])
def test_own_data_and_own_pet_train(own: list[str]) -> None:
    sessions = [json.loads(line) for line in run("safe", "train", "--json", *STRIPES, *TINY, *own)]
    assert [one["session"] for one in sessions] == [1, 2, 3]
    assert sessions[0]["test/accuracy"] > 0.75, "stripes across and down are told apart"


def test_an_own_head_trains() -> None:
    words = ["safe", "train", "--json", "--import", "examples.own_head", *STRIPES, *TINY, "head.kind=nearest"]
    sessions = [json.loads(line) for line in run(*words)]
    assert sessions[0]["test/accuracy"] > 0.75


def test_a_worker_imports_what_its_job_names(tmp_path: Path) -> None:
    """In a process that knows nothing of them, as Ray's are."""
    code = f"""
from dataclasses import asdict
from safe.config import load_config
from sweeps.ledger.jobs import Job
from sweeps.worker.trainable import SafeTrainable

config = load_config("digits", overrides={[*STRIPES[4:], *TINY]!r}).flat()
def step(config, *imports):
    job = Job("t", "trial", "t", config, [], states={str(tmp_path)!r}, imports=imports)
    worker = SafeTrainable({{"job": asdict(job)}})
    while "session" not in (result := worker.step()):
        pass
    return result["session"].metrics["test/accuracy"]

print(step(config | {{"dataset": "stripes", "pet.kind": "gain"}}, "examples.own_data", "examples.own_pet"))
try:
    step(config, "examples.nothing")
except Exception as error:
    print(type(error).__name__, error)
"""
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    accuracy, refusal = told.stdout.splitlines()[-2:]
    assert float(accuracy) > 0.75
    assert refusal.startswith("UserError --import examples.nothing: there is no module 'examples.nothing' in ")
