"""A recorder that keeps everything in a journal file: no server, no database, readable by eye."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from tracking.errors import TrackingError
from tracking.journal_file import JournalFile, call, read_records
from tracking.memory import MemoryRecorder
from tracking.recorder import DatasetInput, Point, Status, points_of
from tracking.state import RunState, check_directory, check_key, check_status, cut_description


class JsonlRecorder:
    """`Recorder` over the journal file `path` (see `tracking.journal_file`), made when absent, else continued.

    Artefacts of a run are copied to `<stem>.artifacts/<run key>/` beside the file ("/" in the key as "%2F", so that
    runs never share a folder).

    Raises:
        TrackingError: the file is no such journal, is damaged, has another format version, or is being written.
    """

    def __init__(self, path: Path, **header: str) -> None:
        self.path = Path(path).absolute()
        self._file = JournalFile(self.path, **header)
        try:
            self._memory = _remembered(self.path)
        except TrackingError:
            self._file.close()
            raise

    @property
    def runs(self) -> Mapping[str, RunState]:
        """What the file holds, by run key in order of creation, without artefacts."""
        return self._memory.runs

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
        self._write("start", run_key, params=texts, tags=dict(tags), name=name, parent=parent)

    def log_metrics(self, run_key: str, metrics: Mapping[str, float], step: int) -> None:
        """See `Recorder.log_metrics`."""
        self.log_points(run_key, points_of(metrics, step))

    def log_points(self, run_key: str, points: Iterable[Point]) -> None:
        """See `Recorder.log_points`; waits for the disk."""
        run = self.runs[run_key]
        new = run.new_points(points)
        if new:
            run.add_points(new)
            self._write("log_points", run_key, points=[[p.key, p.value, p.step] for p in new])
            self._file.sync()

    def log_input(
        self, run_key: str, name: str, digest: str, context: str, *, source: str = "", rows: int | None = None
    ) -> None:
        """See `Recorder.log_input`."""
        run = self.runs[run_key]
        new = run.new_input(DatasetInput(name, digest, context, source, rows))
        if new:
            run.inputs.append(new)
            self._write("log_input", run_key, input=vars(new))

    def set_tags(self, run_key: str, tags: Mapping[str, str]) -> None:
        """See `Recorder.set_tags`."""
        self._memory.set_tags(run_key, tags)
        self._write("set_tags", run_key, tags=dict(tags))

    def set_description(self, run_key: str, markdown: str) -> None:
        """See `Recorder.set_description`."""
        self._memory.set_description(run_key, markdown)
        self._write("set_description", run_key, markdown=cut_description(markdown))

    def log_directory(self, run_key: str, directory: Path, artifact_path: str | None = None) -> None:
        """See `Recorder.log_directory`."""
        key = self.runs[run_key].key
        check_directory(directory)
        path = check_key(artifact_path) if artifact_path else None
        kept = self._keep(key, Path(directory).absolute(), path)
        # Relative, so that a results folder can be moved.
        below = kept.is_relative_to(self.path.parent)
        shown = os.path.relpath(kept, self.path.parent) if below else str(kept)
        self._write("log_directory", key, directory=shown, artifact_path=path)

    def finish(self, run_key: str, status: Status) -> None:
        """See `Recorder.finish`; waits for the disk."""
        check_status(status)
        if self.runs[run_key].status != status:
            self._memory.finish(run_key, status)
            self._write("finish", run_key, status=status)
            self._file.sync()

    def close(self) -> None:
        """See `Recorder.close`; waits for the disk. Closing twice is fine."""
        self._file.close()

    def _keep(self, run_key: str, directory: Path, artifact_path: str | None) -> Path:
        """Copy a folder of artefacts and return where the copy lies."""
        target = artifact_directory(self.path, run_key) / (artifact_path or "")
        shutil.copytree(directory, target, dirs_exist_ok=True)
        return target

    def _write(self, method: str, run_key: str, **arguments: object) -> None:
        self._file.append(call=method, run_key=run_key, **arguments, at=time.time())


def artifact_directory(path: Path, run_key: str) -> Path:
    """Return the folder that holds the artefacts of a run of the journal `path` (absent until there are any)."""
    return path.with_name(f"{path.stem}.artifacts") / run_key.replace("/", "%2F")


def read_journal(path: Path) -> Mapping[str, RunState]:
    """Return what a journal holds, by run key in order of creation; what is raised is as in `read_records`."""
    return _remembered(path).runs


def _remembered(path: Path) -> MemoryRecorder:
    memory = MemoryRecorder()
    for _, record in read_records(path):
        if record["call"] == "log_directory":  # of artefacts, only where they lie is known here
            continue
        try:
            call(record, memory, path.parent)
        except (ValueError, KeyError, TypeError) as error:
            raise TrackingError(
                f"{path} does not fit together ({error!r}); restore the file from a copy, or move it away: a sweep "
                "that goes on writes it anew"
            ) from error
    return memory
