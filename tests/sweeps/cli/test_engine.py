"""The commands that go on with, stop, export and prune a sweep; what they start is taken down, not run."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safe.config import load_config
from safe.errors import Notice
from safe.states.inference import save_session, session_file
from sweeps.cli import main
from sweeps.ledger.ledger import Ledger, read_ledger
from sweeps.spec.specs import Spec

Written = Callable[[], Ledger]

TEMPERATURES = "aggregation.temperature: {grid: [0.1, 1.0, 10.0]}"


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the names of the studies for which Ray would have been started at once."""
    names: list[str] = []
    monkeypatch.setattr("sweeps.engine.helpers.Helpers.begin", lambda self, spec, results: names.append(spec.name))
    return names


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, begun: list[str]) -> list[tuple[Spec, bool]]:
    """Give the list of what would have been run."""
    specs: list[tuple[Spec, bool]] = []

    def run_sweep(spec: Spec, results: Path, helpers: Any, *, retry_failed: bool = False, detail: str = "usual") -> Any:
        specs.append((spec, retry_failed))
        return read_ledger(tmp_path / "sweeps" / "demo")

    monkeypatch.setattr("sweeps.studies.sweep.run_sweep", run_sweep)
    return specs


def call(tmp_path: Path, *words: str) -> int:
    return main([*words, "--results", str(tmp_path)])


def test_resume_asks_for_the_same_again_and_begins_ray_at_once_only_where_something_lacks(
    finished_sweep: Written, tmp_path: Path, asked: list[Any], begun: list[str]
) -> None:
    ledger = finished_sweep()
    assert call(tmp_path, "resume", "demo") == 0
    assert asked == [(ledger.log.spec, True)]
    assert begun == []
    ledger.append("spec", spec=ledger.log.spec.model_dump(mode="json"))
    assert call(tmp_path, "resume", "demo") == 1
    assert begun == ["demo"]


def test_extend_changes_what_is_said_and_nothing_else(
    finished_sweep: Written, tmp_path: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    spec = finished_sweep().log.spec
    space = tmp_path / "space.yaml"
    space.write_text(f"fast.cross_weight: {{choice: [0.0, 1.0, 2.0, 3.0, 4.0]}}\n{TEMPERATURES}")
    assert call(tmp_path, "extend", "demo", "--trials", "5", "--seeds", "3", "--space", str(space)) == 0
    ((extended, retry),) = asked
    assert (extended.trials, extended.seeds, retry) == (5, 3, False)
    assert extended.space["fast.cross_weight"] == {"choice": [0.0, 1.0, 2.0, 3.0, 4.0]}
    same = {"trials": spec.trials, "seeds": spec.seeds, "space": spec.space}  # type: ignore[union-attr]
    assert extended.model_copy(update=same) == spec


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "say what to extend"),
        (["--trials", "2"], "--trials must be more than the 2 that 'demo' has, got 2"),
        (["--seeds", "1"], "--seeds must be more than the 2"),
        (["--max-sessions", "9"], "'demo' has no such limit"),
        (["--space", "nowhere.yaml"], "cannot read the search space"),
    ],
)
def test_extend_refuses_what_extends_nothing(
    finished_sweep: Written,
    tmp_path: Path,
    asked: list[Any],
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    finished_sweep()
    assert call(tmp_path, "extend", "demo", *words) == 2
    assert told in capsys.readouterr().err
    assert not asked


def test_extend_tells_where_the_space_is_used_up(
    finished_sweep: Written, tmp_path: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    finished_sweep()
    space = tmp_path / "space.yaml"
    for choice, code in (([0.0, 1.0], 2), ([0.0, 1.0, 2.0], 0)):
        space.write_text(f"fast.cross_weight: {{choice: {choice}}}\n{TEMPERATURES}")
        with pytest.warns(Notice, match=f"used up: {len(choice)} different trials are all there are of the 5 asked"):
            assert call(tmp_path, "extend", "demo", "--trials", "5", "--space", str(space)) == code
    assert "'demo' has all trials that its space holds; give it a wider --space" in capsys.readouterr().err
    assert [extended.trials for extended, _ in asked] == [3]


def test_export_writes_the_first_final_run(
    finished_sweep: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = finished_sweep()
    out = tmp_path / "chosen.yaml"
    assert call(tmp_path, "export", "demo", "--out", str(out)) == 0
    config = ledger.log.jobs["final-01-0"].config
    assert load_config(file=out).flat() == {**config, "data.root": str(Path("data").absolute())}
    capsys.readouterr()
    assert call(tmp_path, "export", "demo") == 0
    assert capsys.readouterr().out == out.read_text()
    assert call(tmp_path, "export", "demo", "--out", str(tmp_path / "no" / "x.yaml")) == 2
    ledger.append("selected", trial="trial-00", prediction={}, score=0.9)
    assert call(tmp_path, "export", "demo") == 2
    assert "has not chosen a configuration yet" in capsys.readouterr().err


def test_prune_lists_first_and_never_touches_the_ledger(
    finished_sweep: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    folder = finished_sweep().path.parent
    (folder / "ray" / "deep").mkdir(parents=True)
    (folder / "ray" / "deep" / "resume.pt").write_bytes(b"x" * 2_000_000)
    states = folder / "runs" / "final-01-0" / "checkpoints"
    states.mkdir(parents=True)
    for session in (1, 2, 3):
        parts = {name: {"pet": {"w": torch.full((4,), float(session))}} for name in ("slow", "fast")}
        save_session({"session": session, "learners": parts}, states)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert call(tmp_path, "prune", "demo") == 0
    told = capsys.readouterr().out
    assert "2.0  resume checkpoints" in told
    assert "nothing is removed yet" in told
    assert {path: path.read_bytes() for path in before} == before

    assert call(tmp_path, "prune", "--yes") == 0
    assert "removed 2.0 MB" in capsys.readouterr().out
    left = {path for path in folder.rglob("*") if path.is_file() and path.name != "lock"}
    part = next(path for path in left if path.name.startswith("pet-"))
    assert left == {folder / "ledger.jsonl", session_file(states, 3), part}
    assert call(tmp_path, "prune", "demo", "--keep", "0", "--yes") == 0
    assert not list(states.iterdir())
    capsys.readouterr()
    assert call(tmp_path, "prune", "demo") == 0
    assert "there is nothing to remove" in capsys.readouterr().out


def test_prune_clears_the_shared_work_and_leaves_running_sweeps_alone(
    finished_sweep: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_sweep().path.parent
    (folder / "ray").mkdir()
    (folder / "ray" / "resume.pt").write_bytes(b"x")
    stage = tmp_path / "stages" / "slow" / "key.stage"
    stage.parent.mkdir(parents=True)
    stage.write_bytes(b"x" * 1_000_000)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert call(tmp_path, "prune", "--yes", "--stages") == 0
        told = capsys.readouterr().out
        assert "left alone: the sweep 'demo' is being run" in told
        assert "1.0  work that all sweeps share" in told
        assert (folder / "ray" / "resume.pt").exists()
        assert not stage.exists()
        assert call(tmp_path, "list") == 0
        assert "running" in capsys.readouterr().out
    assert call(tmp_path, "prune", "--keep", "-1") == 2


def test_stop_says_when_nothing_runs(
    finished_sweep: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_sweep()
    assert call(tmp_path, "stop", "demo") == 2
    assert "the sweep 'demo' is not running" in capsys.readouterr().err
    assert call(tmp_path, "stop", "dem") == 2
    assert "Did you mean 'demo'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("why", "told"), [("", "interrupted; "), ("Ray's raylet was killed", "interrupted: Ray's raylet was killed; ")]
)
def test_an_interrupt_that_has_a_reason_tells_it_and_how_to_go_on(
    finished_sweep: Written,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    why: str,
    told: str,
) -> None:
    finished_sweep()

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt(*filter(None, [why]))

    monkeypatch.setattr("sweeps.studies.sweep.run_sweep", interrupted)
    assert call(tmp_path, "resume", "demo") == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{told}continue with: ")
    assert line.endswith(f"-m sweeps resume demo --results {tmp_path}")
