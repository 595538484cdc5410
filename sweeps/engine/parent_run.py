"""The parent run of a study in MLflow: begun, found again, and brought what it did not take before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from safe.evaluation.metrics import MAIN
from safe.types import with_split
from sweeps.ledger.folders import Folders
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import Ledger, SweepLog
from sweeps.spec.marks import Mark, marked
from sweeps.spec.objective import Objective, objectives
from sweeps.spec.specs import AblationSpec, Spec, SweepSpec
from sweeps.spec.titles import param, title_of
from tracking.environment import source_tags
from tracking.mlflow_pages import METRIC, PARAM, TAG, table_view
from tracking.recorder import Recorder

if TYPE_CHECKING:
    from tracking import DeliveryProcess, JournalRecorder

MOST_COLUMNS = 12  # of searched settings in the table of runs

Summarise = Callable[[Recorder, Ledger, Folders], None]
"""Writes the outcome of a study whose work is done to its parent run."""


def catch_up(ledger: Ledger, folders: Folders, summarise: Summarise, process: DeliveryProcess) -> None:
    """Bring to the store what it did not take when the study ended, its model too; it may still not take it."""
    from tracking import journal_path, waiting

    journal, later = journal_path(folders.results, ledger.log.spec.name), (ledger.log.model or {}).get("later")
    if not journal.exists() or not (later or waiting(journal, folders.tracking_uri())):
        return
    with closing(study_recorder(folders, ledger.log, process)) as recorder:
        if recorder.drain():
            note_tracking(ledger, recorder)  # first, because the summary leads to the parent run
            if later:
                summarise(recorder, ledger, folders)


def study_recorder(folders: Folders, log: SweepLog, process: DeliveryProcess) -> JournalRecorder:
    """Return the recorder of a study, which writes its journal and has a process deliver it to MLflow."""
    from tracking import JournalRecorder, journal_path

    journal, experiment = journal_path(folders.results, log.spec.name), Path(log.began_as.dataset).name
    return JournalRecorder(journal, folders.tracking_uri(), experiment, delivery=process.delivery)


def start_parent(recorder: Recorder, log: SweepLog, tags: Mapping[str, str]) -> None:
    """Begin the parent run, or find it again: what the study stands for as params, what may grow as tags."""
    spec = log.spec
    counts = {f"{spec.kind}.{name}": str(getattr(spec, name)) for name in marked(type(spec), Mark.GROWS)}
    marks = {"kind": spec.kind, "sweep": spec.name, "selection": spec.selection}
    digest = {f"{spec.kind}.digest": spec.digest()}  # a tag, because a wider space changes it
    # Params are written once, so they say where the data lay at first.
    own = marked(type(spec), Mark.PARAM)
    params = {f"{spec.kind}.{name}": getattr(log.began_as, name) for name in own}
    # What is chosen comes under the plain names; whatever is compared is the same for all runs.
    prefix = "preset." if isinstance(spec, SweepSpec) else ""
    params |= {f"{prefix}{name}": param(value) for name, value in log.began_as.base.items()}
    source = source_tags(f"python -m sweeps {spec.catalogue if isinstance(spec, AblationSpec) else 'run'}")
    recorder.start(spec.name, params, {**tags, **source, **counts, **marks, **digest}, name=title_of(spec))
    recorder.set_view(spec.name, view_of(spec))


def view_of(spec: Spec) -> dict[str, object]:
    """Return the table of a study's runs in MLflow: what the best are and how they differ, without the parent.

    Audits, which judge trials that stand there already on images that nothing may be chosen by, and repeats of the
    race, whose seeds and held-out images are their own, are left out: scores of the search do not compare with theirs.
    """
    wish = objectives(spec.objective)[0] if isinstance(spec, SweepSpec) else Objective("average_accuracy", True)
    objective = wish.metric(spec.split)
    names = dict.fromkeys([objective, *(with_split(spec.split, name) for name in MAIN)])
    tests = dict.fromkeys(with_split("test", name) for name in MAIN)
    varied = list(spec.space)[:MOST_COLUMNS] if isinstance(spec, SweepSpec) else []
    columns = [*((METRIC, name) for name in names), *((PARAM, name) for name in varied), (TAG, "kind")]
    columns += [(METRIC, name) for name in tests if name not in names]
    left_out = [f"tags.kind != '{kind}'" for kind in (spec.kind, Kind.AUDIT, Kind.RACE)]
    query = " AND ".join([f"tags.sweep = '{spec.name}'", *left_out])
    return table_view(query, columns, objective, ascending=not wish.maximise)


def note_tracking(ledger: Ledger, recorder: JournalRecorder) -> None:
    """Note where the recorder has the study; the run id is known once its store has answered."""
    from tracking import shown

    entry = {
        "tracking_uri": shown(recorder.tracking_uri),
        "experiment": recorder.experiment_name,
        "experiment_id": recorder.experiment_id,
        "parent_run_id": recorder.first_run_id,
        "view": ledger.log.spec.name,
    }
    if entry["parent_run_id"] is None and ledger.log.tracking:
        entry |= {name: ledger.log.tracking.get(name) for name in ("experiment_id", "parent_run_id")}
    if ledger.log.tracking != entry:
        ledger.append("tracking", **entry)
