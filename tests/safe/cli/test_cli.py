"""`python -m safe`: exit codes, one clear message and no traceback, JSON for programs."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from safe.cli.main import main
from safe.data.sources import Dataset
from safe.states.checkpoint import load_state

QUICK = [
    "slow.epochs=1",
    "fast.epochs=1",
    "slow.batch_size=12",
    "fast.batch_size=12",
    "pet.bottleneck=4",
    "head.projection_dim=16",
    "runtime.device=cpu",
]


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch, tiny_dataset: Dataset, tiny_vit: VisionTransformer) -> None:
    """Let the command line train on the tiny data set and network: six classes, three sessions."""
    monkeypatch.setattr("safe.training.inputs.load_dataset", lambda *_: tiny_dataset)
    monkeypatch.setattr("safe.training.inputs.load_backbone", lambda *_, **__: tiny_vit)


@pytest.fixture(autouse=True)
def _no_training(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Bad input must be refused before anything is loaded."""
    if "_tiny" not in request.fixturenames:

        def loaded(*_: object, **__: object) -> None:
            raise AssertionError("something was loaded before the input was checked")

        monkeypatch.setattr("safe.training.inputs.load_dataset", loaded)
        monkeypatch.setattr("safe.training.inputs.load_backbone", loaded)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command line, which must end with exit code 2 and a message; return the message."""
    code = main(["train", *arguments])
    out, error = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert error.startswith("error: ")
    assert "Traceback" not in error
    return error


@pytest.mark.usefixtures("_tiny")
def test_json_is_one_object_a_session_with_finite_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--json", *QUICK]) == 0
    out, error = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["session"], line["sessions"]) for line in lines] == [(1, 3), (2, 3), (3, 3)]
    assert error == ""
    for line in lines:
        assert all(type(value) in (int, float) and math.isfinite(value) for value in line.values())
        assert 0 <= line["test/accuracy"] <= 1
        assert {"test/slow/accuracy", "test/fast/accuracy", "test/average_accuracy", "ridge/slow"} <= line.keys()
        assert ("test/forgetting" in line) == (line["session"] > 1)


@pytest.mark.usefixtures("_tiny")
def test_the_table_has_a_line_a_session_in_percent(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *QUICK]) == 0
    table = capsys.readouterr().out
    assert main(["train", "--json", *QUICK]) == 0
    sessions = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "digits: 3 sessions, seed 0, adapter on safe_small_vit, cpu" in table
    rows = [line.split() for line in table.splitlines() if re.match(r"\s*\d/3 ", line)]
    assert [row[0] for row in rows] == ["1/3", "2/3", "3/3"]
    assert [row[1] for row in rows] == ["2", "4", "6"]
    assert [row[2] for row in rows] == [f"{100 * s['test/accuracy']:.2f}" for s in sessions]
    assert rows[0][4] == "-"


@pytest.mark.usefixtures("_tiny")
def test_save_writes_the_inference_state(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "run.state"
    assert main(["train", "--json", "--save", str(path), *QUICK]) == 0
    out, error = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert str(path) in error
    state = load_state(path)
    assert state["session"] == 3
    assert len(state["classes"]) == 6
    assert state["learners"]["slow"]["readout"]["weight"].shape == torch.Size([16, 6])


@pytest.mark.usefixtures("_tiny")
def test_file_and_overrides_reach_the_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("data: {init_classes: 4, increment: 1}\nslow.lr: 1e30\n")
    assert main(["train", "--json", "--config", str(file), *QUICK, "slow.lr=1e-3"]) == 0
    assert [json.loads(line)["sessions"] for line in capsys.readouterr().out.splitlines()] == [3, 3, 3]


@pytest.mark.usefixtures("_tiny")
def test_settings_stand_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *QUICK, "data.init_classes=5", "--json", "data.increment=1"]) == 0
    assert [json.loads(line)["sessions"] for line in capsys.readouterr().out.splitlines()] == [2, 2]


@pytest.mark.usefixtures("_tiny")
def test_a_diverging_training_ends_with_one_and_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--json", *QUICK, "slow.lr=1e30"]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: the loss term ")
    assert "session 1, epoch 1, step 2" in error
    assert "Traceback" not in error


@pytest.mark.usefixtures("_tiny")
def test_an_interrupt_ends_with_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("safe.training.trainer.SafeTrainer.advance", interrupt)
    assert main(["train", *QUICK]) == 130
    assert capsys.readouterr().err.strip() == "stopped"


@pytest.mark.usefixtures("_tiny")
def test_sizes_that_do_not_fit_the_data_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "at most the 6 classes of the data set, got 9" in refused(capsys, *QUICK, "data.init_classes=9")


@pytest.mark.usefixtures("_tiny")
def test_a_device_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "runtime.device=cuda:99 is not there" in refused(capsys, *QUICK[:-1], "runtime.device=cuda:99")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "cub", "dataset=vtab"], "--dataset cub, but dataset=vtab is set too; name it once"),
        (["--dataset", "imagenet_x"], "unknown data set 'imagenet_x'; choose one of: digits"),
        (["fast.epoch=3"], "unknown setting 'fast.epoch'. Did you mean 'fast.epochs'?"),
        (["fast.lr=-1"], "fast.lr: Input should be greater than 0, got -1"),
        (["fast.epochs=many"], "fast.epochs: Input should be a valid integer"),
        (["fast.epochs"], "write settings as key=value"),
        (["fast.epochs=[1"], "the value of 'fast.epochs' is not valid YAML"),
        (["--dataset", "glyphs", 'data.root="a\\0b"'], "no name and no path has a NUL in it"),
        (["--state", "s" * 300], "cannot be written"),
        (["seed=1", "--json", "seed=2"], "seed is set twice, by 'seed=1' and by 'seed=2'; give it once"),
        (["--config", "does/not/exist.yaml"], "cannot read the configuration file does/not/exist.yaml"),
    ],
)
def test_bad_input_is_refused_in_words(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert message in refused(capsys, *arguments)


@pytest.mark.usefixtures("_tiny")
def test_too_long_a_path_is_refused_wherever_it_is_noticed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safe.training.inputs.load_backbone", lambda _, weights, **__: Path(weights).exists())
    assert main(["train", "backbone.weights=" + "b" * 5000]) == 2
    told = f"error: File name too long: {'b' * 190}... (5000 letters); give another path\n"
    assert capsys.readouterr().err == told


def test_all_bad_settings_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, "fast.lr=-1", "slow.epochs=x", "nothing=1")
    assert all(name in error for name in ("fast.lr", "slow.epochs", "nothing"))


def test_broken_yaml_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("slow: [")
    assert f"{file} is not valid YAML" in refused(capsys, "--config", str(file))


def test_missing_data_is_told_with_the_expected_folders_and_counts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    error = refused(capsys, "--dataset", "omnibenchmark", f"data.root={tmp_path}")
    for part in (f"{tmp_path / 'omnibenchmark'}", "300", "89697", "5985", "/train/<class folder>/<image>"):
        assert part in error


def test_a_file_that_cannot_be_written_is_refused_before_training(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "run.state", tmp_path / "file" / "deeper" / "run.state"):
        assert f"--save: {path} cannot be written" in refused(capsys, "--save", str(path))


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc here")
@pytest.mark.parametrize("option", ["--save", "--state"])
def test_a_file_system_that_takes_no_files_is_refused_before_training(
    capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert f"{option}: /proc/q/x.pt cannot be written" in refused(capsys, option, "/proc/q/x.pt")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder_is_refused_before_training(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    assert "cannot be written" in refused(capsys, "--save", str(folder / "run.state"))


@pytest.mark.parametrize("arguments", [[], ["fly"], ["train", "--colour"], ["train", "--js"]])
def test_wrong_commands_end_with_two(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    error, more = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert more.startswith("python -m safe")
    assert more.endswith(" --help shows what there is")


def test_help_needs_no_training_libraries(capsys: pytest.CaptureFixture[str], run_python: Callable[[str], str]) -> None:
    code = "import sys, contextlib\nfrom safe.cli.main import main\n"
    code += "with contextlib.suppress(SystemExit):\n    main(['train', '--help'])\n"
    code += "print('loaded:', [m for m in ('torch', 'timm', 'ray', 'mlflow', 'pandas') if m in sys.modules])"
    assert run_python(code).endswith("loaded: []\n")
