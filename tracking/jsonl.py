"""A recorder that keeps everything in a journal file: no server, no database, readable by eye."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracking.errors import TrackingError
from tracking.journal_file import JournalFile, read_records
from tracking.memory import MemoryRecorder
from tracking.packed import PackedPoints
from tracking.recorder import DatasetInput, ModelFiles, ModelOutput, Point, Recorder, Status
from tracking.state import RunState, check_directory, check_files, check_key, check_model, check_status, cut_description


class _Memory(MemoryRecorder):
    """What is known of runs without their artefacts: where these lie, which need not be any more."""

    def finish(self, run_key: str, status: Status) -> None:
        """Pack the points: few runs get others after their end."""
        super().finish(run_key, status)
        self.runs[run_key].metrics = PackedPoints(self.runs[run_key].metrics)

    def log_directory(
        self, run_key: str, directory: Path, artifact_path: str | None = None, *, without: Sequence[str] = ()
    ) -> None:
        """Only the recorder of a store needs them."""

    def log_models(self, run_key: str, models: Sequence[ModelOutput], points: Iterable[Point]) -> None:
        """Keep all but the files."""
        self.log_points(run_key, points)
        for model in models:
            self.runs[run_key].models.setdefault(model.name, model)


class JsonlRecorder(Recorder):
    """`Recorder` over the journal file `path` (see `tracking.journal_file`), made when absent, else continued.

    Of artefacts and models it says where their files lie, which must stay there.

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
        texts = {key: str(value) for key, value in params.items()}
        self._tell("start", run_key, params=texts, tags=dict(tags), name=name, parent=parent)

    def log_params(self, run_key: str, params: Mapping[str, object]) -> None:
        new = self.runs[run_key].added_params(params)
        if new:
            self._tell("log_params", run_key, params=new)

    def log_points(self, run_key: str, points: Iterable[Point]) -> None:
        """See `Recorder.log_points`; waits for the disk."""
        run = self.runs[run_key]
        new = run.new_points(points)
        if new:
            run.add_points(new)
            self._write("log_points", run_key, points=[[p.key, p.value, p.step] for p in new])
            self._file.sync()

    def log_input(self, run_key: str, name: str, digest: str, context: str) -> None:
        if new := self.runs[run_key].new_input(DatasetInput(name, digest, context)):
            self._tell("log_input", run_key, input=vars(new))

    def set_tags(self, run_key: str, tags: Mapping[str, str]) -> None:
        self._tell("set_tags", run_key, tags=dict(tags))

    def set_description(self, run_key: str, markdown: str) -> None:
        self._tell("set_description", run_key, markdown=cut_description(markdown))

    def set_view(self, run_key: str, view: Mapping[str, object]) -> None:
        if self.runs[run_key].view != view:
            self._tell("set_view", run_key, view=dict(view))

    def log_directory(
        self, run_key: str, directory: Path, artifact_path: str | None = None, *, without: Sequence[str] = ()
    ) -> None:
        key = self.runs[run_key].key
        check_directory(directory)
        path = check_key(artifact_path) if artifact_path else None
        self._write("log_directory", key, directory=self._relative(directory), artifact_path=path, without=[*without])

    def log_models(self, run_key: str, models: Sequence[ModelOutput], points: Iterable[Point]) -> None:
        """See `Recorder.log_models`; waits for the disk."""
        if not models:
            self.log_points(run_key, points)
            return
        for model in models:
            check_model(model)
            check_files(model)
        run, points = self.runs[run_key], list(points)
        new = run.new_points(points)
        if not new and all(model.name in run.models for model in models):
            return
        run.add_points(new)
        for model in models:
            run.models.setdefault(model.name, model)
        # Points that were there before belong to the models from now on, so they are told again.
        entries, told = [self._entry(model) for model in models], [[p.key, p.value, p.step] for p in points]
        self._write("log_models", run.key, models=entries, points=told)
        self._file.sync()

    def link_model(self, run_key: str, of: str, name: str, step: int) -> None:
        known = (of, name) in self.runs[run_key].linked
        self._memory.link_model(run_key, of, name, step)
        if not known:
            self._write("link_model", run_key, of=of, name=name, step=step)

    def finish(self, run_key: str, status: Status) -> None:
        """See `Recorder.finish`; waits for the disk."""
        check_status(status)
        if self.runs[run_key].status != status:
            self._tell("finish", run_key, status=status)
            self._file.sync()

    def close(self) -> None:
        """See `Recorder.close`; waits for the disk. Closing twice is fine."""
        self._file.close()

    def _entry(self, model: ModelOutput) -> dict[str, object]:
        """Return a model as the file tells it."""
        places = [[self._relative(part.path), part.folder] for part in model.files]
        return {**vars(model), "tags": dict(model.tags), "files": places}

    def _relative(self, path: Path) -> str:
        """Return a path as the file names it: as seen from its folder, so that a results folder can be moved."""
        path = path.absolute()
        return os.path.relpath(path, self.path.parent) if path.is_relative_to(self.path.parent) else str(path)

    def _tell(self, method: str, run_key: str, **arguments: object) -> None:
        """Do a call in memory, which refuses what is wrong with it, and write it: both as it will be read."""
        call({"call": method, "run_key": run_key, **arguments}, self._memory, self.path.parent)
        self._write(method, run_key, **arguments)

    def _write(self, method: str, run_key: str, **arguments: object) -> None:
        self._file.append(call=method, run_key=run_key, **arguments, at=time.time())


def read_journal(path: Path) -> Mapping[str, RunState]:
    """Return what a journal holds, by run key in order of creation; what is raised is as in `read_records`."""
    return _remembered(path).runs


def _remembered(path: Path) -> MemoryRecorder:
    memory = _Memory()
    for _, record in read_records(path):
        try:
            call(record, memory, path.parent)
        except (ValueError, KeyError, TypeError) as error:
            raise TrackingError(
                f"{path} does not fit together ({error!r}); restore the file from a copy, or move it away: a sweep "
                "that goes on writes it anew"
            ) from error
    return memory


def call(record: dict[str, Any], recorder: Recorder, folder: Path) -> None:
    """Do with `recorder` what a record says; folders of artefacts are relative to `folder`, the journal's own.

    Raises ValueError for a record that says nothing known, besides what the recorder raises.
    """
    match record:
        case {
            "call": "start",
            "run_key": str(key),
            "params": dict(params),
            "tags": dict(tags),
            "name": (str() | None) as name,
            "parent": (str() | None) as parent,
        }:
            recorder.start(key, params, tags, name=name, parent=parent)
        case {"call": "log_params", "run_key": str(key), "params": dict(params)}:
            recorder.log_params(key, params)
        case {"call": "set_view", "run_key": str(key), "view": dict(view)}:
            recorder.set_view(key, view)
        case {"call": "log_points", "run_key": str(key), "points": list(points)}:
            recorder.log_points(key, [Point(*point) for point in points])
        case {
            "call": "log_input",
            "run_key": str(key),
            "input": {"name": str(name), "digest": str(digest), "context": str(context)},
        }:
            recorder.log_input(key, name, digest, context)
        case {"call": "set_tags", "run_key": str(key), "tags": dict(tags)}:
            recorder.set_tags(key, tags)
        case {"call": "set_description", "run_key": str(key), "markdown": str(markdown)}:
            recorder.set_description(key, markdown)
        case {
            "call": "log_directory",
            "run_key": str(key),
            "directory": str(directory),
            "artifact_path": artifact_path,
        }:
            recorder.log_directory(key, folder / directory, artifact_path, without=record.get("without", ()))
        case {"call": "log_models" | "log_model", "run_key": str(key), "points": list(points)}:
            recorder.log_models(key, _models(record, folder), [Point(*point) for point in points])
        case {"call": "link_model", "run_key": str(key), "of": str(of), "name": str(name), "step": int(step)}:
            recorder.link_model(key, of, name, step)
        case {"call": "finish", "run_key": str(key), "status": str(status)}:
            recorder.finish(key, Status(status))
        case _:
            raise ValueError(f"unknown record {record.get('call')!r}")


def told_models(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the models of a record as it tells them; older journals have one a record."""
    return record["models"] if "models" in record else [record["model"]]


def _models(record: dict[str, Any], folder: Path) -> list[ModelOutput]:
    return [
        ModelOutput(**{**told, "files": tuple(ModelFiles(folder / path, inside) for path, inside in told["files"])})
        for told in told_models(record)
    ]
