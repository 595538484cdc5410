"""The files of a run, from sessions and logits whose outcome a person can check."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from safe.config import load_config
from safe.data.images import FileImages
from safe.data.sources import ArrayImages
from safe.data.stream import Session, Subset
from safe.errors import UserError
from safe.evaluation.aggregation import entropy_weights
from safe.evaluation.logits import SessionLogits, accuracy_row
from safe.states.inference import load_inference_state
from safe.types import SessionResult, Split
from sweeps.ledger.jobs import Kind
from sweeps.ledger.record import VERSION, SessionRecord
from sweeps.results.confused import Pair, read_pairs
from sweeps.worker.artifacts import keep_session, read_records
from sweeps.worker.confused import confused_pairs
from sweeps.worker.predictions import confusion, predicted_images

CLASSES = ["eins", "zwei", "drei $x$"]
# An image of class 0, then one of class 1 and two of class 2, of which both learners take one for class 1.
LOGITS = SessionLogits(
    slow=torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 3.0, 1.0], [0.0, 0.0, 4.0]]),
    fast=torch.tensor([[1.0, 2.0, 0.0], [0.0, 5.0, 1.0], [0.0, 2.0, 1.0], [0.0, 1.0, 5.0]]),
    slow_scale=1.0,
    fast_scale=1.0,
    labels=torch.tensor([0, 1, 2, 2]),
    counts=[1, 3],
    owned=[range(1), range(1, 3)],
)
PREDICTIONS = [
    {"aggregation.kind": kind, "aggregation.temperature": 1.0, "head.logit_scale": "learned"}
    for kind in ("fast", "slow")
]
CONFIG = load_config("digits", overrides=["aggregation.temperature=0.5"])


def trainer(session: int) -> Any:
    """Return what `keep_session` asks of a trainer after a session of a stream of two."""
    images = ArrayImages(torch.zeros(10, 3, 8, 8, dtype=torch.uint8), torch.zeros(10, dtype=torch.int64))
    index = [torch.tensor([7]), torch.tensor([1, 2, 9])]
    sessions = [
        SimpleNamespace(evaluation=Subset(images, index[0], LOGITS.labels[:1]), seen=1, classes=range(1)),
        SimpleNamespace(evaluation=Subset(images, index[1], LOGITS.labels[1:]), seen=3, classes=range(1, 3)),
    ]
    slow = {"w": torch.ones(1000)}
    fast = slow if session == 1 else {"w": torch.zeros(1000)}
    return SimpleNamespace(
        config=CONFIG,
        session_logits=LOGITS.first(session),
        stream=SimpleNamespace(sessions=sessions),
        device=torch.device("cpu"),
        precision="float32",
        inference_state=lambda: {
            "version": 1,
            "session": session,
            "classes": CLASSES[: sessions[session - 1].seen],
            "learners": {"slow": {"pet": slow}, "fast": {"pet": fast}},
        },
    )


def record(session: int, split: Split = "test") -> SessionRecord:
    result = SessionResult(
        session,
        2,
        split,
        session,
        metrics={"slow/accuracy": 0.5, "accuracy": 0.75},
        losses=((session, {"train/slow/ce": 0.25}),),
        row=((1.0,), (0.5, 0.25))[session - 1],
        confusion=(((1,),), ((1, 0), (1, 2)))[session - 1],
        seconds={"train": 1.0},
    )
    return SessionRecord.of(result, {"data_digest": "d", "weights_digest": "w", "class_order": "0,1"}, [1, 3][:session])


def job(folder: Path, kind: str = "final", **changes: Any) -> dict[str, Any]:
    return {
        "id": "final-01-0",
        "kind": kind,
        "title": "final 0",
        "config": CONFIG.flat(),
        "predictions": [],
        "states": str(folder),
        **changes,
    }


def names(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def table(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


PLAIN = {
    "sessions.jsonl",
    "run.log",
    "config.yaml",
    "tables/accuracy_matrix.csv",
    "tables/accuracy_matrix.json",
    "tables/sessions.csv",
}
SMALL = {*PLAIN, "plots/accuracy_matrix.png", "plots/curves.png"}
FULL = {
    *SMALL,
    "tables/predictions.csv",
    "tables/confusion.csv",
    "plots/confusion.png",
    "tables/session_confusion.csv",
    "tables/session_confusion.json",
    "tables/confused_pairs.csv",
    "plots/confused_pairs.png",
    "environment.json",
}


@pytest.fixture(scope="module")
def final(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished final run."""
    folder = tmp_path_factory.mktemp("final")
    for session in (1, 2):
        keep_session(job(folder), trainer(session), record(session))
    return folder


def test_a_final_run_has_every_file(final: Path) -> None:
    states = {name for name in names(final) if name.startswith("checkpoints/")}
    assert names(final) - states == FULL
    assert {f"checkpoints/session-0{s}.pt" for s in (1, 2)} < states
    assert len(states) == 4  # and the PET that is shared, and the fast learner's of session 2
    assert load_inference_state(final / "checkpoints/session-02.pt")["learners"]["fast"]["pet"]["w"].sum() == 0


def test_nothing_but_states_and_records_is_written_before_the_end(tmp_path: Path) -> None:
    keep_session(job(tmp_path), trainer(1), record(1))
    assert {name for name in names(tmp_path) if not name.startswith("checkpoints/")} == {"sessions.jsonl", "run.log"}


def test_the_tables_by_hand(final: Path) -> None:
    matrix = table(final / "tables/accuracy_matrix.csv")
    assert matrix == [["after", "session 1", "session 2"], ["session 1", "1.0", ""], ["session 2", "0.5", "0.25"]]
    assert json.loads((final / "tables/accuracy_matrix.json").read_text()) == {
        "columns": ["after", "session 1", "session 2"],
        "data": [["session 1", 1.0, ""], ["session 2", 0.5, 0.25]],
    }
    sessions = table(final / "tables/sessions.csv")
    assert sessions[0] == ["session", "slow/accuracy", "accuracy", "time/train_seconds"]
    assert sessions[1:] == [["1", "0.5", "0.75", "1.0"], ["2", "0.5", "0.75", "1.0"]]
    cells = table(final / "tables/confusion.csv")
    assert cells[0] == ["true class", *CLASSES]
    assert [row[1:] for row in cells[1:]] == [["1", "0", "0"], ["0", "1", "0"], ["0", "1", "1"]]


def test_confusion_by_session_and_by_pairs_by_hand(final: Path) -> None:
    sessions = table(final / "tables/session_confusion.csv")
    assert sessions == [["images of", "session 1", "session 2"], ["session 1", "1", "0"], ["session 2", "1", "2"]]
    shown = json.loads((final / "tables/session_confusion.json").read_text())
    assert [shown["columns"], *shown["data"]] == [sessions[0], ["session 1", 1, 0], ["session 2", 1, 2]]
    assert read_pairs(final) == [Pair(CLASSES[2], 2, "zwei", 2, images=1, of=2)]
    assert read_pairs(final / "nothing") == []


def test_the_images_of_a_pair_are_those_taken_and_those_recognised() -> None:
    pixels = torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1).expand(-1, 3, 8, 8)
    images = ArrayImages(pixels, torch.zeros(10, dtype=torch.int64))
    judged = [
        Session(number, own, subset, subset)
        for number, own, subset in (
            (1, range(1), Subset(images, torch.tensor([7]), LOGITS.labels[:1])),
            (2, range(1, 3), Subset(images, torch.tensor([1, 2, 9]), LOGITS.labels[1:])),
        )
    ]
    pairs, ((taken, recognised),) = confused_pairs(LOGITS, CONFIG, CLASSES, judged)
    assert [pair.images for pair in pairs] == [1]
    assert [int(image.max()) for image in taken] == [2], "the third image, of class 2, is taken for class 1"
    assert [int(image.max()) for image in recognised] == [1]
    right = replace(LOGITS, labels=torch.tensor([0, 1, 1, 2]))
    assert confused_pairs(right, CONFIG, CLASSES, judged) == ([], [])


def test_the_predictions_by_hand(final: Path) -> None:
    header, *lines = table(final / "tables/predictions.csv")
    read = [dict(zip(header, line, strict=True)) for line in lines]
    assert [line["image"] for line in read] == ["7", "1", "2", "9"]
    assert [line["session"] for line in read] == ["1", "2", "2", "2"]
    assert [line["true"] for line in read] == ["eins", "zwei", CLASSES[2], CLASSES[2]]
    assert [line["slow"] for line in read] == ["eins", "zwei", "zwei", CLASSES[2]]
    assert [line["fast"] for line in read] == ["zwei", "zwei", "zwei", CLASSES[2]]
    assert [line["predicted"] for line in read] == ["eins", "zwei", "zwei", CLASSES[2]]
    _, w_fast = entropy_weights(LOGITS.slow, LOGITS.fast, 0.5)
    assert [float(line["weight_fast"]) for line in read] == pytest.approx(w_fast.tolist())
    first = (1 - w_fast[0]) * LOGITS.slow[0] + w_fast[0] * LOGITS.fast[0]
    assert float(read[0]["probability"]) == pytest.approx(first.softmax(0)[0].item(), abs=1e-5)


def test_the_resolved_configuration_can_be_trained(final: Path) -> None:
    assert load_config(None, final / "config.yaml") == CONFIG


def test_the_log_tells_every_epoch_and_session(final: Path) -> None:
    assert (final / "run.log").read_text() == (
        "final 0\n"
        "session 1 of 2\n  epoch 1: train/slow/ce 0.25\n  test/slow: accuracy 0.5\n  test: accuracy 0.75\n"
        "  time: train_seconds 1\n"
        "session 2 of 2\n  epoch 2: train/slow/ce 0.25\n  test/slow: accuracy 0.5\n  test: accuracy 0.75\n"
        "  time: train_seconds 1\n"
    )


def test_the_environment_names_versions_and_device(final: Path) -> None:
    about = json.loads((final / "environment.json").read_text())
    assert about["version.torch"] == torch.__version__.partition("+")[0]
    assert (about["device"], about["precision"]) == ("cpu", "float32")


@pytest.mark.parametrize("kind", [Kind.SLOW, Kind.RACE, Kind.AUDIT])
def test_runs_that_nobody_opens_are_not_drawn(kind: Kind, tmp_path: Path) -> None:
    for session in (1, 2):
        keep_session(job(tmp_path, kind, checkpoints="none"), trainer(session), record(session, "val"))
    assert names(tmp_path) == PLAIN


def test_a_trial_shows_itself_at_the_settings_the_sweep_will_choose(tmp_path: Path) -> None:
    trial = job(tmp_path, "trial", predictions=PREDICTIONS, objective="accuracy")
    for session in (1, 2):
        seen = LOGITS.first(session)
        grid = [accuracy_row(scores, seen.labels, seen.counts) for scores in (seen.fast, seen.slow)]
        extra = [{"nll": 2.0}, {"nll": 1.0}]
        keep_session(trial, trainer(session), replace(record(session, "val"), grid=grid, grid_metrics=extra))
    assert {name for name in names(tmp_path) if not name.startswith("checkpoints/")} == SMALL
    # The slow learner alone has 3 of 4 images right, the fast one 2.
    assert table(tmp_path / "tables/accuracy_matrix.csv")[2] == ["session 2", "1.0", str(2 / 3)]
    header, _, last = table(tmp_path / "tables/sessions.csv")
    assert (last[header.index("accuracy")], last[header.index("nll")]) == ("0.75", "1.0")
    assert load_config(None, tmp_path / "config.yaml").aggregation.kind == "slow"


@pytest.mark.parametrize(
    ("policy", "kind", "sessions"),
    [
        ("all", "trial", {1, 2}),
        ("last", "trial", {2}),
        ("last", "final", {2}),
        ("best", "trial", {1, 2}),
        ("best", "slow", set()),
        ("all", "audit", set()),
        ("best", "final", {1, 2}),
        ("best", "variant", {1, 2}),
        ("best", "control", set()),
        ("none", "final", set()),
    ],
)
def test_the_policy_says_which_states_are_kept(policy: str, kind: str, sessions: set[int], tmp_path: Path) -> None:
    from sweeps.worker.artifacts import _keep_state

    for session in (1, 2):
        _keep_state(tmp_path / "run" / "checkpoints", policy, kind, trainer(session), session)  # type: ignore[arg-type]
    kept = {file.name for file in (tmp_path / "run").rglob("session-*.pt")}
    assert kept == {f"session-0{session}.pt" for session in sessions}
    for session in sessions:
        assert load_inference_state(tmp_path / "run" / "checkpoints" / f"session-0{session}.pt")["session"] == session


def test_a_session_done_again_replaces_what_followed_it(tmp_path: Path) -> None:
    for session in (1, 2, 1):
        keep_session(job(tmp_path, checkpoints="none"), trainer(session), record(session))
    assert [record.session for record in read_records(tmp_path)] == [1]
    keep_session(job(tmp_path, checkpoints="none"), trainer(2), record(2))
    assert [record.session for record in read_records(tmp_path)] == [1, 2]


def test_equal_runs_have_equal_files(final: Path, tmp_path: Path) -> None:
    for session in (1, 2):
        keep_session(job(tmp_path), trainer(session), record(session))
    for name in FULL - {"environment.json"}:
        assert (final / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_newer_records_are_refused(tmp_path: Path) -> None:
    (tmp_path / "sessions.jsonl").write_text(json.dumps({"format": "run-sessions", "version": VERSION + 1}) + "\n")
    with pytest.raises(UserError, match=f"version {VERSION + 1}; this installation reads up to {VERSION}"):
        read_records(tmp_path)


def test_the_heat_map_is_a_picture_of_a_page(final: Path) -> None:
    pixels = np.asarray(Image.open(final / "plots/accuracy_matrix.png").convert("L"), dtype=float)
    height, width = pixels.shape
    assert 200 < height < 1500
    assert 200 < width < 1500
    assert pixels.std() > 20, "an empty picture"


@pytest.mark.parametrize("classes", [2, 25, 345])
def test_a_confusion_matrix_of_many_classes_stays_a_picture_of_a_page(classes: int, tmp_path: Path) -> None:
    from sweeps.worker.plots import confusion_heat_map

    counts = [[3 * (i == j) + (j == 0) for j in range(classes)] for i in range(classes)]
    counts[-1] = [0] * classes  # a class without images
    confusion_heat_map(counts, [f"class {c}" for c in range(classes)], [1, classes], "title", tmp_path / "x.png")
    width, height = Image.open(tmp_path / "x.png").size
    assert max(width, height) < 2000


def test_of_many_classes_those_most_confused_are_drawn_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 60 classes, each of 10 images, 57 is taken for 3 always and 20 for 59 mostly; 7 has no images."""
    from sweeps.worker import plots

    counts = [[10 * (i == j) for j in range(60)] for i in range(60)]
    counts[57][57], counts[57][3], counts[20][20], counts[20][59], counts[7] = 0, 10, 3, 7, [0] * 60
    drawn: list[Any] = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: drawn.append(figure.axes[0]))
    names = [f"class {number}" for number in range(60)]
    plots.confusion_heat_map(counts, names, [3, 10, 57, 60], "SAFE", tmp_path / "x.png")
    (axes,) = drawn
    kept = [*range(38), 57, 59]
    labels = [[label.get_text() for label in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis)]
    assert labels == [[names[number] for number in kept]] * 2
    assert axes.get_title() == "SAFE\nthe 40 classes most confused of 60"
    upright = [line.get_xdata()[0] for line in axes.lines if line.get_xdata()[0] == line.get_xdata()[1]]
    assert sorted(upright) == [2.5, 9.5, 37.5], "between sessions"
    cells = axes.images[0].get_array()
    assert cells[kept.index(57), 3] == 1
    assert cells[20, kept.index(59)] == pytest.approx(0.7)
    assert plots.most_confused([[1.0, 0.0], [0.5, 0.5]], 2) == [0, 1]


def test_images_of_files_are_named_below_the_data_folder(tmp_path: Path) -> None:
    config = load_config("digits", overrides={"data.root": str(tmp_path)})
    paths = (str(tmp_path / "birds/test/wren/1.jpg"), "/elsewhere/2.jpg")
    judging = Subset(FileImages(paths, torch.zeros(2, dtype=torch.int64), 224), torch.tensor([1, 0]), torch.zeros(2))
    two = replace(
        LOGITS, slow=LOGITS.slow[:2], fast=LOGITS.fast[:2], labels=LOGITS.labels[:2], counts=[2], owned=[range(3)]
    )
    _, lines = predicted_images(two, config, CLASSES, [judging])
    assert [line[0] for line in lines] == ["/elsewhere/2.jpg", "birds/test/wren/1.jpg"]


def test_the_confusion_counts_every_image_once() -> None:
    cells = confusion(LOGITS, CONFIG, 5)
    assert sum(map(sum, cells)) == 4
    assert cells[3] == cells[4] == [0] * 5
