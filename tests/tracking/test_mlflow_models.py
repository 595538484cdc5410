"""Models in MLflow: cut off between any two of its calls and done again, ranked by data set, and torn uploads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tracking import JsonlRecorder, MlflowRecorder, TrackingError, deliver, sqlite_uri
from tracking.delivery import Delivery

from .conftest import Modelled

Observe = Callable[[str, str], dict[str, Any]]
WRITES = (
    "create_run", "update_run", "log_batch", "log_inputs", "set_terminated", "create_logged_model", "log_outputs",
    "log_model_artifacts", "finalize_logged_model", "set_experiment_tag",
)  # fmt: skip
CALLS = 24  # that one work makes
DELIVERED = 22  # that its delivery makes


class CutError(BaseException):
    """The process is killed here."""


class Cut:
    """A client that is killed before, or right after, the write call of a number from 0."""

    def __init__(self, client: Any, at: int, *, after: bool = False) -> None:
        self.client, self.at, self.after, self.made = client, at, after, 0

    def __getattr__(self, name: str) -> Any:
        own = getattr(self.client, name)
        if name not in WRITES:
            return own

        def call(*args: Any, **kwargs: Any) -> Any:
            self.made += 1
            if self.made > self.at and not self.after:
                raise CutError
            result = own(*args, **kwargs)
            if self.made > self.at:
                raise CutError
            return result

        return call


def test_the_work_makes_so_many_calls(database: Path, modelled: Modelled) -> None:
    recorder = MlflowRecorder(sqlite_uri(database), "sweeps")
    recorder.client = cut = Cut(recorder.client, 10**9)  # type: ignore[assignment]
    for call in modelled.calls(recorder):
        call()
    assert cut.made == CALLS


def test_the_delivery_of_the_work_makes_so_many_calls(database: Path, modelled: Modelled, tmp_path: Path) -> None:
    cuts = []

    def counted(tracking_uri: str, experiment: str, *, clock: Callable[[], float]) -> MlflowRecorder:
        recorder = MlflowRecorder(tracking_uri, experiment, clock=clock)
        recorder.client = cut = Cut(recorder.client, 10**9)  # type: ignore[assignment]
        cuts.append(cut)
        return recorder

    path = _journal(tmp_path, modelled)
    Delivery(path, sqlite_uri(database), "sweeps", counted).run(path.stat().st_size)
    assert [cut.made for cut in cuts] == [DELIVERED]


def _journal(folder: Path, modelled: Modelled) -> Path:
    journal = JsonlRecorder(folder / "sweeps" / "demo" / "journal.jsonl", experiment="sweeps")
    _do(modelled.calls(journal))
    journal.close()
    return journal.path


def _do(calls: Iterable[Callable[[], None]]) -> None:
    for call in calls:
        call()


@pytest.mark.parametrize("at", range(CALLS))
def test_killed_between_any_two_calls_of_the_client_nothing_is_doubled(
    database: Path, modelled: Modelled, observe: Observe, at: int
) -> None:
    uri = sqlite_uri(database)
    recorder = MlflowRecorder(uri, "sweeps")
    recorder.client = Cut(recorder.client, at)  # type: ignore[assignment]
    calls = modelled.calls(recorder)
    with pytest.raises(CutError):
        _do(calls)
    for _ in range(2):
        recorder = MlflowRecorder(uri, "sweeps")
        for call in modelled.calls(recorder):
            call()
    modelled.check(observe(uri, "sweeps"))


@pytest.mark.parametrize("at", range(0, DELIVERED, 2))
def test_a_delivery_that_is_killed_after_any_call_goes_on_and_may_be_repeated(
    database: Path, modelled: Modelled, observe: Observe, tmp_path: Path, at: int
) -> None:
    uri, path = sqlite_uri(database), _journal(tmp_path, modelled)

    def killed(tracking_uri: str, experiment: str, *, clock: Callable[[], float]) -> MlflowRecorder:
        recorder = MlflowRecorder(tracking_uri, experiment, clock=clock)
        recorder.client = Cut(recorder.client, at, after=True)  # type: ignore[assignment]
        return recorder

    with pytest.raises(CutError):
        Delivery(path, uri, "sweeps", killed).run(path.stat().st_size)
    deliver(path, uri)
    deliver(path, uri, again=True)
    modelled.check(observe(uri, "sweeps"))


def test_a_torn_upload_is_failed_until_it_is_done_again(
    database: Path, modelled: Modelled, observe: Observe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = MlflowRecorder(sqlite_uri(database), "sweeps")

    def torn(*_: object) -> None:
        raise OSError("connection lost")

    calls = modelled.calls(recorder)
    for call in calls[:4]:
        call()
    with monkeypatch.context() as patch:
        patch.setattr(recorder.client, "log_model_artifacts", torn)
        with pytest.raises(TrackingError, match="connection lost"):
            calls[4]()
    seen = observe(recorder.tracking_uri, "sweeps")["demo/trial-00"]["models"]
    assert {name: model["status"] for name, model in seen.items()} == {"trial-00-session-01": "FAILED"}
    for call in calls[4:]:
        call()
    assert observe(recorder.tracking_uri, "sweeps")["demo/trial-00"]["models"] == modelled.expected()


def test_models_rank_by_a_metric_of_a_data_set(database: Path, modelled: Modelled) -> None:
    recorder = MlflowRecorder(sqlite_uri(database), "sweeps")
    for call in modelled.calls(recorder):
        call()

    def ranked(**asked: Any) -> list[str]:
        ranked = recorder.client.search_logged_models([recorder.experiment_id], **asked)
        return [model.name for model in ranked]

    order = {"field_name": "metrics.val/accuracy", "dataset_name": "digits-holdout", "dataset_digest": "abc"}
    best = [f"trial-00-session-0{session}" for session in (3, 2, 1)]
    assert ranked(order_by=[{**order, "ascending": False}]) == best
    assert ranked(order_by=[{**order, "ascending": True}]) == best[::-1]
    assert sorted(ranked(datasets=[{"dataset_name": "digits-holdout"}])) == sorted(best)
    assert ranked(datasets=[{"dataset_name": "digits-test"}]) == []
    assert ranked(filter_string="metrics.`val/accuracy` > 0.25") == best[:1]
    assert sorted(ranked(filter_string="params.lr = '0.1' AND tags.session = '2'")) == ["trial-00-session-02"]
