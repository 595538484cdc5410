"""`python -m safe predict` and `evaluate`: what people and programs read, and how bad input ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from safe.backbones.resize import Resize
from safe.cli.main import main
from safe.config import Config
from safe.data.sources import Dataset
from safe.predictor import Prediction, load_predictor
from safe.states.checkpoint import load_state, save_state
from safe.training.trainer import SafeTrainer

IMAGES = 7


@pytest.fixture(scope="session")
def trained(finished: Any) -> tuple[dict[str, float], str]:
    """Return the last metrics of a finished training and the file of its inference state."""
    return finished.metrics, str(finished.file)


@pytest.fixture
def checkpoint(
    trained: tuple[dict[str, float], str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_vit: VisionTransformer,
    tiny_dataset: Dataset,
) -> str:
    """Return the checkpoint's path, with the tiny network and data set in place of those it names."""
    monkeypatch.setattr("safe.predictor.load_backbone", lambda *_, **__: tiny_vit)
    monkeypatch.setattr("safe.data.loading.load_dataset", lambda *_: tiny_dataset)
    monkeypatch.setattr("safe.predictor.resolve_device", lambda _: torch.device("cpu"))
    return trained[1]


@pytest.fixture
def folder(tiny_dataset: Dataset, tmp_path: Path) -> Path:
    """Return a folder with pictures in it and in a folder of it, and a file that is none."""
    (tmp_path / "images" / "deeper").mkdir(parents=True)
    for i, image in enumerate(tiny_dataset.test.read(torch.arange(IMAGES))):
        place = tmp_path / "images" / ("deeper" if i > 3 else "") / f"{i}.png"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(place)
    (tmp_path / "images" / "notes.txt").write_text("no picture")
    return tmp_path / "images"


@pytest.fixture
def expected(checkpoint: str, tiny_dataset: Dataset) -> Prediction:
    return load_predictor(checkpoint).predict(tiny_dataset.test.read(torch.arange(IMAGES)))


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command line, which must end with exit code 2 and one message; return the message."""
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert "Traceback" not in error
    return error


# ---------------------------------------------------------------- predict


def test_json_holds_classes_probabilities_and_weights(
    capsys: pytest.CaptureFixture[str], checkpoint: str, folder: Path, expected: Prediction
) -> None:
    assert main(["predict", checkpoint, str(folder), "--json", "--top", "2"]) == 0
    printed = lines(capsys)
    in_order = [f"{folder}/{i}.png" for i in range(4)] + [f"{folder}/deeper/{i}.png" for i in range(4, IMAGES)]
    assert [line["file"] for line in printed] == in_order
    for i, line in enumerate(printed):
        assert set(line) == {"file", "class", "probability", "top", "weights"}
        assert line["class"] == line["top"][0]["class"] == expected.labels[i]
        best = expected.probabilities[i].sort(descending=True).values[:2].tolist()
        assert [entry["probability"] for entry in line["top"]] == pytest.approx(best, abs=1e-6)
        assert line["probability"] == line["top"][0]["probability"]
        assert line["weights"]["fast"] == pytest.approx(expected.fast_weight[i].item(), abs=1e-6)
        assert sum(line["weights"].values()) == pytest.approx(1, abs=1e-6)


def test_the_table_has_a_line_an_image_in_percent(
    capsys: pytest.CaptureFixture[str], checkpoint: str, folder: Path, expected: Prediction
) -> None:
    assert main(["predict", checkpoint, f"{folder}/2.png", f"{folder}/deeper/5.png"]) == 0
    out, error = capsys.readouterr()
    assert error == ""
    rows = [[f"{folder}/{name}.png", i] for name, i in (("2", 2), ("deeper/5", 5))]
    assert out.splitlines()[0].split() == ["file", "class", "probability", "(%)", "fast", "weight"]
    for line, (file, i) in zip(out.splitlines()[1:], rows, strict=True):
        probability, weight = 100 * expected.probabilities[i].max(), expected.fast_weight[i]
        assert line.split() == [file, *expected.labels[i].split(), f"{probability:.1f}", f"{weight:.2f}"]


def test_top_adds_a_line_for_each_further_class(
    capsys: pytest.CaptureFixture[str], checkpoint: str, folder: Path, expected: Prediction
) -> None:
    assert main(["predict", checkpoint, f"{folder}/0.png", "--top", "99"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.startswith(str(folder)) for row in rows] == [True] + [False] * 5
    classes, values = zip(*expected.top(6)[0], strict=True)
    assert [row.split("class ")[1].split()[0] for row in rows] == [name.removeprefix("class ") for name in classes]
    assert [row.split()[2] for row in rows[1:]] == [f"{100 * p:.1f}" for p in values[1:]]


def test_an_image_that_cannot_be_read_is_named_and_skipped(
    capsys: pytest.CaptureFixture[str], checkpoint: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(content[: len(content) // 2])
    (folder / "deeper" / "6.png").write_bytes(b"")
    assert main(["predict", checkpoint, str(folder), "--json"]) == 1
    out, error = capsys.readouterr()
    assert [Path(json.loads(line)["file"]).name for line in out.splitlines()] == [
        "0.png",
        "2.png",
        "3.png",
        "4.png",
        "5.png",
    ]
    told = error.splitlines()
    assert told[0].startswith(f"skipped: cannot read the image {folder}/1.png: ")
    assert told[1].startswith(f"skipped: cannot read the image {folder}/deeper/6.png: ")
    assert told[2] == "2 of 7 images could not be read"

    assert main(["predict", checkpoint, f"{folder}/1.png"]) == 1  # not even one could be
    assert capsys.readouterr().out.splitlines()[1:] == []


# Batches of another size round otherwise, the more so where one image is left for the last.
@pytest.mark.parametrize("batch_size", [4, 5, 2])
def test_images_are_read_a_batch_at_a_time(
    capsys: pytest.CaptureFixture[str],
    checkpoint: str,
    folder: Path,
    tmp_path: Path,
    batch_size: int,
) -> None:
    state = load_state(checkpoint)
    config = state["config"].replace('"eval_batch_size":12', f'"eval_batch_size":{batch_size}')
    assert config != state["config"]
    save_state({**state, "config": config}, tmp_path / "small.state")
    assert main(["predict", checkpoint, str(folder), "--json"]) == 0
    whole = lines(capsys)
    assert main(["predict", str(tmp_path / "small.state"), str(folder), "--json"]) == 0
    for a, b in zip(lines(capsys), whole, strict=True):
        assert a["file"] == b["file"]
        assert a["class"] == b["class"]
        assert a["probability"] == pytest.approx(b["probability"], abs=1e-5)


def test_a_name_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str], checkpoint: str, folder: Path) -> None:
    (folder / "0.png").rename(folder / "a\x1b[2Jb.png")
    assert main(["predict", checkpoint, f"{folder}/a\x1b[2Jb.png"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"a\x1b[2Jb.png" in out


def test_no_image_is_bad_input(
    capsys: pytest.CaptureFixture[str], checkpoint: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert "no image (.jpg, " in refused(capsys, "predict", checkpoint, f"{tmp_path}/empty")
    absent = f"{folder}/*.jpg"
    assert f"no such file or folder: {absent}" in refused(capsys, "predict", checkpoint, f"{folder}/0.png", absent)


def test_a_file_that_is_no_checkpoint_is_refused(
    capsys: pytest.CaptureFixture[str], checkpoint: str, folder: Path
) -> None:
    image = f"{folder}/0.png"
    assert f"{image} is not a checkpoint of this project" in refused(capsys, "predict", image, image)
    assert "cannot read the checkpoint" in refused(capsys, "predict", f"{folder}/absent", image)


@pytest.mark.parametrize("config", ["no settings", "[1, 2]", 7, None])
def test_a_state_whose_settings_are_none_is_refused(
    capsys: pytest.CaptureFixture[str], checkpoint: str, folder: Path, tmp_path: Path, config: object
) -> None:
    save_state({**load_state(checkpoint), "config": config}, tmp_path / "odd.state")
    told = refused(capsys, "predict", str(tmp_path / "odd.state"), f"{folder}/0.png")
    assert "does not hold the settings it was trained with" in told


def test_max_has_no_weights(capsys: pytest.CaptureFixture[str], checkpoint: str, folder: Path, tmp_path: Path) -> None:
    state = load_state(checkpoint)
    config = state["config"].replace('"kind":"entropy"', '"kind":"max"')
    save_state({**state, "config": config}, tmp_path / "max.state")
    arguments = ["predict", str(tmp_path / "max.state"), f"{folder}/0.png"]
    assert main([*arguments, "--json"]) == 0
    assert lines(capsys)[0]["weights"] is None
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(" -")


def test_a_reader_that_has_seen_enough_ends_it_quietly(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def closed(_: object) -> int:
        raise BrokenPipeError

    monkeypatch.setattr("safe.cli.predict.predict", closed)
    with (tmp_path / "out").open("w") as output:
        monkeypatch.setattr("sys.stdout", output)
        assert main(["predict", "x", "y"]) == 141
        output.write("nobody sees this")
    assert (tmp_path / "out").read_text() == ""
    assert capsys.readouterr().err == ""


# ---------------------------------------------------------------- evaluate


def test_the_grid_holds_what_training_measured(
    capsys: pytest.CaptureFixture[str], checkpoint: str, trained: tuple[dict[str, float], str]
) -> None:
    assert main(["evaluate", checkpoint, "--json"]) == 0
    rows = lines(capsys)
    assert [(row["aggregation"], row["temperature"]) for row in rows] == [
        ("entropy", 0.01), ("entropy", 0.1), ("entropy", 1), ("entropy", 10), ("entropy", 100),
        ("slow", None), ("fast", None),
    ]  # fmt: skip
    assert {row["session"] for row in rows} == {3}
    metrics = trained[0]
    for row, prefix in ((rows[2], ""), (rows[5], "slow/"), (rows[6], "fast/")):
        for name in ("accuracy", "accuracy_session_mean"):
            assert row[f"test/{name}"] == pytest.approx(metrics[f"{prefix}{name}"], abs=1e-12), (prefix, name)


def test_every_temperature_is_judged_as_if_it_were_the_checkpoints(
    capsys: pytest.CaptureFixture[str],
    checkpoint: str,
    make_config: Callable[..., Config],
    tiny_dataset: Dataset,
    tiny_vit: VisionTransformer,
) -> None:
    assert main(["evaluate", checkpoint, "--json", "--temperatures", "0.003,50"]) == 0
    rows = lines(capsys)
    assert [row["temperature"] for row in rows] == [0.003, 50, None, None]
    for row in rows[:2]:
        trainer = SafeTrainer(make_config({"aggregation.temperature": row["temperature"]}), tiny_dataset, tiny_vit)
        while not trainer.done:
            result = trainer.run_session()
        assert row["test/accuracy"] == pytest.approx(result.metrics["accuracy"], abs=1e-12)


def test_people_see_percent_and_which_setting_is_the_checkpoints(
    capsys: pytest.CaptureFixture[str], checkpoint: str, trained: tuple[dict[str, float], str]
) -> None:
    assert main(["evaluate", checkpoint, "--temperatures", "0.1,1"]) == 0
    out, error = capsys.readouterr()
    assert error == ""
    head, names, *rows = out.splitlines()
    assert head == "tiny after session 3: 24 test images of 6 classes"
    assert names.split() == ["aggregation", "temperature", "accuracy", "session", "mean", "(%)"]
    accuracy = f"{100 * trained[0]['accuracy']:.2f}"
    assert rows[1].split() == ["entropy", "1", accuracy, accuracy, "the", "checkpoint's", "setting"]
    assert [row.split()[:2] for row in (rows[0], *rows[2:])] == [["entropy", "0.1"], ["slow", "-"], ["fast", "-"]]
    assert sum("checkpoint's" in row for row in rows) == 1


def test_held_out_images_judge_where_they_did_in_training(
    capsys: pytest.CaptureFixture[str],
    checkpoint: str,
    make_config: Callable[..., Config],
    tiny_dataset: Dataset,
    tiny_vit: VisionTransformer,
    tmp_path: Path,
) -> None:
    overrides = {"data.evaluate_on": "holdout", "data.holdout_share": 0.25, "aggregation.kind": "mean"}
    trainer = SafeTrainer(make_config(overrides), tiny_dataset, tiny_vit)
    trainer.run_session()
    metrics = trainer.run_session().metrics
    save_state(trainer.inference_state(), tmp_path / "held.state")
    assert main(["evaluate", str(tmp_path / "held.state"), "--json", "--temperatures", "1"]) == 0
    rows = lines(capsys)
    assert [row["aggregation"] for row in rows] == ["entropy", "mean", "slow", "fast"]
    assert rows[1]["val/accuracy"] == pytest.approx(metrics["accuracy"], abs=1e-12)
    assert rows[1]["session"] == 2
    assert main(["evaluate", str(tmp_path / "held.state")]) == 0
    assert "8 held-out training images of 4 classes" in capsys.readouterr().out


def test_other_data_warns_and_other_classes_are_refused(
    capsys: pytest.CaptureFixture[str], checkpoint: str, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def load(name: str, root: str, size: int, resize: Resize) -> Dataset:
        asked[:] = [name, root, size]
        return replace(tiny_dataset, name="other", digest="0")

    monkeypatch.setattr("safe.data.loading.load_dataset", load)
    assert main(["evaluate", checkpoint, "--json", "--dataset", "cub", "--root", "elsewhere"]) == 0
    assert asked == ["cub200", "elsewhere", 32]
    out, error = capsys.readouterr()
    assert error == "warning: other is not the data that the checkpoint was trained on\n"
    assert len(out.splitlines()) == 7

    renamed = replace(tiny_dataset, classes=tuple("abcdef"))
    monkeypatch.setattr("safe.data.loading.load_dataset", lambda *_: renamed)
    assert main(["evaluate", checkpoint]) == 2
    assert "tiny has other classes than the checkpoint" in capsys.readouterr().err


def test_unknown_data_is_refused(capsys: pytest.CaptureFixture[str], checkpoint: str) -> None:
    assert "unknown data set 'imagenet_x'" in refused(capsys, "evaluate", checkpoint, "--dataset", "imagenet_x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "x", "--temperatures", "1,,2"], "must be numbers above 0 between commas, got '1,,2'"),
        (["evaluate", "x", "--temperatures", "0"], "must be numbers above 0"),
        (["evaluate", "x", "--temperatures", "nan"], "must be numbers above 0"),
        (["evaluate", "x", "--temperatures", "inf"], "must be numbers above 0"),
        (["predict", "x", "y", "--top", "0"], "must be a whole number of at least 1, got '0'"),
        (["predict", "x", "y", "--top", "two"], "must be a whole number of at least 1"),
        (["predict", "x"], "required: FILE_OR_FOLDER"),
        (["evaluate"], "required: CHECKPOINT"),
    ],
)
def test_wrong_arguments_end_with_two(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused(
    capsys: pytest.CaptureFixture[str], trained: tuple[dict[str, float], str]
) -> None:
    message = refused(capsys, "evaluate", trained[1], "--device", "cuda:99")
    assert "runtime.device=cuda:99 is not there" in message
