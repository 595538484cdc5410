"""The rules all recorders share: what may be written, and what of it is new.

The limits are MLflow's and hold for every recorder, so that a sweep tried out with one runs with the others.
MLflow itself cuts long values silently; a setting cut short would be wrong, so it is refused here.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from sys import intern

from tracking.errors import ConflictError, TrackingError
from tracking.packed import PackedPoints
from tracking.recorder import FINAL_STATUSES, VOLATILE_PREFIXES, DatasetInput, ModelOutput, Point, Status

MAX_KEY = 250
MAX_PARAM = 6000
MAX_TAG = 8000
MAX_DIGEST = 36
MAX_VIEW = 20_000
CUT_NOTE = f"\n\n(cut: a description holds {MAX_TAG} characters)"

_KEY = re.compile(r"[/\w.\- :]+")
_NO_MODEL = re.compile(r"""[/:.%"']""")


def check_key(key: str) -> str:
    """Return `key` if it can name a run, param, tag, metric or artefact folder everywhere, else raise ValueError."""
    normal = posixpath.normpath(key) == key and key != "." and not key.startswith(("..", "/"))
    if not normal or not _KEY.fullmatch(key) or len(key) > MAX_KEY:
        raise ValueError(
            f"a key is a relative path of letters, digits and '_-.: /', at most {MAX_KEY} characters; got {key!r}"
        )
    return key


def check_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags as a dict. Raises ValueError for a bad key and TrackingError for a value over MAX_TAG."""
    for key, value in tags.items():
        check_key(key)
        if len(value) > MAX_TAG:
            raise TrackingError(f"tag {key!r} has {len(value)} characters; at most {MAX_TAG} can be recorded")
    return dict(tags)


def check_view(view: Mapping[str, object]) -> str:
    """Return a view as JSON. Raises TrackingError for one of more than MAX_VIEW characters."""
    text = json.dumps(view)
    if len(text) > MAX_VIEW:
        raise TrackingError(f"a view of the table of runs has {len(text)} characters; at most {MAX_VIEW} can be kept")
    return text


def check_status(status: str) -> None:
    """Raise ValueError unless a run can end with `status`."""
    if status not in FINAL_STATUSES:
        raise ValueError(f"a run ends with one of {', '.join(FINAL_STATUSES)}; got '{status}'")


def check_model(model: ModelOutput) -> None:
    """Raise ValueError for a bad name, and TrackingError for a tag over MAX_TAG."""
    check_key(model.name)
    if _NO_MODEL.search(model.name):
        raise ValueError(f"the name of a model is one without / : . % and quotation marks; got {model.name!r}")
    check_tags(model.tags)


def check_files(model: ModelOutput) -> None:
    """Raise NotADirectoryError unless all files of the model are there."""
    for part in model.files:
        if not part.path.exists():
            raise NotADirectoryError(f"{part.path} is not there")


def check_directory(directory: Path) -> None:
    """Raise NotADirectoryError unless `directory` exists and is one."""
    if not directory.is_dir():
        raise NotADirectoryError(f"{directory} is not a directory")


def cut_description(markdown: str) -> str:
    """Return `markdown`, ended by CUT_NOTE after its last whole line when it is longer than MAX_TAG."""
    if len(markdown) <= MAX_TAG:
        return markdown
    head = markdown[: MAX_TAG - len(CUT_NOTE)]
    return head.rpartition("\n")[0] + CUT_NOTE if "\n" in head else head + CUT_NOTE


@dataclass
class RunState:
    """What is recorded of one run: enough to know what is new."""

    key: str
    name: str
    parent: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, dict[int, float]] | PackedPoints = field(default_factory=dict)  # key -> step -> value
    inputs: list[DatasetInput] = field(default_factory=list)
    models: dict[str, ModelOutput] = field(default_factory=dict)  # by name, in order of creation
    linked: dict[tuple[str, str], int] = field(default_factory=dict)  # models of others, by run and name: their steps
    description: str = ""
    view: Mapping[str, object] = field(default_factory=dict)  # of the table of runs
    status: str = Status.RUNNING  # MLflow has a word of its own more

    def new_params(self, params: Mapping[str, object]) -> dict[str, str]:
        """Return, as text, the params not recorded yet.

        Raises:
            TrackingError: a param is longer than MAX_PARAM.
            ConflictError: a param differs from what is recorded.
        """
        new: dict[str, str] = {}
        for key, value in params.items():
            text, old = str(value), self.params.get(check_key(key))
            if old is None and len(text) > MAX_PARAM:
                raise TrackingError(
                    f"setting {key!r} of run {self.key!r} has {len(text)} characters; "
                    f"at most {MAX_PARAM} can be recorded"
                )
            if old is not None and old != text:
                raise ConflictError(
                    f"setting {key!r} of run {self.key!r} is recorded as {old!r} and cannot become {text!r}; "
                    "continue with the recorded setting, or give the sweep a new name"
                )
            if old is None:
                new[intern(key)] = intern(text)  # thousands of runs have the same settings
        return new

    def added_params(self, params: Mapping[str, object]) -> dict[str, str]:
        """Return, as text, the params that are not recorded, whatever the others are now; raises as `new_params`."""
        return self.new_params({key: value for key, value in params.items() if key not in self.params})

    def new_points(self, points: Iterable[Point]) -> list[Point]:
        """Return the points not recorded yet, each key and step once, in the order given.

        Raises:
            ValueError: a value is NaN or infinite.
            ConflictError: another value is recorded at that key and step, and the metric is not volatile.
        """
        new: dict[tuple[str, int], Point] = {}
        for point in points:
            key, value, step = check_key(point.key), float(point.value), int(point.step)
            if not math.isfinite(value):
                raise ValueError(f"metric {key!r} of run {self.key!r} is {value} at step {step}; leave it out instead")
            known = new.get((key, step))
            old = known.value if known else self.metrics.get(key, {}).get(step)
            if old is None:
                new[key, step] = Point(key, value, step)
            elif old != value and not key.startswith(VOLATILE_PREFIXES):
                raise ConflictError(
                    f"metric {key!r} of run {self.key!r} is recorded as {old!r} at step {step} and was now {value!r}; "
                    "repeated work must give the same numbers: check that code, data, thread count, device and "
                    "precision are those of the first time, or give the sweep a new name"
                )
        return list(new.values())

    def add_points(self, points: Iterable[Point]) -> None:
        """Take over points that are now recorded; of two at one key and step the first stays."""
        if isinstance(self.metrics, PackedPoints):
            self.metrics = self.metrics.unpacked()
        for point in points:
            self.metrics.setdefault(intern(point.key), {}).setdefault(point.step, point.value)

    def input_of(self, context: str) -> DatasetInput | None:
        """Return the data set that the run used in a context, None where it is not recorded."""
        return next((entry for entry in self.inputs if context and entry.context == context), None)

    def new_input(self, dataset: DatasetInput) -> DatasetInput | None:
        """Return the data set, its digest cut to MAX_DIGEST, unless it is recorded already.

        Raises:
            ValueError: the name or the context is no key.
            ConflictError: other images are recorded by that name in that context.
        """
        dataset = replace(dataset, digest=dataset.digest[:MAX_DIGEST])
        for known in self.inputs:
            if (known.name, known.context) == (dataset.name, dataset.context):
                if known.digest != dataset.digest:
                    raise ConflictError(
                        f"run {self.key!r} used {dataset.name} ({dataset.context}) with digest {known.digest!r}, which "
                        f"cannot become {dataset.digest!r}; bring the data back, or give the sweep a new name"
                    )
                return None
        check_key(dataset.name)
        check_key(dataset.context)
        return dataset
