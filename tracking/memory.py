"""A recorder that keeps everything in dicts: for tests, and the rules of the others in their plainest form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tracking.recorder import DatasetInput, ModelOutput, Point, Recorder, Status
from tracking.state import (
    RunState,
    check_directory,
    check_files,
    check_key,
    check_model,
    check_status,
    check_tags,
    check_view,
    cut_description,
)


@dataclass
class MemoryRun(RunState):
    """A run, its artefacts and the files of its models, as relative path -> content."""

    artefacts: dict[str, bytes] = field(default_factory=dict)
    model_files: dict[str, dict[str, bytes]] = field(default_factory=dict)  # by name of the model


class MemoryRecorder(Recorder):
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
        if parent is not None:
            self.runs[parent]  # a parent never started is a KeyError
        run = self.runs.get(run_key) or MemoryRun(check_key(run_key), name=run_key, parent=parent)
        new_params, new_tags = run.new_params(params), check_tags(tags)
        run.params |= new_params
        run.tags |= new_tags
        run.name = name or run.name
        run.status = Status.RUNNING
        self.runs[run_key] = run

    def log_params(self, run_key: str, params: Mapping[str, object]) -> None:
        run = self.runs[run_key]
        run.params |= run.added_params(params)

    def log_points(self, run_key: str, points: Iterable[Point]) -> None:
        run = self.runs[run_key]
        run.add_points(run.new_points(points))

    def log_input(self, run_key: str, name: str, digest: str, context: str) -> None:
        run = self.runs[run_key]
        dataset = run.new_input(DatasetInput(name, digest, context))
        if dataset:
            run.inputs.append(dataset)

    def set_tags(self, run_key: str, tags: Mapping[str, str]) -> None:
        self.runs[run_key].tags |= check_tags(tags)

    def set_description(self, run_key: str, markdown: str) -> None:
        self.runs[run_key].description = cut_description(markdown)

    def set_view(self, run_key: str, view: Mapping[str, object]) -> None:
        check_view(view)
        self.runs[run_key].view = dict(view)

    def log_directory(
        self, run_key: str, directory: Path, artifact_path: str | None = None, *, without: Sequence[str] = ()
    ) -> None:
        run = self.runs[run_key]
        check_directory(directory)
        prefix = Path(check_key(artifact_path)) if artifact_path else Path()
        read = {path: content for path, content in _contents(directory) if path.parts[0] not in without}
        run.artefacts |= {(prefix / path).as_posix(): content for path, content in read.items()}

    def log_models(self, run_key: str, models: Sequence[ModelOutput], points: Iterable[Point]) -> None:
        for model in models:
            check_model(model)
            check_files(model)
        self.log_points(run_key, points)
        run = self.runs[run_key]
        for model in models:
            if model.name not in run.models:
                run.models[model.name] = model
                run.model_files[model.name] = {
                    (Path(part.folder) / path).as_posix(): content
                    for part in model.files
                    for path, content in _contents(part.path)
                }

    def link_model(self, run_key: str, of: str, name: str, step: int) -> None:
        self.runs[of].models[name]  # a KeyError where there is none
        self.runs[run_key].linked.setdefault((of, name), step)

    def finish(self, run_key: str, status: Status) -> None:
        check_status(status)
        self.runs[run_key].status = status

    def close(self) -> None:
        """Nothing to do: memory needs no disk."""


def _contents(place: Path) -> Iterator[tuple[Path, bytes]]:
    """Return a file, or every file below a folder, by its path as seen from there."""
    files = sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]
    root = place if place.is_dir() else place.parent
    return ((file.relative_to(root), file.read_bytes()) for file in files)
