"""The books: what a recorder gets of a job, once, whatever was recorded before."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from safe.states.inference import save_session, session_file
from safe.types import Work, Working
from sweeps.engine.bookkeeper import Bookkeeper
from sweeps.engine.display import LiveDisplay
from sweeps.engine.parent_run import start_parent
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import ADDED, DROPPED, Job, Kind, place_of
from sweeps.ledger.ledger import Ledger, read_ledger
from sweeps.ledger.packed import PackedSessions
from sweeps.results.selection import Scored, score_trial
from sweeps.spec.configs import final_config
from tracking.memory import MemoryRecorder, MemoryRun
from tracking.recorder import Point

Make = Callable[..., Any]


class Shown:
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, list[float]]] = []

    def job_changed(self, job: JobLog, sessions: Sequence[Mapping[str, float]]) -> None:
        self.events.append((job.id, job.status, [metrics["accuracy"] for metrics in sessions]))

    def working(self, job_id: str, working: Working) -> None: ...

    def note(self, words: str) -> None:
        self.events.append((words, "", []))


@pytest.fixture
def books(tmp_path: Path, make_spec: Make) -> Bookkeeper:
    ledger, recorder = Ledger.create(tmp_path, make_spec()), MemoryRecorder()
    recorder.start("demo", {}, {})
    return Bookkeeper(ledger, recorder, Shown(), tmp_path / "checkpoints", {"version.python": "3"})


def runs_of(books: Bookkeeper) -> dict[str, MemoryRun]:
    assert isinstance(books.recorder, MemoryRecorder)
    return books.recorder.runs


def start(books: Bookkeeper, predictions: list[dict[str, Any]], job: str = "trial-00", kind: str = "trial") -> None:
    config = {"dataset": "digits", "slow.lr": 0.1, "aggregation.temperature": 1.0}
    books.started(Job(job, Kind(kind), job, config, predictions, states="", **place_of(job, Kind(kind))))


def test_an_order_of_a_thousand_classes_is_a_line_in_the_params(books: Bookkeeper) -> None:
    config = {"data.class_order": [f"a class with a long name {number}" for number in range(1000)], "seed": 1}
    books.started(Job("trial-00", Kind.TRIAL, "trial 00", config, [], states="", trial=0))
    params = runs_of(books)["demo/trial-00"].params
    told = "1000 classes from a class with a long name 0 to a class with a long name 999 ("
    assert params["data.class_order"].startswith(told)
    assert params["seed"] == "1"


def test_a_trial_is_written_live_and_its_aggregated_metrics_at_its_end(
    books: Bookkeeper, make_session: Make, predictions: list[dict[str, Any]], tmp_path: Path
) -> None:
    start(books, predictions)
    books.session("trial-00", make_session(1, [[0.8], [0.9], [0.7]]))
    run = runs_of(books)["demo/trial-00"]
    live = {"val/slow/accuracy", "val/fast/accuracy", "ridge/slow", "time/train_seconds", "train/slow/ce"}
    assert set(run.metrics) == live
    settled = {"aggregation.kind": "entropy", "aggregation.temperature": "1.0", "head.logit_scale": "learned"}
    own = dict(run.params)
    assert (own["dataset"], own["slow.lr"], settled.keys() & own.keys()) == ("digits", "0.1", set())
    assert run.parent == "demo"
    assert run.status == "RUNNING"

    books.session("trial-00", make_session(2, [[0.8, 0.6], [0.9, 0.6], [0.7, 0.7]]))
    states = tmp_path / "checkpoints" / "trial-00"
    states.mkdir(parents=True)
    (states / "run.log").write_bytes(b"all of it")
    (states / "checkpoints").mkdir()
    (states / "checkpoints" / ".session-02.pt.k1lled").write_bytes(b"half of it")
    books.ended("trial-00", "FINISHED")
    # Averages of 0.8 and 0.65, 0.9 and 0.675, 0.7 and 0.7.
    assert run.params == {**own, **settled}
    assert run.metrics["val/accuracy"][1] == 0.9
    assert run.metrics["val/accuracy"][2] == pytest.approx(0.675)
    assert run.metrics["val/average_accuracy"][2] == pytest.approx((0.9 + 0.675) / 2)
    assert list(run.metrics["val/forgetting"]) == [2]
    assert run.artefacts == {"run.log": b"all of it"}, "states are no artefacts of the run"
    assert not list((states / "checkpoints").iterdir()), "the draft of a worker that was killed is gone"
    assert run.status == "FINISHED"
    assert run.tags["data_digest"] == "d" * 16
    assert run.tags["version.python"] == "3"


def test_a_final_run_has_everything_live(books: Bookkeeper, make_session: Make) -> None:
    start(books, [], "final-00-0", "final")
    books.session("final-00-0", make_session(1, [], split="test"))
    run = runs_of(books)["demo/final-00-0"]
    assert run.metrics["test/accuracy"][1] == 0.5
    assert run.params["aggregation.temperature"] == "1.0"


def test_open_jobs_are_closed_with_the_reason(
    books: Bookkeeper, predictions: list[dict[str, Any]], make_session: Make
) -> None:
    start(books, predictions)
    books.session("trial-00", make_session(1, [[0.8], [0.9], [0.7]]))
    books.close_open("KILLED", "interrupted")
    run = runs_of(books)["demo/trial-00"]
    assert (run.status, run.tags["reason"]) == ("KILLED", "interrupted")
    assert "val/accuracy" not in run.metrics, "its temperature may still change when it is continued"
    assert books.ledger.log.jobs["trial-00"].status == "KILLED"
    assert not books.open_jobs
    start(books, predictions)
    assert (run.status, run.tags["reason"]) == ("RUNNING", "")


def test_an_added_trial_is_tagged_and_a_dropped_one_is_stopped_whatever_ended_its_process(
    books: Bookkeeper, make_session: Make, predictions: list[dict[str, Any]]
) -> None:
    place: dict[str, Any] = {"trial": 0, "variant": ADDED}
    config = {"dataset": "digits", "slow.lr": 0.1}
    books.started(Job("trial-added-00", Kind.TRIAL, "added 00 by hand", config, predictions, states="", **place))
    books.session("trial-added-00", make_session(1, [[0.8], [0.9], [0.7]]))
    start(books, predictions)
    books.ledger.append("dropped", request="1", job="trial-added-00")
    ledger, recorder = books.ledger, MemoryRecorder()  # the process is killed; the next call looks through the ledger
    recorder.start("demo", {}, {})
    Bookkeeper(ledger, recorder, Shown(), books.states, {}).record_again()
    added, other = (recorder.runs[f"demo/{id}"] for id in ("trial-added-00", "trial-00"))
    assert (added.tags["added"], added.tags["reason"], added.status) == ("by hand", DROPPED, "STOPPED")
    assert ("added" in other.tags, other.status) == (False, "KILLED")
    job = ledger.log.jobs["trial-added-00"]
    assert (job.status, job.reason, job.over, len(job.sessions)) == ("STOPPED", DROPPED, True, 1)


def test_a_dropped_trial_that_a_kill_left_complete_is_not_finished_and_not_the_best(
    books: Bookkeeper, make_session: Make, predictions: list[dict[str, Any]]
) -> None:
    start(books, predictions)
    books.session("trial-00", make_session(1, [[0.8], [0.9], [0.7]]))
    books.ledger.append("dropped", request="1", job="trial-00")
    books.session("trial-00", make_session(2, [[0.8, 0.6], [0.9, 0.6], [0.7, 0.7]]))
    recorder = MemoryRecorder()
    recorder.start("demo", {}, {})
    Bookkeeper(books.ledger, recorder, Shown(), books.states, {}).record_again()
    job = books.ledger.log.jobs["trial-00"]
    assert (job.complete, job.status, job.reason) == (True, "STOPPED", DROPPED)
    assert not [name for name in recorder.runs["demo"].metrics if name.startswith("best/")]


def test_a_recorder_that_lost_everything_is_brought_up_to_the_ledger(
    books: Bookkeeper, make_session: Make, predictions: list[dict[str, Any]], tmp_path: Path
) -> None:
    start(books, predictions)
    for session, grid in [(1, [[0.8], [0.9], [0.7]]), (2, [[0.8, 0.6], [0.9, 0.6], [0.7, 0.7]])]:
        books.session("trial-00", make_session(session, grid))
    books.ended("trial-00", "FINISHED")
    start(books, predictions, "trial-01")
    books.session("trial-01", make_session(1, [[0.8], [0.9], [0.7]]))

    lost = MemoryRecorder()
    lost.start("demo", {}, {})
    again = Bookkeeper(Ledger.open(tmp_path), lost, Shown(), tmp_path / "checkpoints", {"version.python": "3"})
    again.record_again(everything=True)
    before = runs_of(books)["demo/trial-00"]
    assert lost.runs["demo/trial-00"] == before
    assert lost.runs["demo/trial-01"].status == "KILLED"
    again.record_again(everything=True)
    assert lost.runs["demo/trial-00"] == before


def test_plain_output_has_one_line_an_event(
    books: Bookkeeper, make_session: Make, predictions: list[dict[str, Any]]
) -> None:
    text = io.StringIO()
    with LiveDisplay(books.ledger.log, text) as display:
        books.display = display
        start(books, predictions)
        books.session("trial-00", make_session(1, [[0.8], [0.9], [0.7]]))
        grid = [[0.8, 0.6], [0.9, 0.6], [0.7, 0.7]]
        books.session("trial-00", make_session(2, grid, work=Work("reused", 0.0)))
        books.ended("trial-00", "FINISHED")
        start(books, [], "slow-00", "slow")
        books.session("slow-00", make_session(1, []))
    lines = text.getvalue().splitlines()
    assert lines[0] == "sweep demo: 8 runs"  # 2 trials, judged twice, and 2 seeds, each beside the control
    assert lines[1] == "trial-00  running  [starting]"
    assert lines[2].startswith("trial-00  running   session 1 of 2 accuracy 90.0 %  [6 %, ")
    ended = "trial-00  finished  session 2 of 2 (1 reused) accuracy 67.5 % forgetting 0.0 %  [12 %, "
    assert lines[4].startswith(ended)
    assert lines[6].startswith("slow-00   running   session 1 of 2 accuracy 40.0 %"), "that of the slow learner"
    assert len(lines) == 7
    assert max(map(len, lines)) < 110


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_runs_tell_how_far_they_are_after_ten_silent_seconds_and_what_is_left_from_the_first_epoch_on(
    books: Bookkeeper, make_session: Make, make_spec: Make
) -> None:
    """Two runs of two sessions of four epochs each."""
    books.ledger.append("spec", spec=make_spec(trials=1, seeds=1, control=False, audit=False).model_dump(mode="json"))
    text, clock = io.StringIO(), Clock()
    display = books.display = LiveDisplay(books.ledger.log, text, clock=clock)

    def lines_at(seconds: float) -> list[str]:
        before, clock.now = len(text.getvalue()), seconds
        display.tick()
        return text.getvalue()[before:].splitlines()

    assert lines_at(9.9) == []
    assert lines_at(10) == ["starting  [starting]"]
    start(books, [], "final-00-0", "final")
    assert lines_at(20) == ["1 run starting  [starting]"]
    display.working("final-00-0", Working(1, 2, "training", 1, 4, 300, 400, 2.345, 56.12))
    assert lines_at(30) == ["final-00-0 session 1 of 2: epoch 1 of 4, loss 2.35, 56.1 images/s  [starting]"]
    display.working("final-00-0", Working(1, 2, "training", 3, 4, 0, 400, 1.5, 123.4))
    told = "final-00-0 session 1 of 2: epoch 3 of 4, loss 1.5, 123 images/s"
    assert lines_at(40) == [f"{told}  [12 %, 2 min left]"]  # 20 s for half a session, of which 3.5 are left
    for number in (1, 2, 3):
        start(books, [], f"final-0{number}-0", "final")
        display.working(f"final-0{number}-0", Working(1, 2, "closing", 4, 4, 0, 0))
    assert lines_at(45) == []
    (line,) = lines_at(51)
    assert line.startswith(
        f"{told}; final-01-0 session 1 of 2: closing; final-02-0 session 1 of 2: closing; and 1 more"
    )
    screen = Console(width=80, file=io.StringIO(), record=True)
    screen.print(display._render())
    shown = screen.export_text()
    assert "epoch 3 of 4, loss 1.5, 123 images/s" in shown
    assert max(map(len, shown.splitlines())) <= 80
    books.session("final-00-0", make_session(1, []))
    display.working("final-00-0", Working(1, 2, "closing", 4, 4, 99, 0))
    assert told not in "".join(lines_at(70)), "what is over is not told again"
    for number in (1, 2, 3):
        books.session(f"final-0{number}-0", make_session(1, []))
    assert lines_at(90)[0].startswith("4 runs between sessions  [")
    books.close_open("KILLED", "interrupted")
    display.ending()
    assert lines_at(110)[0].startswith("writing what it gave  [")


def test_an_interrupted_run_is_paused(books: Bookkeeper, make_session: Make) -> None:
    text = io.StringIO()
    with LiveDisplay(books.ledger.log, text) as display:
        books.display = display
        start(books, [], "final-00-0", "final")
        books.session("final-00-0", make_session(1, []))
        books.close_open("KILLED", "interrupted")
    assert text.getvalue().splitlines()[-1].startswith("final-00-0 paused    session 1 of 2 ")
    assert "KILLED" not in text.getvalue().upper()


@pytest.mark.parametrize(
    ("detail", "told"),
    [
        ("quiet", ["note: look"]),
        (
            "verbose",
            ["sweep demo: 8 runs", "note: look", "final-00-0", "final-00-0", "  2.0 s (trained), slow/ce 1"],
        ),
    ],
)
def test_how_much_is_shown(books: Bookkeeper, make_session: Make, detail: Any, told: list[str]) -> None:
    text = io.StringIO()
    with LiveDisplay(books.ledger.log, text, detail) as display:
        books.display = display
        display.note("look")
        start(books, [], "final-00-0", "final")
        books.session("final-00-0", make_session(1, []))
    lines = text.getvalue().splitlines()
    assert [line if line in told else line.split()[0] for line in lines] == told


def percent(text: io.StringIO) -> list[str]:
    return [line.rpartition("[")[2].partition(",")[0].removesuffix("]") for line in text.getvalue().splitlines()[1:]]


def test_an_interrupt_and_going_on_show_how_far_it_is(
    books: Bookkeeper, make_session: Make, make_spec: Make, tmp_path: Path
) -> None:
    """Three runs of two sessions: one is over, one interrupted after its first session."""
    books.ledger.append("spec", spec=make_spec(trials=2, seeds=1, control=False, audit=False).model_dump(mode="json"))
    text = io.StringIO()
    with LiveDisplay(books.ledger.log, text) as display:
        books.display = display
        start(books, [], "final-00-0", "final")
        for session in (1, 2):
            books.session("final-00-0", make_session(session, []))
        books.ended("final-00-0", "FINISHED")
        start(books, [], "final-01-0", "final")
        books.session("final-01-0", make_session(1, []))
        books.close_open("KILLED", "interrupted")
    assert percent(text) == ["starting", "16 %", "33 %", "33 %", "33 %", "50 %", "50 %"]

    text, recorder = io.StringIO(), MemoryRecorder()
    recorder.start("demo", {}, {})
    with LiveDisplay(books.ledger.log, text) as display:
        again = Bookkeeper(books.ledger, recorder, display, tmp_path / "checkpoints", {})
        again.record_again(everything=True)
        start(again, [], "final-01-0", "final")
        again.session("final-01-0", make_session(2, []))
        again.ended("final-01-0", "FINISHED")
    assert percent(text) == ["33 %", "50 %", "50 %", "66 %", "66 %"]
    assert [line.split()[0] for line in text.getvalue().splitlines()[1:]] == ["final-00-0", *["final-01-0"] * 4]
    assert "left]" not in "".join(text.getvalue().splitlines()[1:4]), "nothing tells how fast it will be"


def test_what_a_run_has_to_tell_is_told_once_a_kind(
    books: Bookkeeper, make_session: Make, predictions: list[dict[str, Any]]
) -> None:
    text = io.StringIO()
    with LiveDisplay(books.ledger.log, text) as display:
        books.display = display
        for number, notes in enumerate(
            [{"damaged": "a\x1b is discarded"}, {"damaged": "b is discarded", "write": "full"}]
        ):
            start(books, predictions, f"trial-0{number}")
            books.session(f"trial-0{number}", make_session(1, [[0.8], [0.9], [0.7]], notes=notes))
    told = [line for line in text.getvalue().splitlines() if line.startswith("note: ")]
    assert told == [r"note: 'a\x1b is discarded'", "note: full"]


def test_the_table_shows_every_session_and_the_budget(
    books: Bookkeeper, make_session: Make, make_spec: Make, predictions: list[dict[str, Any]]
) -> None:
    books.ledger.append("spec", spec=make_spec(max_sessions=9, max_hours=2.0).model_dump(mode="json"))
    display = books.display = LiveDisplay(books.ledger.log, io.StringIO())
    start(books, predictions)
    books.session("trial-00", make_session(1, [[0.8], [0.9], [0.7]]))
    grid = [[0.8, 0.6], [0.9, 0.6], [0.7, 0.7]]
    books.session("trial-00", make_session(2, grid, work=Work("reused", 0.0)))
    books.clock(1800.0)
    screen = Console(width=100, file=io.StringIO(), record=True)
    screen.print(display._render())
    shown = screen.export_text()
    assert "90.0 67.5" in shown
    assert "search: 1 of 9 sessions trained, 1 reused, 0.50 of 2 hours" in shown


def test_the_clock_is_told_once_a_second_at_most(books: Bookkeeper) -> None:
    before = books.ledger.path.read_text().count("clock")
    for seconds in (0.5, 1.0, 1.5, 2.5):
        books.clock(seconds)
    assert books.ledger.path.read_text().count("clock") - before == 2
    assert books.ledger.log.search_seconds == 2.5


def test_points_of_one_session_have_their_own_steps(books: Bookkeeper, make_session: Make) -> None:
    from sweeps.engine.bookkeeper import session_points

    job = JobLog("final-00-0", "final", "final 0", {}, [])
    record = make_session(2, [], losses=((20, {"train/fast/ce": 0.5}), (21, {"train/fast/ce": 0.25})))
    points = session_points(job, record)
    assert Point("val/accuracy", 0.5, 2) in points
    assert points[-2:] == [Point("train/fast/ce", 0.5, 20), Point("train/fast/ce", 0.25, 21)]


def test_what_was_recorded_to_its_end_is_not_recorded_again(
    books: Bookkeeper, make_session: Make, predictions: list[dict[str, Any]], tmp_path: Path
) -> None:
    start(books, predictions)
    for session, grid in [(1, [[0.8], [0.9], [0.7]]), (2, [[0.8, 0.6], [0.9, 0.6], [0.7, 0.7]])]:
        books.session("trial-00", make_session(session, grid))
    books.ended("trial-00", "FINISHED")
    start(books, predictions, "trial-01")  # killed here

    fresh = MemoryRecorder()
    fresh.start("demo", {}, {})
    Bookkeeper(Ledger.open(tmp_path), fresh, Shown(), tmp_path / "checkpoints", {}).record_again()
    assert list(fresh.runs) == ["demo", "demo/trial-01"]
    assert fresh.runs["demo/trial-01"].status == "KILLED"
    assert Ledger.open(tmp_path).log.jobs["trial-01"].recorded


def test_checkpoints_are_found_again_where_the_sweep_was_moved_to(
    tmp_path: Path, make_spec: Make, make_session: Make, predictions: list[dict[str, Any]]
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for place in (old / "ray" / "one", tmp_path / "elsewhere"):
        place.mkdir(parents=True)
    recorder = MemoryRecorder()
    recorder.start("demo", {}, {})
    books = Bookkeeper(Ledger.create(old, make_spec()), recorder, Shown(), old / "runs", {})
    start(books, predictions)
    books.checkpoint("trial-00", str(tmp_path / "elsewhere"))
    books.session("trial-00", make_session(1, [[0.8], [0.9], [0.7]]))
    books.checkpoint("trial-00", str(old / "ray" / "one"))
    assert books.ledger.log.jobs["trial-00"].resumable() == [str(old / "ray" / "one"), str(tmp_path / "elsewhere")]
    books.ledger.close()
    assert str(old) not in books.ledger.path.read_text()
    old.rename(new)
    assert read_ledger(new).jobs["trial-00"].resumable() == [str(new / "ray" / "one"), str(tmp_path / "elsewhere")]


def _state(books: Bookkeeper, job: str, session: int) -> Path:
    """Write a state of a session, as a worker does, and return its file."""
    pet = {"w": torch.zeros(2)}
    learners = {name: {"pet": pet, "readout": {}} for name in ("slow", "fast")}
    folder = books.states / job / "checkpoints"
    save_session({"session": session, "learners": learners}, folder)
    return session_file(folder, session)


def _trials(books: Bookkeeper, make_session: Make, predictions: list[dict[str, Any]], scores: list[float]) -> None:
    for number, score in enumerate(scores):
        job = f"trial-{number:02d}"
        start(books, predictions, job)
        for session, grid in [(1, [[score]] * 3), (2, [[score, score]] * 3)]:
            _state(books, job, session)
            books.session(job, make_session(session, grid))
        books.ended(job, "FINISHED")


def _models(books: Bookkeeper) -> dict[str, list[str]]:
    runs = runs_of(books)
    return {key.removeprefix("demo/"): list(run.models) for key, run in runs.items() if run.models}


def test_the_best_three_trials_give_models_and_the_others_lose_their_states(
    books: Bookkeeper, make_session: Make, predictions: list[dict[str, Any]]
) -> None:
    _trials(books, make_session, predictions, [0.5, 0.9, 0.6, 0.8, 0.4])
    assert _models(books) == {}, "nobody knows yet which are the best"
    kept = {folder.parent.name for folder in books.states.glob("*/checkpoints")}
    assert kept == {"trial-01", "trial-02", "trial-03"}
    books.keep_best()
    best = {job: [f"{job}-session-01", f"{job}-session-02"] for job in ("trial-01", "trial-02", "trial-03")}
    assert _models(books) == best
    run = runs_of(books)["demo/trial-01"]
    before = copy.deepcopy(run)
    books.keep_best()
    assert run == before
    model = run.models["trial-01-session-02"]
    assert (model.step, model.judged, model.context) == (2, "val/", "holdout")
    assert model.tags == {"sweep": "demo", "kind": "trial", "session": "2"}
    files = run.model_files["trial-01-session-02"]
    state = (books.states / "trial-01" / "checkpoints" / "session-02.pt").read_bytes()
    assert files["artifacts/state/session-02.pt"] == state
    assert {"MLmodel", "pyfunc.py"} < set(files)
    assert sum(name.startswith("artifacts/state/pet-") for name in files) == 1


def test_of_equal_trials_the_first_are_the_best(
    books: Bookkeeper, make_session: Make, predictions: list[dict[str, Any]]
) -> None:
    _trials(books, make_session, predictions, [0.5, 0.7, 0.5, 0.5, 0.5])
    assert [job.id for job in books.models.best()] == ["trial-01", "trial-00", "trial-02"]


@pytest.mark.parametrize(
    ("policy", "trial", "final"),
    [
        ("best", [], ["final-00-0-session-01", "final-00-0-session-02"]),
        ("all", ["trial-00-session-01", "trial-00-session-02"], ["final-00-0-session-01", "final-00-0-session-02"]),
        ("last", ["trial-00-session-02"], ["final-00-0-session-02"]),
        ("none", ["trial-00-session-01", "trial-00-session-02"], ["final-00-0-session-01", "final-00-0-session-02"]),
    ],
)
def test_the_policy_says_which_sessions_are_models(
    policy: str,
    trial: list[str],
    final: list[str],
    tmp_path: Path,
    make_spec: Make,
    make_session: Make,
    predictions: list[dict[str, Any]],
) -> None:
    recorder = MemoryRecorder()
    recorder.start("demo", {}, {})
    ledger = Ledger.create(tmp_path, make_spec(checkpoints=policy))
    books = Bookkeeper(ledger, recorder, Shown(), tmp_path / "runs", {})
    _trials(books, make_session, predictions, [0.5])
    start(books, predictions, "audit-00", "audit")
    start(books, [], "final-00-0", "final")
    for session in (1, 2):
        _state(books, "audit-00", session)
        _state(books, "final-00-0", session)
        books.session("audit-00", make_session(session, [[0.5] * session] * 3, split="test"))
        books.session("final-00-0", make_session(session, [], split="test"))
    books.ended("audit-00", "FINISHED")
    books.ended("final-00-0", "FINISHED")
    expected = {"trial-00": trial, "final-00-0": final}
    assert _models(books) == {job: names for job, names in expected.items() if names}
    for run in recorder.runs.values():
        for name, model in run.models.items():
            assert bool(model.files) is (policy != "none"), name


def test_trials_that_are_over_are_put_away_until_the_work_is_done(
    books: Bookkeeper, make_session: Make, predictions: list[dict[str, Any]], tmp_path: Path
) -> None:
    _trials(books, make_session, predictions, [0.5, 0.7])
    start(books, predictions, "trial-02")
    books.session("trial-02", make_session(1, [[0.8], [0.9], [0.7]]))
    log = books.ledger.log
    packed = {id: isinstance(job.sessions, PackedSessions) for id, job in log.jobs.items()}
    assert packed == {"trial-00": True, "trial-01": True, "trial-02": False}
    books.take_out()
    read = read_ledger(tmp_path).jobs.values()
    assert [(job.sessions, job.config) for job in log.jobs.values()] == [(job.sessions, job.config) for job in read]


def test_a_trial_that_ends_has_no_other_one_scored_again(
    books: Bookkeeper, make_session: Make, predictions: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[str] = []

    def count(job: JobLog, *words: str) -> Scored:
        scored.append(job.id)
        return score_trial(job, *words)

    monkeypatch.setattr("sweeps.engine.bookkeeper.score_trial", count)
    _trials(books, make_session, predictions, [0.5, 0.7, 0.6])
    each = ["trial-00", "trial-01", "trial-02"]
    assert scored == [id for id in each for _ in range(2)], "for the curve of the best, and for its own run"


def test_the_run_of_the_sweep_has_the_curve_of_the_best_its_data_and_the_chosen_settings(
    books: Bookkeeper, make_session: Make, predictions: list[dict[str, Any]], tmp_path: Path
) -> None:
    parent = runs_of(books)["demo"]
    _trials(books, make_session, predictions, [0.5])
    start(books, predictions, "trial-01")
    books.session("trial-01", make_session(1, [[0.9]] * 3))
    assert parent.metrics == {"best/val/average_accuracy": {2: 0.5}}, "a trial counts once it is complete"
    start(books, predictions, "trial-02")
    for session, grid in [(1, [[0.4]] * 3), (2, [[0.4, 0.4]] * 3)]:
        books.session("trial-02", make_session(session, grid))
    books.session("trial-01", make_session(2, [[0.9, 0.9]] * 3))
    assert parent.metrics == {"best/val/average_accuracy": {2: 0.5, 5: 0.5, 6: pytest.approx(0.9)}}
    assert [(entry.name, entry.context) for entry in parent.inputs] == [("digits", "train"), ("digits", "holdout")]
    trial = runs_of(books)["demo/trial-01"]
    assert parent.inputs == trial.inputs

    start(books, [], "final-01-0", "final")
    books.session("final-01-0", make_session(1, [], split="test"))
    assert [entry.context for entry in parent.inputs] == ["train", "holdout", "test"]

    before = copy.deepcopy(parent)
    again = Bookkeeper(books.ledger, books.recorder, Shown(), tmp_path / "checkpoints", {})
    again.record_again(everything=True)
    assert (parent.metrics, parent.inputs) == (before.metrics, before.inputs)


def test_holdouts_that_are_searched_are_not_those_of_the_sweep(
    books: Bookkeeper, make_spec: Make, make_session: Make, predictions: list[dict[str, Any]]
) -> None:
    space = {"data.holdout_seed": {"choice": [1, 2]}, "aggregation.temperature": {"grid": [0.1, 1.0, 10.0]}}
    books.ledger.append("spec", spec=make_spec(space=space).model_dump(mode="json"))
    for seed in (1, 2):
        job = f"trial-0{seed}"
        config = {"dataset": "digits", "data.holdout_seed": seed}
        books.started(Job(job, Kind.TRIAL, job, config, predictions, states="", trial=seed))
        books.session(job, make_session(1, [[0.8]] * 3))
    start(books, [], "final-01-0", "final")
    books.session("final-01-0", make_session(1, [], split="test"))
    runs = runs_of(books)
    assert len({run.inputs[0].digest for key, run in runs.items() if "trial" in key}) == 2
    assert [entry.context for entry in runs["demo"].inputs] == ["test"]


def test_the_chosen_configuration_is_the_params_of_the_sweep_as_its_first_final_run_has_it(
    finished_sweep: Make, tmp_path: Path
) -> None:
    ledger, recorder = finished_sweep(), MemoryRecorder()
    start_parent(recorder, ledger.log, {})
    run = recorder.runs["demo"]
    preset = {name.removeprefix("preset."): text for name, text in run.params.items() if name.startswith("preset.")}
    assert preset == {name: str(value) for name, value in ledger.log.spec.base.items()}
    assert all(name.startswith(("preset.", "sweep.")) for name in run.params)
    assert run.tags["mlflow.source.name"] == "python -m sweeps run"
    left_out = "".join(f" AND tags.kind != '{kind}'" for kind in ("sweep", "audit", "race"))
    assert run.view["searchFilter"] == f"tags.sweep = 'demo'{left_out}"
    assert run.view["orderByKey"] == "metrics.`val/average_accuracy`"

    books = Bookkeeper(ledger, recorder, Shown(), tmp_path / "checkpoints", {})
    books.record_again(everything=True)
    books.keep_best()
    chosen = {name: text for name, text in run.params.items() if not name.startswith(("preset.", "sweep."))}
    trial = ledger.log.jobs["trial-01"].config | ledger.log.selected["prediction"]
    expected = final_config(trial, 0)
    assert chosen == {name: str(value) for name, value in expected.items()} | {"data.root": chosen["data.root"]}
    assert chosen["aggregation.temperature"] == str(ledger.log.selected["prediction"]["aggregation.temperature"])

    before = dict(run.params)
    other = {**ledger.log.selected["prediction"], "aggregation.temperature": 10.0}
    ledger.append("selected", trial="trial-00", prediction=other, score=0.9)
    books.keep_best()
    start_parent(recorder, ledger.log, {})
    assert run.params == before, "params are written once: an extended sweep's other choice stands in its description"


def test_a_sweep_that_began_with_the_preset_as_params_keeps_them(finished_sweep: Make, tmp_path: Path) -> None:
    ledger, recorder = finished_sweep(), MemoryRecorder()
    base = ledger.log.spec.base
    recorder.start("demo", base, {})
    start_parent(recorder, ledger.log, {})
    books = Bookkeeper(ledger, recorder, Shown(), tmp_path / "checkpoints", {})
    books.record_again(everything=True)
    books.keep_best()
    params = recorder.runs["demo"].params
    assert {name: params[name] for name in base} == {name: str(value) for name, value in base.items()}


def test_tables_of_a_run_are_told_to_mlflow(
    books: Bookkeeper, make_session: Make, predictions: list[dict[str, Any]]
) -> None:
    start(books, predictions)
    table = books.states / "trial-00" / "tables" / "accuracy_matrix.json"
    table.parent.mkdir(parents=True)
    table.write_text("{}")
    for session, grid in [(1, [[0.8]] * 3), (2, [[0.8, 0.6]] * 3)]:
        books.session("trial-00", make_session(session, grid))
    books.ended("trial-00", "FINISHED")
    run = runs_of(books)["demo/trial-00"]
    assert run.tags["mlflow.loggedArtifacts"] == '[{"path": "tables/accuracy_matrix.json", "type": "table"}]'
    assert "tables/accuracy_matrix.json" in run.artefacts
