"""The commands of `python -m sweeps`: what they print, refuse and return."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from safe.errors import UserError
from sweeps.cli import COMMANDS, main
from sweeps.cli.local_server import free_port
from sweeps.ledger.ledger import Ledger, read_ledger


def run(tmp_path: Path, *words: str) -> int:
    return main(["run", "--results", str(tmp_path / "results"), *words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "digit"], "unknown data set 'digit'"),
        (["--selection", "train"], "unknown selection 'train'"),
        (["--search", "tpee"], "Did you mean 'tpe'?"),
        (["--trials", "0"], "--trials must be at least 1"),
        (["--name", "a/b"], "cannot name a sweep"),
        (["fast.epoch=3"], "Did you mean 'fast.epochs'?"),
        (["fast.epochs=many"], "fast.epochs"),
        (["fast.lr=-1"], "greater than 0, got -1"),
        (["fast.epochs"], "write settings as key=value"),
        (["--dataset", "omnibenchmark"], "89697 training and 5985 test images"),
        (["--space", "missing.yaml"], "cannot read the search space"),
        (["--trials", "9" * 400], f"--trials must be at most 10000, got {'9' * 190}... (400 letters)"),
        (["--seeds", "1001"], "--seeds must be at most 1000, got 1001"),
        (["--concurrency", "9" * 400], "--concurrency must be at most 1000"),
        (["--search-seed", "9" * 400], "--search-seed must be at most 2147483647"),
        (["--max-hours", "9" * 400], "--max-hours must be above 0, got inf"),
        (["backbone.weights=" + "b" * 5000], f"File name too long: {'b' * 190}... (5000 letters); give another path"),
        (["--name", "demo", f"head.ridge_grid={[*range(1, 2001)]}"], "ridge_grid takes 1 to 100 values, got 2000"),
    ],
)
def test_bad_input_ends_with_one_message_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert run(tmp_path, *words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("command", ["run", "show demo", "resume demo", "list", "prune", "compare a b", "ui"])
def test_a_results_folder_with_too_long_a_name_is_refused(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([*command.split(), "--results", "r" * 300]) == 2
    assert "File name too long" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (f"fast.cross_weight: {{uniform: [0, {'9' * 400}]}}", "a number of 400 digits is too large"),
        (
            f"aggregation.temperature: {{grid: {[*range(1, 201)]}}}\nhead.logit_scale: {{grid: {[*range(1, 201)]}}}",
            "have 40000 combinations",
        ),
    ],
)
def test_what_a_space_cannot_hold_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], space: str, message: str
) -> None:
    (tmp_path / "space.yaml").write_text(space)
    began = time.monotonic()
    assert run(tmp_path, "--space", str(tmp_path / "space.yaml")) == 2
    assert time.monotonic() - began < 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_unknown_options_and_commands_name_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--trails", "3"]) == 2
    assert "unknown option --trails. Did you mean '--trials'?" in capsys.readouterr().err
    assert main(["shwo", "x"]) == 2
    assert "show" in capsys.readouterr().err
    assert main([]) == 2


def test_an_unusable_results_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results").write_text("a file")
    assert run(tmp_path) == 2
    assert "cannot write to the results folder" in capsys.readouterr().err


def test_a_name_with_other_settings_is_refused(
    finished_sweep: Callable[[], Ledger], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = finished_sweep().path.read_bytes()
    assert main(["run", "--name", "demo", "--results", str(tmp_path), "fast.epochs=3", "runtime.device=cpu"]) == 2
    assert "fast.epochs: 5 -> 3" in capsys.readouterr().err
    assert (tmp_path / "sweeps" / "demo" / "ledger.jsonl").read_bytes() == before


def test_two_processes_cannot_run_one_sweep(
    finished_sweep: Callable[[], Ledger], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_sweep().path.parent
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711")
        lock.flush()
        assert main(["run", "--name", "demo", "--results", str(tmp_path), "runtime.device=cpu"]) == 2
    assert "is being run by another process (pid 4711)" in capsys.readouterr().err


def test_show_prints_the_outcome_for_programs_and_people(
    finished_sweep: Callable[[], Ledger], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_sweep()
    assert main(["show", "demo", "--json", "--results", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["selected"]["trial"] == "trial-01"
    assert main(["show", "demo", "--results", str(tmp_path)]) == 0
    assert "62.5 ± 17.7" in capsys.readouterr().out
    assert main(["list", "--results", str(tmp_path)]) == 0
    assert "finished  2 of 2  62.5 ± 17.7 %" in capsys.readouterr().out
    assert main(["show", "dem", "--results", str(tmp_path)]) == 2
    assert "no sweep is called 'dem'" in (message := capsys.readouterr().err)
    assert "Did you mean 'demo'?" in message


def test_list_says_of_what_cannot_be_read_what_the_other_commands_say(
    finished_sweep: Callable[[], Ledger], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = finished_sweep().path
    for header, state, words in (
        ('{"type": "sweep", "version": 2, "spec": {}}', "older format", "has format version 2, older than the 3"),
        ('{"type": "sweep", "version": 9, "spec": {}}', "newer format", "has format version 9, newer than the 3"),
        ("nothing", "damaged", "is damaged in line 1"),
    ):
        path.write_text(f"{header}\n")
        assert main(["show", "demo", "--results", str(tmp_path)]) == 2
        refusal = capsys.readouterr().err.removeprefix("error: ")
        assert main(["list", "--results", str(tmp_path)]) == 0
        told = capsys.readouterr().out
        assert words in refusal
        assert re.search(rf"demo +- +- +{state} ", told), told
        assert told.endswith(refusal)


def test_results_come_from_the_environment(
    finished_sweep: Callable[[], Ledger],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finished_sweep()
    monkeypatch.setenv("RESULTS", str(tmp_path))
    assert main(["show", "demo"]) == 0
    assert "chosen: trial-01" in capsys.readouterr().out


def test_show_and_help_load_neither_ray_nor_torch_nor_mlflow(
    finished_sweep: Callable[[], Ledger], tmp_path: Path
) -> None:
    finished_sweep()
    code = (
        "import sys; from sweeps.cli import main; "
        f"main(['show', 'demo', '--results', {str(tmp_path)!r}]); main(['--help']); "
        "sys.exit(any(name in sys.modules for name in ('ray', 'torch', 'mlflow', 'timm', 'numpy', 'pandas')))"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_found_by_its_name_and_tells_its_options(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m sweeps {command} ")


def test_all_commands_are_told_and_no_other_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert re.findall(r"^    ([a-z][a-z-]*)(?: |$)", capsys.readouterr().out, re.MULTILINE) == list(COMMANDS)
    assert main(["live"]) == 2
    assert "unknown command 'live'; choose one of: run, plan," in capsys.readouterr().err


def test_a_command_loads_no_other_and_no_engine(finished_sweep: Callable[[], Ledger], tmp_path: Path) -> None:
    finished_sweep()
    code = (
        f"import sys; from sweeps.cli import main; main(['list', '--results', {str(tmp_path)!r}]); "
        "print(*(name for name in sys.modules if name.startswith(('sweeps.cli.', 'sweeps.engine', 'sweeps.studies'))))"
    )
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1].split() == ["sweeps.cli.common", "sweeps.cli.show"]


def test_the_ui_takes_the_next_free_port(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) > port
        monkeypatch.setattr("sweeps.cli.local_server.PORTS_TRIED", 1)
        with pytest.raises(UserError, match=f"no free port of 127.0.0.1 from {port} on"):
            free_port(port)
    assert main(["ui", "--results", str(tmp_path)]) == 2
    assert "nothing is recorded" in capsys.readouterr().err


def test_a_finished_sweep_prints_its_result_at_once(
    finished_sweep: Callable[[], Ledger],
    make_spec: Callable[..., object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger = finished_sweep()
    before = ledger.path.read_bytes()
    monkeypatch.setattr("sweeps.studies.asked.build_spec", lambda **_: make_spec())
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["run", "--name", "demo", "--results", str(tmp_path)]) == 0
    assert "62.5 ± 17.7" in capsys.readouterr().out
    assert ledger.path.read_bytes() == before
    assert read_ledger(ledger.path.parent).finished


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["data.init_classes=60"], "data.init_classes must be at most the 30 classes"),
        (["runtime.device=tpu"], "runtime.device must be auto, cpu, cuda or cuda:N"),
        (["backbone.weights=/nowhere/weights.safetensors"], "/nowhere/weights.safetensors"),
        (["seed=2147483647"], "seed"),
    ],
)
def test_what_could_not_start_is_refused_before_a_name_is_taken(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--name", "demo", "--results", str(tmp_path / "results"), *words]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_damaged_sweep_does_not_hide_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sweeps" / "broken"
    folder.mkdir(parents=True)
    (folder / "ledger.jsonl").write_bytes(b"{}\n")
    assert main(["list", "--results", str(tmp_path)]) == 0
    assert "damaged" in capsys.readouterr().out


def test_settings_may_stand_around_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "fast.epochs=1", "--results", str(tmp_path / "r"), "slow.epochs=-1", "--trials", "2", "slow.lr=-1"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "slow.epochs: Input should be greater than or equal to 0" in told
    assert "slow.lr: Input should be greater than 0" in told


def test_commands_on_a_sweep_take_the_newest_and_say_so(
    finished_sweep: Callable[[], Ledger], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "--results", str(tmp_path)]) == 2
    assert f"there is no sweep in {tmp_path} yet" in capsys.readouterr().err
    folder = finished_sweep().path.parent
    for name, seconds in (("an-older", -10), ("a-newer", 10)):
        shutil.copytree(folder, tmp_path / "sweeps" / name)
        file = tmp_path / "sweeps" / name / "ledger.jsonl"
        when = (folder / "ledger.jsonl").stat().st_mtime + seconds
        os.utime(file, (when, when))
    for command in ("show", "report", "export", "stop"):
        main([command, "--results", str(tmp_path)])
        assert capsys.readouterr().err.startswith("the newest sweep: a-newer\n"), command
    assert (tmp_path / "sweeps" / "a-newer" / "report" / "report.html").exists()
    assert not (tmp_path / "sweeps" / "demo" / "report" / "report.html").exists()


def test_the_list_keeps_names_whole_on_a_narrow_terminal(
    finished_sweep: Callable[[], Ledger],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "a-name-of-64-letters".ljust(64, "x")
    shutil.move(finished_sweep().path.parent, tmp_path / "sweeps" / name)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list", "--results", str(tmp_path)]) == 0
    heading, line, *told = capsys.readouterr().out.splitlines()
    assert " ".join(map(str.strip, told)) == "too wide for this terminal: data set, selection, state, trials, when"
    assert line.split() == [name, "62.5", "±", "17.7", "%"]
    assert heading.split() == ["name", "test", "accuracy"]
