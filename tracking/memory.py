"""A recorder that keeps everything in dicts: for tests, and the rules of the others in their plainest form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tracking.recorder import DatasetInput, Point, Status, points_of
from tracking.state import RunState, check_directory, check_key, check_status, check_tags, cut_description


@dataclass
class MemoryRun(RunState):
    """A run and its artefacts, as relative path -> content."""

    artefacts: dict[str, bytes] = field(default_factory=dict)


class MemoryRecorder:
    """`Recorder` in memory; read `runs`, keyed by run key in order of creation."""

    def __init__(self) -> None:
        self.runs: dict[str, MemoryRun] = {}

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
        if parent is not None:
            self.runs[parent]  # a parent never started is a KeyError
        run = self.runs.get(run_key) or MemoryRun(check_key(run_key), name=run_key, parent=parent)
        new_params, new_tags = run.new_params(params), check_tags(tags)
        run.params |= new_params
        run.tags |= new_tags
        run.name = name or run.name
        run.status = Status.RUNNING
        self.runs[run_key] = run

    def log_metrics(self, run_key: str, metrics: Mapping[str, float], step: int) -> None:
        """See `Recorder.log_metrics`."""
        self.log_points(run_key, points_of(metrics, step))

    def log_points(self, run_key: str, points: Iterable[Point]) -> None:
        """See `Recorder.log_points`."""
        run = self.runs[run_key]
        run.add_points(run.new_points(points))

    def log_input(
        self, run_key: str, name: str, digest: str, context: str, *, source: str = "", rows: int | None = None
    ) -> None:
        """See `Recorder.log_input`."""
        run = self.runs[run_key]
        dataset = run.new_input(DatasetInput(name, digest, context, source, rows))
        if dataset:
            run.inputs.append(dataset)

    def set_tags(self, run_key: str, tags: Mapping[str, str]) -> None:
        """See `Recorder.set_tags`."""
        self.runs[run_key].tags |= check_tags(tags)

    def set_description(self, run_key: str, markdown: str) -> None:
        """See `Recorder.set_description`."""
        self.runs[run_key].description = cut_description(markdown)

    def log_directory(self, run_key: str, directory: Path, artifact_path: str | None = None) -> None:
        """See `Recorder.log_directory`."""
        run = self.runs[run_key]
        check_directory(directory)
        prefix = Path(check_key(artifact_path)) if artifact_path else Path()
        for file in sorted(directory.rglob("*")):
            if file.is_file():
                run.artefacts[(prefix / file.relative_to(directory)).as_posix()] = file.read_bytes()

    def finish(self, run_key: str, status: Status) -> None:
        """See `Recorder.finish`."""
        check_status(status)
        self.runs[run_key].status = status

    def close(self) -> None:
        """Nothing to do: memory needs no disk."""
