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
