"""A recorder that appends JSON lines to one file: no server, no database, readable by eye.

The first line is a header with the format version; every further line is one call to the recorder, with the
arguments of the method it names. Each line reaches the operating system at once, so a killed process loses nothing;
`finish` and `close` also wait for the disk (fsync), so after them not even a power cut does.
One process at a time writes a file.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from tracking.errors import TrackingError
from tracking.memory import MemoryRecorder
from tracking.recorder import Point, points_of
from tracking.state import RunState, check_directory, check_key, check_status, cut_description

FORMAT = "tracking-journal"
VERSION = 1

_log = logging.getLogger(__name__)


class JsonlRecorder:
    """`Recorder` over the file `path`, made with its folder when absent; an existing one is read and continued.

    Artefacts of a run are copied to `<stem>.artifacts/<run key>/` beside the file ("/" in the key as "%2F", so that
    runs never share a folder). A last line that was cut off by a crash is dropped with a warning.

    Raises:
        TrackingError: the file is no such journal, is damaged before its last line, or has a newer format version.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._memory = MemoryRecorder()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = self._replay(self.path.read_bytes() if self.path.exists() else b"")
        self._file = self.path.open("ab")
        self._file.truncate(whole)
        if not whole:
            self._write(format=FORMAT, version=VERSION)

    @property
    def runs(self) -> Mapping[str, RunState]:
        """What the file holds, by run key in order of creation; artefacts are in `artifact_directory`."""
        return self._memory.runs

    def artifact_directory(self, run_key: str) -> Path:
        """Return the folder that holds the artefacts of a run (absent until there are any)."""
        return self.path.with_name(f"{self.path.stem}.artifacts") / run_key.replace("/", "%2F")

    def start(
        self,
        run_key: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        *,
        name: str | None = None,
        parent: str | None = None,
    ) -> None:
        """See `Recorder.start`."""
        self._memory.start(run_key, params, tags, name=name, parent=parent)
        texts = {key: str(value) for key, value in params.items()}
        self._write(call="start", run_key=run_key, params=texts, tags=dict(tags), name=name, parent=parent)

    def log_metrics(self, run_key: str, metrics: Mapping[str, float], step: int) -> None:
        """See `Recorder.log_metrics`."""
        self.log_points(run_key, points_of(metrics, step))

    def log_points(self, run_key: str, points: Iterable[Point]) -> None:
        """See `Recorder.log_points`."""
        run = self.runs[run_key]
        new = run.new_points(points)
        if new:
            self._write(call="log_points", run_key=run_key, points=[[p.key, p.value, p.step] for p in new])
            run.add_points(new)

    def set_tags(self, run_key: str, tags: Mapping[str, str]) -> None:
        """See `Recorder.set_tags`."""
        self._memory.set_tags(run_key, tags)
        self._write(call="set_tags", run_key=run_key, tags=dict(tags))

    def set_description(self, run_key: str, markdown: str) -> None:
        """See `Recorder.set_description`."""
        self._memory.set_description(run_key, markdown)
        self._write(call="set_description", run_key=run_key, markdown=cut_description(markdown))

    def log_directory(self, run_key: str, directory: Path, artifact_path: str | None = None) -> None:
        """See `Recorder.log_directory`."""
        target = self.artifact_directory(self.runs[run_key].key)
        check_directory(directory)
        if artifact_path:
            target /= check_key(artifact_path)
        shutil.copytree(directory, target, dirs_exist_ok=True)
        self._write(call="log_directory", run_key=run_key, artifact_path=artifact_path)

    def finish(self, run_key: str, status: str) -> None:
        """See `Recorder.finish`; waits for the disk."""
        check_status(status)
        if self.runs[run_key].status != status:
            self._memory.finish(run_key, status)
            self._write(call="finish", run_key=run_key, status=status)
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """See `Recorder.close`; waits for the disk. Closing twice is fine."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def _write(self, **record: object) -> None:
        self._file.write(json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def _replay(self, data: bytes) -> int:
        """Rebuild the state from the whole lines of `data` and return how many bytes they take."""
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            _log.warning("%s: dropping the last line, which was cut off after %d bytes", self.path, len(data) - whole)
        for number, line in enumerate(data[:whole].split(b"\n")[:-1], start=1):
            try:
                record = json.loads(line)
                self._read_header(record) if number == 1 else self._apply(record)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise TrackingError(
                    f"{self.path}, line {number} is not a line of a tracking journal: {error!r}; "
                    "restore the file from a copy, or choose another file"
                ) from error
        return whole

    def _read_header(self, record: dict[str, object]) -> None:
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']!r}")
        version = record["version"]
        if not isinstance(version, int) or version > VERSION:
            raise TrackingError(
                f"{self.path} has format version {version}, newer than the {VERSION} this program reads; "
                "use the program that wrote it, or choose another file"
            )

    def _apply(self, record: dict[str, object]) -> None:
        match record:
            case {
                "call": "start",
                "run_key": str(key),
                "params": dict(params),
                "tags": dict(tags),
                "name": (str() | None) as name,
                "parent": (str() | None) as parent,
            }:
                self._memory.start(key, params, tags, name=name, parent=parent)
            case {"call": "log_points", "run_key": str(key), "points": list(points)}:
                self._memory.log_points(key, [Point(*point) for point in points])
            case {"call": "set_tags", "run_key": str(key), "tags": dict(tags)}:
                self._memory.set_tags(key, tags)
            case {"call": "set_description", "run_key": str(key), "markdown": str(markdown)}:
                self._memory.set_description(key, markdown)
            case {"call": "finish", "run_key": str(key), "status": str(status)}:
                self._memory.finish(key, status)
            case {"call": "log_directory"}:
                pass  # the files lie beside the journal
            case _:
                raise ValueError(f"unknown record {record.get('call')!r}")
