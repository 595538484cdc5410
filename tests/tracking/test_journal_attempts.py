"""When the journal's recorder tries to deliver, and who waits for what: a made-up store under the test's control."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tracking import JournalRecorder, MemoryRecorder, MlflowRecorder, UnreachableError, journal, waiting
from tracking.delivery import Delivery

LONG_S = 3600.0  # a pause that no test lives to see the end of
LIMIT_S = 60.0  # for what must happen
URI = "http://store"


class Store:
    """Keeps runs in memory. A contact, or a call of `start`, does what the test says, by default: succeed.

    Attributes:
        contacts: how often contact was sought.
        on_contact: called at each contact with its number.
        on_start: called at each start of a run with its key.
    """

    def __init__(self) -> None:
        self.contacts = 0
        self.memory = MemoryRecorder()
        self.on_contact: Callable[[int], None] = lambda number: None
        self.on_start: Callable[[str], None] = lambda run_key: None

    def __call__(self, tracking_uri: str, experiment: str, *, clock: Callable[[], float]) -> MlflowRecorder:
        self.contacts += 1
        self.on_contact(self.contacts)
        target: Any = MemoryRecorder()
        target.runs = self.memory.runs
        keep = target.start

        def start(run_key: str, *arguments: Any, **options: Any) -> None:
            self.on_start(run_key)
            keep(run_key, *arguments, **options)

        target.start = start
        return target  # type: ignore[no-any-return]


def away(_: object) -> None:
    raise UnreachableError("the store is away")


def there(_: object) -> None:
    pass


class Held:
    """Stops whoever calls it until it is released, once; then it does `then`."""

    def __init__(self, then: Callable[[object], None]) -> None:
        self.then = then
        self.reached = threading.Event()
        self.released = threading.Event()

    def __call__(self, what: object) -> None:
        self.reached.set()
        assert self.released.wait(LIMIT_S)
        self.then(what)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def open_recorder(store: Store, tmp_path: Path) -> Callable[[], JournalRecorder]:
    return lambda: JournalRecorder(
        tmp_path / "journal.jsonl", URI, "sweeps", delivery=partial(Delivery, open=store), pause_s=LONG_S
    )


OpenRecorder = Callable[[], JournalRecorder]


def in_another_thread(function: Callable[[], object]) -> Callable[[], object]:
    """Begin `function`; what is returned waits for its end and gives its result."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()

    def result() -> object:
        thread.join(LIMIT_S)
        return results[0]

    return result


def wait_until_wanted(recorder: JournalRecorder) -> None:
    """Wait until somebody waits for an attempt of their own."""
    with recorder._changed:
        assert recorder._changed.wait_for(lambda: recorder._wanted, LIMIT_S)


def test_a_flush_ends_after_the_recovery_was_told(
    store: Store, open_recorder: OpenRecorder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything is at the store, and the attempt that brought it there has not come to its end."""
    store.on_contact = away
    recorder = open_recorder()
    recorder.start("demo", {}, {})
    store.on_contact = there
    run, held = recorder._delivery.run, Held(there)

    def run_and_wait(*arguments: Any) -> None:
        run(*arguments)
        held(None)

    recorder._delivery.run = run_and_wait  # type: ignore[method-assign]
    flushed = in_another_thread(lambda: recorder.flush(LIMIT_S))
    assert held.reached.wait(LIMIT_S)
    assert store.memory.runs.keys() == {"demo"}
    assert not recorder.flush(0), "not before the person knows"
    assert len(capsys.readouterr().err.splitlines()) == 1
    held.released.set()
    assert flushed()
    assert capsys.readouterr().err == f"tracking: MLflow at {URI} has everything again\n"
    recorder.close()


@pytest.mark.parametrize("how", ["flush", "close"])
def test_the_failure_of_an_attempt_begun_before_the_call_is_not_the_last_word(
    how: str, store: Store, open_recorder: OpenRecorder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = open_recorder()
    store.on_start = held = Held(away)
    recorder.start("demo", {}, {})
    assert held.reached.wait(LIMIT_S)  # the attempt is on its way to a store that will not answer
    ended = in_another_thread(lambda: recorder.flush(LIMIT_S) if how == "flush" else recorder.close())
    wait_until_wanted(recorder)
    store.on_start = there  # and is back
    held.released.set()
    assert ended() is (True if how == "flush" else None)
    assert (store.contacts, store.memory.runs.keys()) == (2, {"demo"})
    recorder.close()
    assert waiting(recorder.path, URI) == 0
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(". ")[0] for line in told] == [
        "tracking: the store is away",
        f"tracking: MLflow at {URI} has everything again",
    ]


def test_each_wait_makes_one_attempt_and_leaves_no_haste_behind(
    store: Store, open_recorder: OpenRecorder, capsys: pytest.CaptureFixture[str]
) -> None:
    store.on_contact = away
    recorder = open_recorder()
    recorder.start("demo", {}, {})
    for number in range(2, 6):
        assert not recorder.flush(LIMIT_S)
        assert store.contacts == number
    recorder.close()
    assert store.contacts == 6
    assert [line.partition(" ")[2].partition(". ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "the store is away",
        f"1 records for MLflow at {URI} wait in {recorder.path}; the next command that opens the sweep delivers them, "
        "as does: python -m tracking deliver",
    ]


def test_a_flush_that_is_over_hastens_nothing(store: Store, open_recorder: OpenRecorder) -> None:
    recorder = open_recorder()
    store.on_start = held = Held(away)
    recorder.start("demo", {}, {})
    assert held.reached.wait(LIMIT_S)
    assert not recorder.flush(0)
    held.released.set()
    with recorder._changed:
        assert recorder._changed.wait_for(lambda: recorder._failed, LIMIT_S)
    store.on_start = there
    assert (recorder._begun, recorder._wanted) == (recorder._failed, 0), "it waits for the end of the pause"
    assert recorder.flush(LIMIT_S)
    recorder.close()


def test_the_end_goes_on_while_the_store_takes_one_record_after_another(
    store: Store, open_recorder: OpenRecorder, capsys: pytest.CaptureFixture[str]
) -> None:
    store.on_contact = away
    recorder = open_recorder()
    keys = [f"demo-{number}" for number in range(5)]
    for key in keys:
        recorder.start(key, {}, {})
    store.on_contact, taken = there, []

    def every_second(run_key: str) -> None:
        taken.append(run_key)
        if len(taken) % 2 == 0:
            away(run_key)

    store.on_start = every_second
    recorder.close()
    assert (list(store.memory.runs), store.contacts) == (keys, 6)
    assert waiting(recorder.path, URI) == 0
    assert len(capsys.readouterr().err.splitlines()) == 2, "away, and there again"


def test_a_contact_that_hangs_is_waited_for_once(
    store: Store, open_recorder: OpenRecorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(journal, "CONTACT_S", 0.0)
    monkeypatch.setattr(journal, "DRAIN_S", 0.0)
    store.on_contact = held = Held(there)
    recorder = open_recorder()
    recorder.start("demo", {}, {})
    assert not recorder.flush(0)
    held.released.set()
    assert recorder.flush(LIMIT_S)
    assert [line.partition(". ")[0] for line in capsys.readouterr().err.splitlines()] == [
        f"tracking: MLflow at {URI} has not answered in 0 s",
        f"tracking: MLflow at {URI} has everything again",
    ]
    store.on_start = held = Held(there)
    recorder.start("late", {}, {})
    assert held.reached.wait(LIMIT_S)
    recorder.close()  # does not wait for what takes nothing
    assert "1 records for MLflow" in capsys.readouterr().err
    held.released.set()
    recorder._thread.join(LIMIT_S)
    assert capsys.readouterr().err == "", "nothing more is told, or recorded"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [RuntimeError("a bug"), SystemExit()])
def test_nobody_waits_for_a_thread_that_has_died(
    error: BaseException, store: Store, open_recorder: OpenRecorder
) -> None:
    def die(_: object) -> None:
        raise error

    recorder = open_recorder()
    store.on_start = die
    # Told once, by whichever call comes first.
    with pytest.raises(RuntimeError, match="a bug") if isinstance(error, RuntimeError) else nullcontext():
        recorder.start("demo", {}, {})
        recorder.flush(LIMIT_S)
    recorder._thread.join(LIMIT_S)
    assert in_another_thread(lambda: recorder.flush(LONG_S))() is False
    recorder.close()
    assert waiting(recorder.path, URI) == 1


def test_a_terminal_that_is_gone_stops_no_delivery(
    store: Store, open_recorder: OpenRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone:
        def write(self, text: str) -> None:
            raise OSError(5, "Input/output error")

        def flush(self) -> None:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    store.on_contact = away
    recorder = open_recorder()
    recorder.start("demo", {}, {})
    store.on_contact = there
    assert recorder.flush(LIMIT_S)
    recorder.close()
