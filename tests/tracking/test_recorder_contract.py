"""The laws of `Recorder`, held to every implementation; values are compared exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from tracking import (
    DeliveryProcess,
    JournalRecorder,
    JsonlRecorder,
    MemoryRecorder,
    MlflowRecorder,
    Point,
    Recorder,
    Status,
    TrackingError,
    jsonl,
    sqlite_uri,
)
from tracking.journal_file import read_records
from tracking.recorder import ModelOutput
from tracking.state import CUT_NOTE, MAX_DIGEST, MAX_PARAM, MAX_TAG, MAX_VIEW, RunState

from .conftest import Modelled

AWKWARD = (0.1 + 0.2, 1 / 3, -0.0, 5e-324, 1.7976931348623157e308)


def models(run: RunState, files: Mapping[str, Mapping[str, bytes]]) -> dict[str, Any]:
    """Return the models of a run as MLflow shows them, from what other recorders hold."""
    seen = {}
    for name, model in run.models.items():
        judge = run.input_of(model.context)
        points = [Point(key, value, step) for key, steps in run.metrics.items() for step, value in steps.items()]
        seen[name] = {
            "step": model.step,
            "params": run.params,
            "tags": dict(model.tags),
            "metrics": {point.key: point.value for point in points if model.owns(point)},
            "judge": (f"{judge.name}-{judge.context}", judge.digest) if judge else (None, None),
            "files": dict(files[name]),
            "status": "READY",
        }
    return seen


def observe_memory(recorder: Any) -> dict[str, Any]:
    runs = {key: {**asdict(run), "models": models(run, run.model_files)} for key, run in recorder.runs.items()}
    for run in runs.values():
        del run["model_files"]
    return runs


def observe_jsonl(recorder: Any) -> dict[str, Any]:
    memory = MemoryRecorder()
    for _, record in read_records(recorder.path):  # what the file says, not what the object remembers
        jsonl.call(record, memory, recorder.path.parent)
    return observe_memory(memory)


@dataclass
class Kind:
    """One implementation: how to make or reopen it, and how to read what it recorded."""

    open: Callable[[], Recorder]
    observe: Callable[[Any], dict[str, Any]]
    persistent: bool


@pytest.fixture(params=["memory", "jsonl", "mlflow", "journal"])
def kind(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    observe: Callable[[str, str], dict[str, Any]],
    process: DeliveryProcess,
) -> Kind:
    if request.param == "memory":
        return Kind(MemoryRecorder, observe_memory, persistent=False)
    if request.param == "jsonl":
        return Kind(lambda: JsonlRecorder(tmp_path / "journal.jsonl"), observe_jsonl, persistent=True)
    uri = sqlite_uri(request.getfixturevalue("database"))

    def observe_mlflow(recorder: Any) -> dict[str, Any]:
        return observe(uri, "sweeps")

    def observe_delivered(recorder: Any) -> dict[str, Any]:
        assert recorder.flush(300)
        return observe(uri, "sweeps")

    if request.param == "mlflow":
        return Kind(lambda: MlflowRecorder(uri, "sweeps"), observe_mlflow, persistent=True)

    def open_journal() -> Recorder:  # as a sweep has it
        return JournalRecorder(tmp_path / "journal.jsonl", uri, "sweeps", delivery=process.delivery)

    return Kind(open_journal, observe_delivered, persistent=True)


@pytest.fixture
def recorder(kind: Kind) -> Iterator[Recorder]:
    opened = kind.open()
    yield opened
    opened.close()


def test_everything_comes_back_exactly(kind: Kind, recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "files" / "deep").mkdir(parents=True)
    (tmp_path / "files" / "a.json").write_bytes(b"{}\n")
    (tmp_path / "files" / "deep" / "b ü.bin").write_bytes(bytes(range(256)))
    params = {
        "seed": 0,
        "slow.lr": 0.1,
        "head.kind": "ridge",
        "fast.on": False,
        "limit": None,
        "note": "ä = 'x'\n\"y\"",
    }

    recorder.start("demo", params, {"sweep": "demo"}, name="Demo")
    recorder.start("demo/trial-00", {"slow.lr": 1e-05}, {}, parent="demo")
    for step, value in enumerate(AWKWARD, start=1):
        recorder.log_metrics("demo/trial-00", {"val/accuracy": value, "val/slow/accuracy": -value}, step)
    recorder.log_points("demo", [Point("best/accuracy", 0.5, 1), Point("best/accuracy", 0.75, 7)])
    recorder.set_tags("demo", {"sweep": "demo 2", "umlaut": "ü"})
    recorder.set_description("demo", "# Demo\n\n| a | b |")
    recorder.log_params("demo/trial-00", {"temperature": 1.0, "slow.lr": 0.5})
    recorder.set_view("demo", {"columns": ["a"]})
    recorder.set_view("demo", {"columns": ["a", "b"], "ascending": False})
    recorder.log_input("demo/trial-00", "digits", "abc", "train")
    recorder.log_input("demo/trial-00", "digits", "abc", "holdout")
    recorder.log_directory("demo", tmp_path / "files")
    recorder.log_directory("demo", tmp_path / "files" / "deep", "again/here")
    recorder.finish("demo/trial-00", Status.STOPPED)

    expected = {
        "demo": {
            "key": "demo",
            "name": "Demo",
            "parent": None,
            "params": {
                "seed": "0",
                "slow.lr": "0.1",
                "head.kind": "ridge",
                "fast.on": "False",
                "limit": "None",
                "note": "ä = 'x'\n\"y\"",
            },
            "tags": {"sweep": "demo 2", "umlaut": "ü"},
            "metrics": {"best/accuracy": {1: 0.5, 7: 0.75}},
            "inputs": [],
            "description": "# Demo\n\n| a | b |",
            "view": {"columns": ["a", "b"], "ascending": False},
            "models": {},
            "linked": {},
            "status": Status.RUNNING,
            "artefacts": {
                "a.json": b"{}\n",
                "deep/b ü.bin": bytes(range(256)),
                "again/here/b ü.bin": bytes(range(256)),
            },
        },
        "demo/trial-00": {
            "key": "demo/trial-00",
            "name": "demo/trial-00",
            "parent": "demo",
            "params": {"slow.lr": "1e-05", "temperature": "1.0"},
            "tags": {},
            "metrics": {
                "val/accuracy": dict(enumerate(AWKWARD, start=1)),
                "val/slow/accuracy": {step: -value for step, value in enumerate(AWKWARD, start=1)},
            },
            "inputs": [
                {"name": "digits", "digest": "abc", "context": "train"},
                {"name": "digits", "digest": "abc", "context": "holdout"},
            ],
            "description": "",
            "view": {},
            "models": {},
            "linked": {},
            "status": Status.STOPPED,
            "artefacts": {},
        },
    }
    assert kind.observe(recorder) == expected
    if kind.persistent:
        recorder.close()
        assert kind.observe(kind.open()) == expected


def test_work_done_twice_is_recorded_once(kind: Kind, recorder: Recorder) -> None:
    def work(target: Recorder) -> None:
        target.start("demo", {"seed": 0}, {"commit": "a"})
        target.start("demo/trial-00", {"lr": 0.1}, {}, parent="demo")
        target.log_points("demo/trial-00", [Point("val/accuracy", 0.1 * step, step) for step in range(1, 4)])
        target.log_metrics("demo/trial-00", {"val/accuracy": 0.1 * 3, "time/session": 2.5}, step=3)
        target.log_input("demo/trial-00", "digits", "0" * 64, "train")
        target.log_input("demo/trial-00", "digits", "0" * 64, "train")
        target.log_params("demo/trial-00", {"temperature": 1.0})
        target.set_view("demo", {"columns": ["a"]})
        target.finish("demo/trial-00", Status.FINISHED)

    work(recorder)
    once = kind.observe(recorder)
    work(recorder)
    assert kind.observe(recorder) == once
    if kind.persistent:
        recorder.close()
        again = kind.open()
        work(again)
        assert kind.observe(again) == once
        again.close()


def test_a_reopened_run_goes_on(kind: Kind, recorder: Recorder) -> None:
    recorder.start("demo", {}, {})
    recorder.start("demo/trial-00", {"lr": 0.1}, {"commit": "a"}, name="first", parent="demo")
    recorder.log_metrics("demo/trial-00", {"val/accuracy": 0.5}, step=1)
    recorder.finish("demo/trial-00", Status.STOPPED)
    if kind.persistent:
        recorder.close()
        recorder = kind.open()
    recorder.start("demo/trial-00", {"lr": 0.1, "epochs": 2}, {"commit": "b"}, name="second")
    run = kind.observe(recorder)["demo/trial-00"]
    assert (run["status"], run["name"], run["parent"]) == (Status.RUNNING, "second", "demo")
    assert run["params"] == {"lr": "0.1", "epochs": "2"}
    assert run["tags"] == {"commit": "b"}
    recorder.log_metrics("demo/trial-00", {"val/accuracy": 0.6}, step=2)
    recorder.finish("demo/trial-00", Status.FINISHED)
    run = kind.observe(recorder)["demo/trial-00"]
    assert (run["status"], run["metrics"]) == (Status.FINISHED, {"val/accuracy": {1: 0.5, 2: 0.6}})


def test_a_run_of_an_earlier_recorder_goes_on_without_a_start(kind: Kind, recorder: Recorder) -> None:
    recorder.start("demo", {"lr": 0.1}, {})
    recorder.log_metrics("demo", {"val/accuracy": 0.5}, step=1)
    recorder.finish("demo", Status.FAILED)
    if kind.persistent:
        recorder.close()
        recorder = kind.open()
    recorder.log_metrics("demo", {"val/accuracy": 0.5, "val/loss": 1.0}, step=1)
    recorder.set_tags("demo", {"a": "b"})
    recorder.start("demo/child", {}, {}, parent="demo")
    run = kind.observe(recorder)["demo"]
    assert (run["status"], run["tags"]) == (Status.FAILED, {"a": "b"})
    assert run["metrics"] == {"val/accuracy": {1: 0.5}, "val/loss": {1: 1.0}}
    with pytest.raises(TrackingError, match=r"0\.5 at step 1"):
        recorder.log_metrics("demo", {"val/accuracy": 0.6}, step=1)
    recorder.close()


def test_a_changed_param_is_refused_and_nothing_changes(kind: Kind, recorder: Recorder) -> None:
    recorder.start("demo", {"seed": 0}, {"commit": "a"})
    recorder.finish("demo", Status.FAILED)
    before = kind.observe(recorder)
    with pytest.raises(TrackingError, match=r"'seed' of run 'demo' .* '0' .* '1'"):
        recorder.start("demo", {"extra": 1, "seed": 1}, {"commit": "b"})
    assert kind.observe(recorder) == before


def test_too_long_values_are_refused_before_the_run_exists(kind: Kind, recorder: Recorder) -> None:
    with pytest.raises(TrackingError, match=f"'long' .* {MAX_PARAM + 1} characters"):
        recorder.start("demo", {"long": "x" * (MAX_PARAM + 1)}, {})
    with pytest.raises(TrackingError, match=f"'long' has {MAX_TAG + 1} characters"):
        recorder.start("demo", {}, {"long": "x" * (MAX_TAG + 1)})
    assert kind.observe(recorder) == {}
    recorder.start("demo", {"long": "x" * MAX_PARAM}, {"long": "y" * MAX_TAG})
    with pytest.raises(TrackingError, match=f"'longer' .* {MAX_PARAM + 1} characters"):
        recorder.log_params("demo", {"longer": "x" * (MAX_PARAM + 1)})
    with pytest.raises(TrackingError, match=f"view .* {MAX_VIEW + 1} characters"):
        recorder.set_view("demo", {"a": "x" * (MAX_VIEW - 8)})
    recorder.set_description("demo", "line\n" * MAX_TAG)
    run = kind.observe(recorder)["demo"]
    assert (run["params"]["long"], run["tags"]["long"]) == ("x" * MAX_PARAM, "y" * MAX_TAG)
    assert run["description"].endswith("line" + CUT_NOTE)
    assert len(run["description"]) <= MAX_TAG


def test_another_value_at_a_known_step_is_refused_unless_volatile(kind: Kind, recorder: Recorder) -> None:
    recorder.start("demo", {}, {})
    recorder.log_metrics("demo", {"val/accuracy": 0.5, "time/session": 1.0, "best/accuracy": 0.25}, step=1)
    before = kind.observe(recorder)
    recorder.log_metrics("demo", {"val/accuracy": 0.5, "time/session": 9.0, "best/accuracy": 0.75}, step=1)
    with pytest.raises(TrackingError, match=r"'val/accuracy' of run 'demo' .* 0.5 at step 1 .* 0.5000001"):
        recorder.log_points("demo", [Point("val/new", 1.0, 1), Point("val/accuracy", 0.5000001, 1)])
    assert kind.observe(recorder) == before
    with pytest.raises(TrackingError, match="recorded as"):
        recorder.log_points("demo", [Point("val/new", 1.0, 1), Point("val/new", 2.0, 1)])


def test_other_images_by_the_same_name_are_refused(kind: Kind, recorder: Recorder) -> None:
    recorder.start("demo", {}, {})
    recorder.log_input("demo", "digits", "a" * (MAX_DIGEST + 1), "train")
    recorder.log_input("demo", "digits", "b", "test")
    with pytest.raises(TrackingError, match=rf"digits \(train\) with digest '{'a' * MAX_DIGEST}', .* 'b'"):
        recorder.log_input("demo", "digits", "b", "train")
    seen = [(entry["context"], entry["digest"]) for entry in kind.observe(recorder)["demo"]["inputs"]]
    assert sorted(seen) == [("test", "b"), ("train", "a" * MAX_DIGEST)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_undefined_values_are_refused(kind: Kind, recorder: Recorder, value: float) -> None:
    recorder.start("demo", {}, {})
    with pytest.raises(ValueError, match=rf"'val/forgetting' .* {value} at step 3"):
        recorder.log_metrics("demo", {"val/accuracy": 0.5, "val/forgetting": value}, step=3)
    assert kind.observe(recorder)["demo"]["metrics"] == {}


def test_runs_never_started_are_a_bug(recorder: Recorder, tmp_path: Path) -> None:
    calls: list[Callable[[], None]] = [
        lambda: recorder.start("child", {}, {}, parent="nobody"),
        lambda: recorder.log_metrics("nobody", {"a": 1.0}, 1),
        lambda: recorder.log_points("nobody", []),
        lambda: recorder.log_input("nobody", "digits", "abc", "train"),
        lambda: recorder.log_params("nobody", {}),
        lambda: recorder.set_view("nobody", {}),
        lambda: recorder.set_tags("nobody", {}),
        lambda: recorder.set_description("nobody", ""),
        lambda: recorder.log_directory("nobody", tmp_path),
        lambda: recorder.log_models("nobody", [ModelOutput("session-01", 1, "val/")], []),
        lambda: recorder.link_model("demo", "nobody", "session-01", 1),
        lambda: recorder.finish("nobody", Status.FINISHED),
    ]
    recorder.start("demo", {}, {})
    for call in calls:
        with pytest.raises(KeyError, match="nobody"):
            call()


@pytest.mark.parametrize("key", ["", "/demo", "../demo", "demo//a", "demo/", "it's", "a\nb", "x" * 251])
def test_bad_keys_are_refused(recorder: Recorder, key: str) -> None:
    with pytest.raises(ValueError, match="a key is"):
        recorder.start(key, {}, {})
    recorder.start("demo", {}, {})
    with pytest.raises(ValueError, match="a key is"):
        recorder.log_metrics("demo", {key: 1.0}, 1)


@pytest.mark.parametrize("status", [Status.FINISHED, Status.STOPPED, Status.FAILED, Status.KILLED])
def test_finish(kind: Kind, recorder: Recorder, status: str) -> None:
    recorder.start("demo", {}, {})
    recorder.finish("demo", Status.STOPPED)
    recorder.finish("demo", status)
    recorder.finish("demo", status)
    assert kind.observe(recorder)["demo"]["status"] == status
    for bad in (Status.RUNNING, "finished"):
        with pytest.raises(ValueError, match=f"got '{bad}'"):
            recorder.finish("demo", bad)


def test_models_have_their_metrics_and_files(kind: Kind, recorder: Recorder, modelled: Modelled) -> None:
    for call in modelled.calls(recorder):
        call()
    run = kind.observe(recorder)["demo/trial-00"]
    assert run["models"] == modelled.expected()
    assert run["metrics"]["time/session"] == {1: 2.5, 2: 2.5, 3: 2.5}
    assert run["metrics"]["train/ce"] == {7: 0.5, 14: 0.5, 21: 0.5}
    assert run["metrics"]["val/average_accuracy"] == {2: 0.25}


@pytest.mark.parametrize("kept", range(0, 15, 2))
def test_killed_between_any_two_calls_and_done_again_twice_nothing_is_doubled(
    kind: Kind, recorder: Recorder, modelled: Modelled, kept: int
) -> None:
    for call in modelled.calls(recorder)[:kept]:
        call()
    for _ in range(2):
        if kind.persistent:
            recorder.close()
            recorder = kind.open()
        for call in modelled.calls(recorder):
            call()
    modelled.check(kind.observe(recorder))
    recorder.close()


@pytest.mark.parametrize("name", ["a/b", "a:b", "a.b", "a%b", "it's", ""])
def test_names_that_no_model_can_have_are_refused(recorder: Recorder, name: str) -> None:
    recorder.start("demo", {}, {})
    with pytest.raises(ValueError, match=r"a key is|the name of a model"):
        recorder.log_models("demo", [ModelOutput(name, 1, "val/")], [])


def test_files_overwrite_and_must_exist(kind: Kind, recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    recorder.start("demo", {}, {})
    recorder.start("demo/child", {}, {}, parent="demo")
    for content in (b"old", b"new"):
        (tmp_path / "files" / "result").write_bytes(content)
        recorder.log_directory("demo", tmp_path / "files", "child")
    (tmp_path / "more" / "aside").mkdir(parents=True)
    (tmp_path / "more" / "aside" / "result").write_bytes(b"large")
    (tmp_path / "more" / "beside" / "aside").mkdir(parents=True)
    (tmp_path / "more" / "beside" / "aside" / "result").write_bytes(b"deep")
    (tmp_path / "more" / "other").write_bytes(b"other")
    recorder.log_directory("demo", tmp_path / "more", without=["aside"])
    with pytest.raises(NotADirectoryError):
        recorder.log_directory("demo", tmp_path / "absent")
    with pytest.raises(ValueError, match="a key is"):
        recorder.log_directory("demo", tmp_path / "files", "../outside")
    seen = kind.observe(recorder)
    assert seen["demo"]["artefacts"] == {"child/result": b"new", "other": b"other", "beside/aside/result": b"deep"}
    assert seen["demo/child"]["artefacts"] == {}, "one run's files must not show in another"
