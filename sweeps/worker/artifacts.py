"""The files of one run, written by its worker into the run's folder, which MLflow gets at the end.

    checkpoints/session-NN.pt   inference state after a session (`safe.states.inference`), as the policy says; MLflow
                                gets it as a model of its own
    sessions.jsonl              what every session gave, after a line with the format and its version
    run.log                     the same for people: losses by epoch, metrics by session
    config.yaml                 the resolved configuration, which `python -m safe train --config` takes
    tables/accuracy_matrix.csv  accuracy of each session's images after each session; plots/accuracy_matrix.png
    tables/accuracy_matrix.json the same as MLflow draws tables; session_confusion.json likewise
    tables/sessions.csv         every metric by session; plots/curves.png

(slow settings, repeats of a race and audits have no plots), and of a run that the result rests on, not of a trial:

    tables/predictions.csv      what the final state says of every image that judges it
    tables/confusion.csv        true by predicted class; plots/confusion.png (of many, the most confused)
    tables/session_confusion.csv  images of each session by the session whose class is predicted, where those differ
    tables/confused_pairs.csv   the classes most often taken for another; plots/confused_pairs.png with images of both
    environment.json            versions, device, commit

All but the first three are written after the last session.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safe.errors import UserError
from safe.io.documents import yaml_text
from safe.io.writable import naming, whole
from safe.types import with_split
from sweeps.ledger.jobs import Kind
from sweeps.ledger.record import VERSION, SessionRecord
from sweeps.results.confused import HEADER, PICTURE, TABLE, table_of

if TYPE_CHECKING:
    from safe.training.trainer import SafeTrainer

Policy = Literal["all", "best", "last", "none"]

MATRIX, SESSION_CONFUSION = "tables/accuracy_matrix.json", "tables/session_confusion.json"
TABLES = (MATRIX, SESSION_CONFUSION)  # what MLflow draws
RECORDS = "sessions.jsonl"
CHECKPOINTS = "checkpoints"
IN_FULL = (Kind.FINAL, Kind.CONTROL, Kind.VARIANT)  # runs that get every file
PICTURED = (*IN_FULL, Kind.TRIAL, Kind.BASELINE)  # of the others a sweep has most, and nobody opens them
OF_THE_BEST = (Kind.FINAL, Kind.VARIANT, Kind.TRIAL)  # runs whose states the policy `best` keeps, of trials for a while


def keep_session(job: Mapping[str, Any], trainer: SafeTrainer, record: SessionRecord) -> None:
    """Write what the session that `record` tells of adds to the run's folder.

    Doing it again, after a kill, gives the same files. Which states are kept is `job["checkpoints"]`:

    `best`: of every session of the runs of the chosen configuration (final runs, variants of an ablation) and of the
    best trials (`sweeps.model.session_models`); `all`: of every session; `last`: of the newest; `none`. An audit is
    a trial's own state, so none of its are kept.
    """
    folder = Path(job["states"])
    _keep_state(folder / CHECKPOINTS, job.get("checkpoints", "all"), job["kind"], trainer, record.session)
    # A run that begins anew asks nothing of what an earlier try has left.
    before = read_records(folder)[: record.session - 1] if record.session > 1 else []
    records = [*before, record]
    lines = [entry.to_json() for entry in records]
    header = {"format": "run-sessions", "version": VERSION}
    _write_text(folder / RECORDS, "".join(f"{json.dumps(line)}\n" for line in (header, *lines)))
    _write_text(folder / "run.log", run_log(job["title"], records))
    if record.session == record.sessions:
        _finish(folder, job, trainer, records)


def read_records(folder: Path) -> list[SessionRecord]:
    """Return the session records of a run so far; none where it has not begun.

    Raises:
        UserError: they are damaged, or of a newer version (`NewerFormatError`).
    """
    file = folder / RECORDS
    if not file.is_file():
        return []
    try:
        header, *lines = (json.loads(line) for line in file.read_text("utf-8").splitlines())
        newer = header["version"] > VERSION
        records = [] if newer else [SessionRecord.from_json(line) for line in lines]
    except (ValueError, LookupError, TypeError):
        raise UserError(f"{file} is damaged: the run has to begin anew, which writes it again") from None
    if newer:
        from safe.states.checkpoint import NewerFormatError

        raise NewerFormatError(
            f"{file} has version {header['version']}; this installation reads up to {VERSION}: upgrade it"
        )
    return records


def run_log(title: str, records: Sequence[SessionRecord]) -> str:
    """Return the run as text: a line an epoch, a few lines a session."""
    lines = [title]
    for record in records:
        lines.append(f"session {record.session} of {record.sessions}")
        lines += [f"  epoch {step}: {_pairs(terms)}" for step, terms in record.losses]
        sections: dict[str, dict[str, float]] = {}
        for name, value in record.metrics.items():
            section, _, metric = name.rpartition("/")
            sections.setdefault(section, {})[metric] = value
        lines += [f"  {section}: {_pairs(metrics)}" for section, metrics in sections.items()]
    return "\n".join(lines) + "\n"


def _keep_state(folder: Path, policy: Policy, kind: Kind, trainer: SafeTrainer, session: int) -> None:
    from safe.states.inference import drop_sessions_before, save_session

    if policy == "none" or kind == Kind.AUDIT or (policy == "best" and kind not in OF_THE_BEST):
        return
    save_session(trainer.inference_state(), folder)
    if policy == "last":
        drop_sessions_before(session, folder)


def _finish(folder: Path, job: Mapping[str, Any], trainer: SafeTrainer, records: Sequence[SessionRecord]) -> None:
    """Write what a run gets after its last session."""
    from sweeps.worker.plots import accuracy_heat_map, session_curves

    config, rows, sessions = dict(job["config"]), [list(record.row) for record in records], _metrics(records)
    if job["predictions"]:
        place, chosen = _chosen(job, records)
        config |= job["predictions"][place]
        rows = [list(record.grid[place]) for record in records]
        sessions = [{**own, **aggregated} for own, aggregated in zip(sessions, chosen, strict=True)]
    _write_text(folder / "config.yaml", yaml_text(config))
    title = f"{job['title']} · {records[-1].split}"
    groups = [f"session {number}" for number in range(1, len(rows) + 1)]
    matrix = [[after, *row, *[""] * (len(rows) - len(row))] for after, row in zip(groups, rows, strict=True)]
    _write_table(folder / MATRIX, ["after", *groups], matrix)
    names = list(dict.fromkeys(name for metrics in sessions for name in metrics))
    by_session = ([number, *(m.get(name, "") for name in names)] for number, m in enumerate(sessions, start=1))
    _write_csv(folder / "tables" / "sessions.csv", ["session", *names], by_session)
    if job["kind"] in PICTURED:
        accuracy_heat_map(rows, title, folder / "plots" / "accuracy_matrix.png")
        session_curves(sessions, title, folder / "plots" / "curves.png")
    if job["kind"] in IN_FULL:
        _finish_in_full(folder, title, trainer, records)


def _finish_in_full(folder: Path, title: str, trainer: SafeTrainer, records: Sequence[SessionRecord]) -> None:
    from sweeps.worker.confused import confused_pairs
    from sweeps.worker.plots import confusion_heat_map, image_rows
    from sweeps.worker.predictions import confusion, predicted_images
    from tracking.environment import environment_tags

    logits = trainer.session_logits
    assert logits is not None, "a session is over"
    state, stream = trainer.inference_state(), trainer.stream
    classes, judged = state["classes"], stream.sessions[: len(logits.counts)]
    header, lines = predicted_images(logits, trainer.config, classes, [session.evaluation for session in judged])
    _write_csv(folder / "tables" / "predictions.csv", header, lines)
    counts = confusion(logits, trainer.config, len(classes))
    named = ([name, *row] for name, row in zip(classes, counts, strict=True))
    _write_csv(folder / "tables" / "confusion.csv", ["true class", *classes], named)
    boundaries = [session.seen for session in judged]
    confusion_heat_map(counts, classes, boundaries, title, folder / "plots" / "confusion.png")
    pairs, images = confused_pairs(logits, trainer.config, classes, judged)
    _write_csv(folder / TABLE, HEADER, table_of(pairs))
    if pairs:
        image_rows(images, [(pair.true, pair.predicted) for pair in pairs], folder / PICTURE)
    if confused := records[-1].confusion:
        groups = [f"session {number}" for number in range(1, len(confused) + 1)]
        cells = [[group, *row] for group, row in zip(groups, confused, strict=True)]
        _write_table(folder / SESSION_CONFUSION, ["images of", *groups], cells)
    runtime = trainer.config.runtime
    about = {**environment_tags(), "device": str(trainer.device), "precision": trainer.precision}
    about |= {"threads": str(runtime.threads), "deterministic": str(runtime.deterministic).lower()}
    _write_text(folder / "environment.json", json.dumps(about, indent=2) + "\n")


def _chosen(job: Mapping[str, Any], records: Sequence[SessionRecord]) -> tuple[int, tuple[dict[str, float], ...]]:
    """Return the position of a trial's settings of prediction, as the sweep will choose them, and its metrics there."""
    from sweeps.ledger.job_log import JobLog
    from sweeps.results.selection import score_trial

    log = JobLog(job["id"], job["kind"], job["title"], dict(job["config"]), job["predictions"])
    log.sessions = list(records)
    best = score_trial(log, job.get("objective", "average_accuracy"), records[-1].split)
    return job["predictions"].index(best.prediction), best.sessions


def _metrics(records: Sequence[SessionRecord]) -> list[dict[str, float]]:
    """Return the metrics of every session, those of the evaluation without split."""
    return [
        {name.removeprefix(with_split(record.split, "")): value for name, value in record.metrics.items()}
        for record in records
    ]


def _pairs(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.5g}" for name, value in values.items())


def _write_csv(file: Path, header: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # Names of files and classes need not be text: what is none is escaped.
    with naming(file), file.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)


def _write_table(file: Path, header: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    """Write a table of numbers as JSON, and as CSV beside it."""
    _write_csv(file.with_suffix(".csv"), header, lines)
    _write_text(file, json.dumps({"columns": list(header), "data": [list(line) for line in lines]}) + "\n")


def _write_text(file: Path, text: str) -> None:
    with whole(file, alone=True) as draft:
        draft.write_text(text, "utf-8")
