"""`python -m safe train --state`: an interrupted run goes on to the same bits."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.cli.main import main
from safe.data.sources import Dataset
from safe.errors import Notice
from safe.states.checkpoint import load_state, save_state
from safe.training.trainer import SafeTrainer

SETTINGS = [
    "slow.epochs=2",
    "fast.epochs=2",
    "slow.batch_size=12",
    "fast.batch_size=12",
    "pet.bottleneck=4",
    "pet.dropout=0.3",
    "head.projection_dim=16",
    "runtime.device=cpu",
]
ADVANCES = 9  # three sessions of two epochs and a closing step


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tiny_dataset: Dataset, tiny_vit: VisionTransformer) -> None:
    monkeypatch.setattr("safe.training.inputs.load_dataset", lambda *_: tiny_dataset)
    monkeypatch.setattr("safe.training.inputs.load_backbone", lambda *_, **__: tiny_vit)


Run = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that trains with --json: exit code, JSON lines without time and memory, standard error."""

    def train(*arguments: str) -> tuple[int, list[dict[str, Any]], str]:
        code = main(["train", "--json", *arguments, *SETTINGS])
        out, error = capsys.readouterr()
        printed = [json.loads(line) for line in out.splitlines()]
        spent = ("time/", "memory/")
        return code, [{k: v for k, v in line.items() if not k.startswith(spent)} for line in printed], error

    return train


@pytest.fixture
def whole(run: Run, tmp_path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the JSON lines and the inference state of a run that nothing interrupted."""
    code, sessions, _ = run("--save", str(tmp_path / "whole.save"))
    assert (code, len(sessions)) == (0, 3)
    return sessions, load_state(tmp_path / "whole.save")


def assert_same(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def after_advances(monkeypatch: pytest.MonkeyPatch, count: int, act: Callable[[], None]) -> None:
    """Do `act` at the end of the `count`-th advance from now."""
    advance, done = SafeTrainer.advance, [0]

    def counted(trainer: SafeTrainer) -> Any:
        event = advance(trainer)
        done[0] += 1
        if done[0] == count:
            act()
        return event

    monkeypatch.setattr(SafeTrainer, "advance", counted)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("count", range(1, ADVANCES))
def test_ctrl_c_after_any_advance_loses_nothing(
    run: Run,
    whole: tuple[list[dict[str, Any]], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    count: int,
) -> None:
    files = ["--state", f"{tmp_path}/run.state", "--save", f"{tmp_path}/run.save"]
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        after_advances(patch, count, interrupt)
        code, first, error = run(*files)
    assert signal.getsignal(signal.SIGINT) is before
    assert code == 130
    assert len(first) == count // 3
    assert "stopping after this epoch; Ctrl-C again stops at once\n" in error
    command = f"python -m safe train --json {shlex.join([*files, *SETTINGS])}"
    assert error.endswith(f"stopped; {tmp_path}/run.state holds the run, continue with:\n  {command}\n")
    assert not (tmp_path / "run.save").exists()
    state = load_state(tmp_path / "run.state")
    assert (state["session"], state["epoch"]) == (count // 3, count % 3)

    code, rest, error = run(*files)
    assert code == 0
    assert f"continuing {tmp_path}/run.state in session {count // 3 + 1} of 3\n" in error
    assert first + rest == whole[0]
    assert_same(load_state(tmp_path / "run.save"), whole[1])


@pytest.mark.parametrize("every_epoch", [False, True])
@pytest.mark.parametrize("count", [4, 5, 7])
def test_a_kill_within_a_step_goes_back_to_the_last_file(
    run: Run,
    whole: tuple[list[dict[str, Any]], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    count: int,
    every_epoch: bool,
) -> None:
    files = ["--state", f"{tmp_path}/run.state", "--save", f"{tmp_path}/run.save"]
    files += ["--every-epoch"] if every_epoch else []

    def twice() -> None:
        interrupt()
        interrupt()

    with monkeypatch.context() as patch:
        after_advances(patch, count, twice)  # trained, but not returned yet: as good as in the middle
        code, first, error = run(*files)
    assert code == 130
    assert "continue with:" in error
    state = load_state(tmp_path / "run.state")
    kept = count - 1 if every_epoch else 3 * ((count - 1) // 3)
    assert 3 * state["session"] + state["epoch"] == kept
    code, rest, _ = run(*files)
    assert code == 0
    assert first + rest == whole[0]
    assert_same(load_state(tmp_path / "run.save"), whole[1])


def test_two_interrupts_before_anything_is_written_just_stop(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def raised() -> None:
        raise KeyboardInterrupt

    after_advances(monkeypatch, 1, raised)
    code, sessions, error = run("--state", str(tmp_path / "run.state"))
    assert (code, sessions, error) == (130, [], "stopped\n")
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_written_after_every_session_or_epoch(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written: list[tuple[int, int]] = []

    def save(state: dict[str, Any], path: Path) -> None:
        written.append((state["session"], state["epoch"]))

    monkeypatch.setattr("safe.states.checkpoint.save_state", save)
    assert run("--state", str(tmp_path / "run.state"))[0] == 0
    assert written == [(1, 0), (2, 0), (3, 0)]
    written.clear()
    assert run("--state", str(tmp_path / "run.state"), "--every-epoch")[0] == 0
    assert written == [divmod(advances, 3) for advances in range(1, ADVANCES + 1)]


def test_a_finished_run_stays_and_says_so(
    run: Run, whole: tuple[list[dict[str, Any]], dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "run.state"
    assert run("--state", str(file))[1] == whole[0]
    content = file.read_bytes()
    code, sessions, error = run("--state", str(file), "--save", str(tmp_path / "later.save"))
    assert (code, sessions) == (0, [])
    assert f"this run is finished; {file} holds its end (delete it to train again)" in error
    assert file.read_bytes() == content
    assert_same(load_state(tmp_path / "later.save"), whole[1])


def test_the_table_goes_on_where_it_was(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = ["train", "--state", str(tmp_path / "run.state"), *SETTINGS]
    with monkeypatch.context() as patch:
        after_advances(patch, 3, interrupt)
        assert main(arguments) == 130
    assert "   1/3 " in capsys.readouterr().out
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[3:]] == ["2/3", "3/3"]


def test_a_state_of_other_settings_is_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "run.state"
    assert run("--state", str(file))[0] == 0
    code, sessions, error = run("--state", str(file), "seed=1")
    assert (code, sessions) == (2, [])
    assert error.startswith(f"error: --state: {file}: the state belongs to another configuration (seed=0, now 1); ")
    code, _, error = run("--state", str(file), "runtime.micro_batch=3")
    assert code == 2
    assert "the state was trained with runtime.precision=float32, runtime.micro_batch=null" in error
    assert run("--state", str(file), "runtime.deterministic=true")[0] == 0  # where and how fast it runs may change


def test_files_that_hold_no_run_are_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "run.state"
    file.write_text("notes")
    code, _, error = run("--state", str(file))
    assert (code, file.read_text()) == (2, "notes")
    advice = "name another file, or, if it was this run, delete it to begin anew"
    assert error == f"error: --state: {file} is not a checkpoint of this project; {advice}\n"
    save_state({"version": 1}, file)
    code, _, error = run("--state", str(file))
    assert (code, error) == (2, f"error: --state: {file} holds no run to continue; name another file\n")


def test_a_disk_that_is_full_ends_in_words(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safe.states.checkpoint.save_state", full)
    code, _, error = run("--state", str(tmp_path / "run.state"))
    assert (code, error) == (2, f"error: --state: {tmp_path}/run.state could not be written: No space left on device\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--every-epoch"], "--every-epoch says when --state FILE is written: give both"),
        (["--state", "a", "--save", "a"], "need two files, got a for both"),
        (["--state", "/"], "--state: / cannot be written"),
    ],
)
def test_files_that_do_not_fit_are_refused_before_training(run: Run, arguments: list[str], message: str) -> None:
    code, _, error = run(*arguments)
    assert code == 2
    assert message in error


def test_a_real_interrupt_of_a_process(tmp_path: Path, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder data set and the shipped network, nothing replaced: stopped in session 2 and continued here."""
    monkeypatch.undo()
    for split, images in (("train", tiny_dataset.train), ("test", tiny_dataset.test)):
        for i, (pixels, label) in enumerate(zip(images.read(torch.arange(len(images))), images.labels, strict=True)):
            folder = tmp_path / "data" / split / f"{label}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    settings = [f"dataset={tmp_path}/data", "data.init_classes=2", "data.increment=2", "runtime.threads=1"]
    settings += ["slow.epochs=1", "fast.epochs=40", "fast.lr=0.001", "head.projection_dim=16", "runtime.device=cpu"]
    files = ["--state", f"{tmp_path}/run.state", "--save", f"{tmp_path}/run.save"]
    command = [sys.executable, "-m", "safe", "train", "--json", *files, *settings]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    os.kill(process.pid, signal.SIGINT)
    rest, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert (json.loads(first)["session"], rest) == (1, "")
    assert "Traceback" not in error
    assert f"stopped; {tmp_path}/run.state holds the run, continue with:\n  python -m safe train" in error
    state = load_state(tmp_path / "run.state")
    assert state["session"] == 1
    assert 0 <= state["epoch"] < 40

    assert main(["train", "--json", *files, *settings]) == 0
    assert main(["train", "--json", "--save", f"{tmp_path}/whole.save", *settings]) == 0
    assert_same(load_state(tmp_path / "run.save"), load_state(tmp_path / "whole.save"))


def test_a_run_goes_on_in_its_order_of_classes_when_the_file_is_gone_and_not_in_another(
    run: Run, tmp_path: Path
) -> None:
    names, state = tmp_path / "names.txt", f"{tmp_path}/run.state"
    order = [f"class {number}" for number in (4, 0, 5, 1, 3, 2)]
    names.write_text("\n".join(order))
    words = [f"data.class_order={names}", "data.sessions=[3, 1, 2]"]
    code, whole, _ = run(*words, "--state", f"{tmp_path}/whole.state")
    assert (code, load_state(Path(f"{tmp_path}/whole.state"))["provenance"]["class_order"]) == (0, "4,0,5,1,3,2")
    with pytest.MonkeyPatch.context() as patch:
        after_advances(patch, 4, interrupt)
        code, begun, _ = run(*words, "--state", state)
    assert code == 130
    names.write_text("\n".join(order[::-1]))
    code, _, error = run(*words, "--state", state)
    assert code == 2
    assert "data.class_order=['class 4', 'class 0'" in error
    assert "now ['class 2', 'class 3'" in error
    names.unlink()
    with pytest.warns(Notice, match="goes on in the order of 6 classes that it kept"):
        code, rest, _ = run(*words, "--state", state)
    assert (code, begun + rest) == (0, whole)
