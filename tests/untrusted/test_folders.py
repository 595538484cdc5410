"""Image folders as people have them: odd layouts and odd names give the numbers of the tidy ones, or one message."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from safe.cli.main import main as safe_main
from safe.config import load_config
from safe.data.__main__ import main as data_main
from safe.data.loading import load_dataset
from safe.datasets.listing import IMAGE_SUFFIXES
from safe.errors import Notice, UserError
from safe.states.inference import load_inference_state, session_file
from safe.training.trainer import SafeTrainer
from safe.types import SessionResult
from sweeps.cli import main as sweeps_main
from sweeps.ledger.data import settle_data
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.record import SessionRecord
from sweeps.worker.artifacts import CHECKPOINTS, keep_session

from .conftest import fill, picture, tiny
from .sweeping import small_spec


def run(folder: Path, **changes: Any) -> tuple[SafeTrainer, list[SessionResult]]:
    trainer = SafeTrainer(tiny(folder, **changes))
    results = []
    while not trainer.done:
        results.append(trainer.run_session())
    return trainer, results


def assert_same_images(folder: Path, other: Path) -> None:
    for split in ("train", "test"):
        one, two = (getattr(load_dataset(str(root), "data", 32), split) for root in (folder, other))
        assert two.labels.tolist() == one.labels.tolist()
        everything = torch.arange(len(one))
        assert two.read(everything).equal(one.read(everything))


def test_what_tools_leave_behind_changes_nothing(pictures: Path, tmp_path: Path) -> None:
    littered = fill(tmp_path, "abcd")
    for split in ("train", "test"):
        for place in (littered / split, littered / split / "a"):
            (place / ".DS_Store").write_bytes(b"\0")
            (place / ".ipynb_checkpoints").mkdir()
            picture(0).save(place / ".ipynb_checkpoints" / "0-checkpoint.png")
            (place / "Thumbs.db").write_bytes(b"\0")
    (littered / "train" / "b" / "again").symlink_to(littered / "train")  # a loop
    (littered / "train" / "b" / "itself").symlink_to("itself")
    assert_same_images(pictures, littered)
    digests = {load_dataset(str(folder), "data", 32).digest for folder in (pictures, littered)}
    assert len(digests) == 1


def test_images_in_folders_of_a_class_folder_are_those_of_the_class(pictures: Path, tmp_path: Path) -> None:
    nested = fill(tmp_path, "abcd")
    for file in list(nested.rglob("*.png")):
        (file.parent / "deep" / "deeper").mkdir(parents=True, exist_ok=True)
        file.rename(file.parent / "deep" / "deeper" / file.name)
    assert_same_images(pictures, nested)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda root: (root / "test" / "a").rename(root / "test" / "z"),
            r"same, but differ in a \(train\), z \(test\)",
        ),
        (lambda root: (root / "train" / "e").mkdir(), "train has 5 class folders, test has 4; .* differ in e"),
        (lambda root: [file.unlink() for file in (root / "train" / "c").iterdir()], "1 class folders .* hold no image"),
        (lambda root: (root / "train" / "\x1b[2J").mkdir(), r"differ in '\\x1b\[2J'"),
    ],
    ids=["differ", "more in train", "empty", "a name that steers the terminal"],
)
def test_layouts_that_cannot_be_are_told(tmp_path: Path, spoil: Any, message: str) -> None:
    fill(tmp_path, "abcd")
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        run(tmp_path)


SMALL_VIT = "backbone.name=safe_small_vit"  # a folder that names none is told which one it gets
DOORS: dict[str, tuple[Callable[[list[str]], int], list[str]]] = {
    "safe train": (safe_main, ["train", "--dataset", "ROOT"]),
    "run": (sweeps_main, ["run", "--dataset", "ROOT", "--results", "RESULTS"]),
    "plan": (sweeps_main, ["plan", "--dataset", "ROOT", "--results", "RESULTS"]),
    "plan without time": (sweeps_main, ["plan", "--dataset", "ROOT", "--results", "RESULTS", "--no-probe"]),
    "transfer": (sweeps_main, ["run", "--selection", "transfer", "--evaluate-on", "ROOT", "--results", "RESULTS"]),
    "ablation": (sweeps_main, ["ablation", "--dataset", "ROOT", "--results", "RESULTS"]),
}
SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "Train": (lambda root: (root / "train").rename(root / "Train"), "It holds Train/ and test/, not train/ and test/."),
    "gone": (lambda root: (root / "test" / "a").rename(root / "test" / "a "), "differ in 'a' (train), 'a ' (test);"),
    "empty": (lambda root: [file.unlink() for file in (root / "test" / "c").iterdir()], "test hold no image (.jpg, "),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("layout", SPOILT)
def test_every_command_refuses_a_layout_before_anything_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], door: str, layout: str
) -> None:
    root = fill(tmp_path / "data", "abcd", train=1, test=1)
    spoil, told = SPOILT[layout]
    spoil(root)
    main, words = DOORS[door]
    assert main([word.replace("ROOT", str(root)).replace("RESULTS", str(tmp_path / "results")) for word in words]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert told in captured.err
    assert captured.out == ""
    assert not (tmp_path / "results").exists()


def test_what_is_passed_over_is_told_once_a_command(tmp_path: Path) -> None:
    """Though the data set is looked at several times."""
    root = fill(tmp_path / "data", "abcd", train=2, test=1)
    (root / "test").rename(root / "val")
    (root / "train" / "a" / "x.avif").write_bytes(b"")
    words = ["plan", "--no-probe", "--dataset", str(root), "data.init_classes=2", "data.increment=1", SMALL_VIT]
    done = subprocess.run(
        [sys.executable, "-m", "sweeps", *words], capture_output=True, text=True, timeout=120, check=True
    )
    assert [line for line in done.stderr.splitlines() if line.startswith("note:")] == [
        f"note: {root} has no test/, so val/ holds the test images",
        f"note: {root}: 1 file is passed over (.avif: 1); images are {', '.join(IMAGE_SUFFIXES)}",
    ]
    assert "Warning" not in done.stderr


def test_a_sweep_tells_what_its_workers_would(tmp_path: Path) -> None:
    """When it settles which data it stands for."""
    root = fill(tmp_path / "data", "abcd", train=3, test=1)
    (root / "test" / "a" / "0.png").write_bytes((root / "train" / "b" / "1.png").read_bytes())
    spec = small_spec(dataset=str(root), base={**load_config("digits").flat(), "dataset": str(root)})
    (tmp_path / "sweep").mkdir()
    with closing(Ledger.create(tmp_path / "sweep", spec)) as ledger, pytest.warns(Notice) as told:
        settle_data(ledger, spec)
    assert {str(notice.message) for notice in told if notice.category is Notice} == {
        f"{root}: 1 of 4 test images are training images too, byte for byte, so they say nothing about new ones: "
        "test/a/0.png is train/b/1.png"
    }


def test_one_image_a_class_trains_and_cannot_be_held_out(tmp_path: Path) -> None:
    fill(tmp_path, "abcd", train=1, test=1)
    trainer, results = run(tmp_path)
    assert trainer.session_logits is not None
    assert trainer.session_logits.counts == [2, 2]
    assert 0 <= results[-1].as_metrics()["test/accuracy"] <= 1
    with pytest.raises(UserError, match="has one training image, so none can be held out"):
        run(tmp_path, data__holdout_share=0.2, data__evaluate_on="holdout")


def test_one_class_a_session_and_sessions_smaller_than_the_batch(pictures: Path) -> None:
    """In session 1 one class competes with nobody: right by necessity. A batch of 48 takes the 3 images there are."""
    trainer, results = run(pictures, data__init_classes=1, data__increment=1)
    assert results[0].as_metrics()["test/accuracy"] == 1.0
    assert [len(session.train) for session in trainer.stream.sessions] == [3] * 4
    assert trainer.config.slow.batch_size == 48
    small, _ = run(pictures, data__init_classes=1, data__increment=1, slow__batch_size=3, fast__batch_size=3)
    own, other = trainer.inference_state(), small.inference_state()
    for learner in ("slow", "fast"):
        for name, tensor in own["learners"][learner]["pet"].items():
            assert tensor.equal(other["learners"][learner]["pet"][name]), "a step of all images there are, either way"


TIDY = ("a", "b", "c", "d", "e", "f", "g")
# In the same order as the tidy ones: the order of classes and of images follows the sorted names.
ODD = ("\x1b[31mred", "$x^{2$", "<script>alert(1)", '=HYPERLINK("x")', "a\nb", "\udcff\udcfe", "\U0001f99c")


def test_names_of_any_bytes_give_the_numbers_and_files_of_tidy_ones(tmp_path: Path) -> None:
    """Escape sequences, markup, formulas, line feeds, bytes that are no text, emoji: of classes and of files."""
    order = sorted(ODD)
    tidy = fill(tmp_path / "tidy", TIDY, train=2, test=1)
    odd = fill(tmp_path / "odd", order, train=2, test=1, file="{}\n\x1b[2J\udcff<b>🦜.png")
    one, two = (run(folder, data__init_classes=7)[0] for folder in (tidy, odd))
    logits = [trainer.session_logits for trainer in (one, two)]
    assert logits[0] is not None
    assert logits[1] is not None
    assert logits[1].slow.equal(logits[0].slow)

    job = {
        "id": "final-00-0", "kind": "final", "title": "final", "config": two.config.flat(), "predictions": [],
        "states": str(tmp_path / "run"),
    }  # fmt: skip
    record = SessionRecord(1, 1, "test", {"test/accuracy": 0.5}, row=(0.5,), counts=(7,))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # no font has every letter
        keep_session(job, two, record)
    _, *lines = csv.reader((tmp_path / "run" / "tables" / "predictions.csv").open(encoding="utf-8", newline=""))
    written = [name.encode(errors="backslashreplace").decode() for name in order]
    classes = [written[label] for label in one.stream.order]
    assert [line[6] for line in lines] == [classes[c] for c in logits[0].slow.argmax(dim=1)]
    assert [line[2] for line in lines] == [classes[c] for c in logits[0].labels]
    for line in lines:
        assert line[0] == f"test/{line[2]}/0\n\x1b[2J\\udcff<b>🦜.png"
    assert (tmp_path / "run" / "plots" / "confusion.png").stat().st_size > 0
    state = load_inference_state(session_file(tmp_path / "run" / CHECKPOINTS, 1))
    assert sorted(state["classes"]) == order


def test_names_cannot_steer_the_terminal_of_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, "ab", train=1, test=1)
    with open(os.fsencode(tmp_path) + b"/train/a/x\n\x1b[2J\xff.png", "wb"):
        pass
    assert data_main(["check", str(tmp_path)]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("unreadable")]
    assert line.isprintable()
    assert r"x\n\x1b[2J\udcff.png" in line
