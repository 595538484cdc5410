"""A name stands for its data: what they hold may not change under it, and where they lie may."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safe.errors import UserError
from safe.training.trainer import SafeTrainer
from sweeps.cli import main
from sweeps.ledger.data import differences, facts, settle_data
from sweeps.ledger.ledger import FILE_NAME, Ledger, read_ledger

from .conftest import fill, picture, tiny
from .sweeping import no_engine, run, small_spec

SETTINGS = ["data.init_classes=2", "data.increment=2", "backbone.weights=random", "runtime.device=cpu"]


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    return fill(tmp_path / "birds", "abcd", file="{}.bmp")


@pytest.fixture(autouse=True)
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Return the sessions that run, with made-up results in the place of training."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody there
    monkeypatch.setenv("SAFE_IMAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "300")
    return no_engine(monkeypatch)


def sweep(data: Path, *more: str) -> int:
    return run(data.parent / "results", "--dataset", str(data), *SETTINGS, *more)


def log_of(data: Path) -> Any:
    return read_ledger(data.parent / "results" / "sweeps" / "demo")


def a_class_more(root: Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(root / split / "a", root / split / "e")


def other_pixels(root: Path) -> None:
    path = root / "train" / "a" / "0.bmp"
    content = path.stat().st_size
    picture(9).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:content].ljust(content, b"\0"))
    assert path.stat().st_size == content


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a class more": (a_class_more, "4 classes -> 5: e new\n  - 12 training images -> 15\n  - 8 test images -> 10\n"),
    "a class less": (
        lambda root: [shutil.rmtree(root / split / "b") for split in ("train", "test")],
        "4 classes -> 3: b gone\n  - 12 training images -> 9\n  - 8 test images -> 6\n",
    ),
    "another name": (
        lambda root: [(root / split / "a").rename(root / split / "x") for split in ("train", "test")],
        "4 classes -> 4: x new, a gone\n",
    ),
    "an image less": (
        lambda root: (root / "train" / "c" / "1.bmp").unlink(),
        "12 training images -> 11, other numbers in c\n",
    ),
    "other pixels": (other_pixels, "the same classes and numbers of images, which hold something else"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_data_that_changed_under_a_name_are_refused_with_what_differs(
    birds: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    assert sweep(birds) == 0
    results = birds.parent / "results"
    ledger = results / "sweeps" / "demo" / FILE_NAME
    before, content = log_of(birds).data["dataset"]["digest"], ledger.read_bytes()
    shutil.copytree(birds, birds.parent / "kept")
    spoil, told = CHANGES[change]
    spoil(birds)
    now = facts(str(birds), "data")["digest"]
    for again in (lambda: sweep(birds), lambda: main(["extend", "demo", "--seeds", "2", "--results", str(results)])):
        capsys.readouterr()
        assert again() == 2
        error = capsys.readouterr().err
        assert "the data of the sweep 'demo' are not those that it began with:\n" in error
        assert f"  - {birds}: digest {before[:12]} -> {now[:12]}\n  - {told}" in error
        assert "Bring the data back to continue that sweep, or choose another name" in error
        assert ledger.read_bytes() == content
    shutil.rmtree(birds)
    (birds.parent / "kept").rename(birds)
    assert sweep(birds, "--seeds", "2") == 0, "brought back, the sweep goes on"


def test_a_moved_or_linked_folder_is_the_same_data_and_its_sweep_goes_on(birds: Path, ran: list[str]) -> None:
    """What is new runs where the data lie now; what MLflow has under write-once names keeps them."""
    assert sweep(birds) == 0
    done = len(ran)
    moved = birds.rename(birds.parent / "vögel 2")
    assert sweep(moved) == 0
    assert len(ran) == done, "nothing was left to do"
    assert log_of(moved).finished
    (birds.parent / "link").symlink_to(moved)
    assert sweep(birds.parent / "link", "--seeds", "2") == 0
    log = log_of(moved)
    assert ran[done:] == ["final-01-1/1", "final-01-1/2"]
    places = {job.id: Path(job.config["dataset"]).name for job in log.jobs.values()}
    assert places == {"trial-00": "birds", "trial-01": "birds", "final-01-0": "birds", "final-01-1": "link"}
    assert Path(log.spec.dataset).name == Path(log.spec.base["dataset"]).name == "link"
    assert main(["extend", "demo", "--seeds", "3", "--results", str(birds.parent / "results")]) == 0, "as it lies now"


def test_a_paused_run_goes_on_where_its_data_lie_now(birds: Path, tmp_path: Path) -> None:
    begun = SafeTrainer(tiny(birds))
    begun.run_session()
    state, wanted = begun.state_dict(), begun.run_session().as_metrics()["test/accuracy"]
    moved = birds.rename(tmp_path / "moved")
    again = SafeTrainer(tiny(moved))
    again.load_state_dict(state)
    assert again.run_session().as_metrics()["test/accuracy"] == wanted
    other_pixels(moved)
    other = SafeTrainer(tiny(moved))
    with pytest.raises(UserError, match=f"other data \\(digest {state['provenance']['data_digest'][:12]}, now "):
        other.load_state_dict(state)
    with pytest.raises(UserError, match="another configuration"):
        SafeTrainer(tiny(moved, fast__lr=0.5)).load_state_dict(state)


def test_both_data_sets_of_a_transfer_are_compared(birds: Path, tmp_path: Path) -> None:
    from safe.config import load_config

    other = fill(tmp_path / "fish", "xyz")
    target = load_config(str(other)).flat()
    spec = small_spec(selection="transfer", evaluate_on=str(other), target=target, dataset=str(birds),
                      base=load_config(str(birds)).flat())  # fmt: skip
    (tmp_path / "a").mkdir()
    ledger = Ledger.create(tmp_path / "a", spec)
    settle_data(ledger, spec)
    assert ledger.log.data is not None
    assert {role: len(facts["classes"]) for role, facts in ledger.log.data.items()} == {"dataset": 4, "evaluate_on": 3}
    settle_data(ledger, spec)
    shutil.rmtree(other / "train" / "z")
    shutil.rmtree(other / "test" / "z")
    with pytest.raises(UserError, match=r"fish: digest .*\n  - 3 classes -> 2: z gone"):
        settle_data(ledger, spec)


def test_names_of_classes_that_are_no_text_are_written_and_shown(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", ["a", "\udcff\x1b[2J"])
    spec = small_spec(dataset=str(data), base={**small_spec().base, "dataset": str(data)})
    (tmp_path / "a").mkdir()
    ledger = Ledger.create(tmp_path / "a", spec)
    settle_data(ledger, spec)
    before = read_ledger(tmp_path / "a").data
    assert before is not None
    assert before["dataset"] == facts(str(data), "data")
    told = differences(before["dataset"], {"digest": "", "classes": [["a", 3, 2]]})
    assert told[0] == r"2 classes -> 1: '\udcff\x1b[2J' gone"
