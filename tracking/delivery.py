"""Bringing a journal to MLflow, in order, from where it was left, as often as it takes.

Delivery may be cut off anywhere and repeated: runs are found by tag, points by key and step, artefacts are
overwritten. How far each store has got lies beside the journal (`<stem>.delivered.json`). It is noted after some
records at once, of which those of one run take one call: more of them while the store takes what it is given, one by
one after it did not.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

from tracking.compat import load_store
from tracking.errors import TrackingError
from tracking.journal_file import JournalFile, experiment_of, read_header, read_records
from tracking.jsonl import call, read_journal, told_models
from tracking.mlflow_backend import sqlite_path
from tracking.mlflow_errors import shown
from tracking.mlflow_recorder import MlflowRecorder

VERSION = 1
RECORDS_AT_ONCE = 32
_BRING_FILES = ("log_directory", "log_models")  # to bring these again takes long
R = TypeVar("R")
Open = Callable[..., MlflowRecorder]
"""Opens an experiment of an MLflow store, whose recorder asks `clock` when something happened."""


class Delivery:
    """Brings the journal `path` to the experiment `experiment` of the MLflow store at `tracking_uri`.

    What goes wrong without stopping anything, `say` tells the person.

    Attributes:
        offset: bytes of the journal that the store has.

    Raises:
        TrackingError: the journal, or the file that says how far it was delivered, is of another format version.
    """

    def __init__(
        self,
        path: Path,
        tracking_uri: str,
        experiment: str,
        open: Open = MlflowRecorder,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.path = path
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self._target: MlflowRecorder | None = None  # the store, None before the first contact and after a failure
        self._first_id: str | None = None
        self._open = open
        self._say = say or tell
        self._at = 0.0
        self._at_once = 1
        self._missing: set[Path] = set()
        self._progress = path.with_name(f"{path.stem}.delivered.json")
        self._name = f"{_place(tracking_uri, path)} {experiment}"
        self._id = read_header(path)["id"]
        self.offset: int = self._offsets().get(self._name, 0)

    @property
    def experiment_id(self) -> str | None:
        """The store's id of the experiment, None while it does not answer."""
        target = self._target  # which another thread may take away
        return target.experiment_id if target else None

    @property
    def first_run_id(self) -> str | None:
        """The store's id of the run that the journal begins with, None as long as the store has not told it."""
        target = self._target
        if self._first_id is None and target is not None and (first := self._first_run()):
            with suppress(TrackingError, KeyError):
                self._first_id = target.run_id(first)
        return self._first_id

    def load(self) -> None:
        """Load what delivery needs, which takes seconds that must not be taken for those of a slow store."""
        load_store()

    def connect(self) -> None:
        """Make contact with the store; everything begins anew when it lost what it had.

        Raises:
            TrackingError: it cannot be used; `UnreachableError` when it may answer later.
        """
        if self._target is None:
            self._target = self._open(self.tracking_uri, self.experiment, clock=lambda: self._at)
            try:
                if self.offset and (first := self._first_run()):
                    self._target.set_tags(first, {})
            except KeyError:
                self._begin_anew()

    def run(self, end: int, go_on: Callable[[], bool] = lambda: True) -> None:
        """Deliver what the journal holds up to byte `end`, where a line ends, asking `go_on` whenever `offset` moved.

        A run that the store had and no longer has (somebody deleted it) is made anew with its whole history.

        Raises:
            ConflictError: the store holds something else at the same place.
            TrackingError: it could not be delivered now; `UnreachableError` when it may be later.
        """
        try:
            self.connect()
            try:
                self._drain(end, go_on)
            except KeyError:
                self._begin_anew()
                self._drain(end, go_on)
        except TrackingError:
            self._target = None  # what the store has of the last call is unknown: it is asked again
            self._at_once = 1
            raise

    def call(self, function: Callable[..., R], *arguments: object) -> R:
        """Return what a function of a module gives, called where MLflow is loaded."""
        return function(*arguments)

    def waiting(self) -> int:
        """Return how many records are not delivered."""
        return sum(1 for _ in read_records(self.path, self.offset))

    def close(self) -> None:
        """Let the store bring everything to its disk."""
        if self._target is not None:
            self._target.close()

    def _begin_anew(self) -> None:
        self.offset, self._first_id = 0, None

    def _first_run(self) -> str | None:
        record = next((record for _, record in read_records(self.path)), None)
        return record["run_key"] if record else None

    def _drain(self, end: int, go_on: Callable[[], bool]) -> None:
        assert self._target is not None, "connected"
        for records in self._together(end):
            with self._target.gathered():
                for _, record in records:
                    self._deliver(self._target, record)
            self.offset, _ = records[-1]
            self._at_once = min(2 * self._at_once, RECORDS_AT_ONCE)
            self._save()
            if not go_on():
                return
        self.offset = max(self.offset, end)  # beyond the header, where there is no record yet

    def _together(self, end: int) -> Iterator[list[tuple[int, dict[str, Any]]]]:
        """Give the records that are not delivered, each with the byte that follows it, those together that are noted
        as delivered together."""
        records = []
        for offset, record in read_records(self.path, self.offset):
            if offset > end:
                break
            records.append((offset, record))
            if len(records) >= self._at_once or record["call"] in _BRING_FILES:
                yield records
                records = []
        if records:
            yield records

    def _deliver(self, target: MlflowRecorder, record: dict[str, Any]) -> None:
        self._at = record["at"]
        try:
            call(record, target, self.path.parent)
        except NotADirectoryError:
            gone = self._gone(record)
            if gone not in self._missing:
                self._missing.add(gone)
                self._say(f"{gone} is gone, so MLflow does not get these files of {record['run_key']}")

    def _gone(self, record: dict[str, Any]) -> Path:
        """Return the place of a record's files that is not there."""
        if "directory" in record:
            return self.path.parent / record["directory"]
        places = [self.path.parent / path for model in told_models(record) for path, _ in model["files"]]
        return next((place for place in places if not place.exists()), places[0])

    def _offsets(self) -> dict[str, int]:
        # Without a readable file everything is delivered again, which changes nothing.
        with suppress(OSError, ValueError, LookupError, TypeError):
            saved = json.loads(self._progress.read_text("utf-8"))
            if saved["version"] != VERSION:
                raise TrackingError(
                    f"{self._progress} has format version {saved['version']}, this program reads {VERSION}; use the "
                    "program that wrote it, or remove the file: everything is then delivered again, which changes "
                    "nothing in MLflow"
                )
            if saved["journal"] == self._id:  # not of one that was moved away
                return dict(saved["offsets"])
        return {}

    def _save(self) -> None:
        offsets = {**self._offsets(), self._name: self.offset}
        draft = self._progress.with_suffix(".tmp")
        saved = {"version": VERSION, "journal": self._id, "offsets": offsets}
        draft.write_text(json.dumps(saved, indent=2), "utf-8")
        draft.replace(self._progress)


def deliver(
    path: Path, tracking_uri: str, *, again: bool = False, delivered: Callable[[int], None] = lambda _: None
) -> None:
    """Bring the journal of a sweep that nobody runs to an MLflow store, all of it `again` if asked for.

    `delivered` is told of how many bytes of the file the store has.

    Raises:
        InUseError: the sweep is being run; it delivers by itself.
        TrackingError: the journal or the store cannot be used; `UnreachableError` when the store may be later.
    """

    def go_on() -> bool:
        delivered(delivery.offset)
        return True

    with closing(JournalFile(path)) as file:
        read_journal(path)  # refuses what does not fit together before anything is delivered
        delivery = Delivery(path, tracking_uri, experiment_of(path))
        if again:
            delivery.offset = 0
        delivery.run(file.size(), go_on)
        delivery.close()


def waiting(path: Path, tracking_uri: str) -> int:
    """Return how many records of a journal the store has not got yet."""
    return Delivery(path, tracking_uri, experiment_of(path)).waiting()


def _place(tracking_uri: str, journal: Path) -> str:
    """Return what a store is called beside a journal: one that is moved with it keeps its name."""
    database = sqlite_path(tracking_uri)
    if database is not None and journal.is_relative_to(database.parent):
        return os.path.relpath(database, journal.parent)
    return shown(tracking_uri)


def tell(text: str) -> None:
    """Say something to the person at the terminal, if it is still there."""
    with suppress(OSError):
        print(f"tracking: {text}", file=sys.stderr, flush=True)
