"""Running an ablation and showing it: the variants of a catalogue over the same seeds and class orders, in pairs."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from safe.config import load_config, parse_overrides, validate
from safe.data.loading import class_count
from safe.errors import UserError, choices
from safe.evaluation.metrics import MAIN
from safe.io.sources import import_own
from safe.io.tables import Column as Shown
from safe.io.tables import Table
from safe.types import with_split
from sweeps.engine.display import Detail
from sweeps.engine.helpers import Helpers
from sweeps.engine.study import carry_out
from sweeps.engine.work import Study
from sweeps.ledger.folders import Folders
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import Job, Kind
from sweeps.ledger.ledger import Ledger, SweepLog
from sweeps.report.terminal import print_mlflow, spread
from sweeps.results.components import component_words, components
from sweeps.results.statistics import paired_difference, summarise
from sweeps.spec.configs import absolute, final_config
from sweeps.spec.names import checked_name, default_name
from sweeps.spec.options import DEFAULT_HOLDOUT_SHARE, checked, placed
from sweeps.spec.specs import SPLITS, AblationSpec
from sweeps.spec.titles import status_word
from sweeps.studies.catalogues import ABLATION, ALL_CLASSES, ORDERS, VARIANTS, Catalogue, logged
from sweeps.studies.memory import check_room
from tracking.recorder import Recorder, Status

CATALOGUES: dict[str, Catalogue] = {"ablation": ABLATION, "variants": VARIANTS, "orders": ORDERS}


def build_ablation(
    *,
    dataset: str,
    catalogue: Literal["ablation", "variants"] = "ablation",
    name: str | None = None,
    variants: Sequence[str] = (),
    overrides: Sequence[str] = (),
    gpus_per_trial: str | None = None,
    imports: Sequence[str] = (),
    **asked: Any,
) -> AblationSpec:
    """Return the specification of an ablation; its name is `<data set>-<catalogue>`, its variants all, unless given.

    Args:
        asked: other fields of `AblationSpec` by name; None, and what is not asked for, is the default.

    Raises:
        UserError: a name, number, variant or setting is not valid.
    """
    import_own(imports)
    known = CATALOGUES[catalogue].variants
    asked = checked(asked, AblationSpec)
    for variant in variants:
        if variant not in known:
            raise UserError(choices(variant, known, "variant"))
    given = parse_overrides(overrides)
    if "data.evaluate_on" in given:
        images = "test images" if SPLITS[catalogue] == "test" else "holdout"
        raise UserError(f"an ablation decides itself what judges it (the {images}); data.evaluate_on cannot be set")
    config = load_config(dataset, overrides=given)
    settled = {
        "name": checked_name(name or default_name(config.dataset, catalogue)),
        "dataset": config.dataset,
        "catalogue": catalogue,
        "variants": [variant for variant in known if variant in variants or not variants],
        "base": config.flat(),
        "imports": list(imports),
    }
    return AblationSpec(**asked | settled | placed(config, gpus_per_trial, asked.get("concurrency")))


def run_ablation(
    spec: AblationSpec, results: Path, helpers: Helpers | None = None, *, detail: Detail = "usual"
) -> SweepLog:
    """Run what is missing of an ablation and return its log; see `sweeps.studies.sweep.run_sweep`."""
    # Refuses now what would only come out later.
    check_room(spec, [validate(variant_config(spec, variant, spec.seeds - 1)) for variant in spec.variants])
    return carry_out(spec, results, _run_variants, helpers, summarise=_summarise, detail=detail)


def variant_config(spec: AblationSpec, variant: str, repeat: int) -> dict[str, Any]:
    """Return the flat configuration of one run of a variant; `repeat` counts from 0 and shifts seed and class order."""
    catalogue = CATALOGUES[spec.catalogue]
    chosen = catalogue.variants[variant]
    settings = {**chosen.settings, **{name: factor * spec.base[name] for name, factor in chosen.factors.items()}}
    if settings.get("data.init_classes") == ALL_CLASSES:
        classes = class_count(spec.dataset, spec.base["data.root"])
        settings |= {"data.init_classes": classes, "data.sessions": None, "data.scenario": "class"}
    base = {**spec.base, **settings, "runtime.threads": spec.threads}
    config = final_config(base, repeat)
    config |= {name: base[name] for name in chosen.fixed}
    if spec.split == "val":
        share = spec.base["data.holdout_share"] or DEFAULT_HOLDOUT_SHARE
        config = validate({**config, "data.evaluate_on": "holdout", "data.holdout_share": share}).flat()
    return absolute(config)


def table(log: SweepLog) -> list[dict[str, Any]]:
    """Return the rows: `variant`, `group`, `row`, `seeds`, `repeats`, and mean, std and values of each metric.

    The differences of the catalogue's columns are paired by seed, over the seeds that both rows have.
    Forgetting and the average over sessions mean nothing for a joint variant, which has one session: they are absent.
    """
    catalogue, rows = _catalogue(log), []
    for name in _variants(log):
        variant, jobs = catalogue.variants[name], _finished(log, name)
        for row in variant.rows:
            summary = summarise([row.source(job) for job in jobs])
            metrics = {m: summary[m] for m in MAIN if m in summary and (m == "accuracy" or not variant.joint)}
            repeats = [job.repeat for job in jobs]
            rows.append(
                {
                    "variant": name,
                    "group": variant.group,
                    "row": row.title,
                    "seeds": len(jobs),
                    "repeats": repeats,
                    **metrics,
                }
            )
    _compare(rows, catalogue)
    return rows


def headline(log: SweepLog) -> dict[str, float]:
    """Return the means of the row that the others are compared with, as metrics of the parent run; none without it."""
    row = next((row for row in table(log) if row["row"] == _catalogue(log).reference), {})
    return {with_split(_spec(log).split, name): row[name]["mean"] for name in MAIN if name in row}


def _compare(rows: list[dict[str, Any]], catalogue: Catalogue) -> None:
    reference = next((row for row in rows if row["row"] == catalogue.reference), None)
    for row in rows:
        for column in catalogue.columns:
            if not column.difference or reference is None or row is reference:
                continue
            ours, theirs = (_by_repeat(side, column.metric) for side in (reference, row))
            shared = [repeat for repeat in ours if repeat in theirs]
            if len(shared) > 1:
                sides = [[values[repeat] for repeat in shared] for values in (ours, theirs)]
                row[column.key] = paired_difference(*(sides if column.difference > 0 else reversed(sides)))


def _by_repeat(row: Mapping[str, Any], metric: str) -> dict[int, float]:
    return dict(zip(row["repeats"], row[metric]["values"], strict=True)) if metric in row else {}


def ablation_summary(log: SweepLog) -> dict[str, Any]:
    """Return the ablation as one object for programs; fractions in [0, 1]."""
    outcome = {"name": log.spec.name, "dataset": log.spec.dataset, "rows": table(log), "mlflow": log.tracking}
    return outcome | ({"components": _components(log)} if _spec(log).catalogue == "orders" else {})


def _components(log: SweepLog) -> dict[str, Any]:
    """Return by metric how much of the spread is the order of the classes."""
    orders, seeds = ([logged(job) for job in _finished(log, name)] for name in ORDERS.variants)
    return components(orders, seeds, MAIN)


def _component_lines(log: SweepLog) -> list[str]:
    return component_words(_components(log)) if _spec(log).catalogue == "orders" else []


def show_ablation(log: SweepLog, folder: Path, console: Console) -> None:
    """Print the table for people."""
    spec = log.spec
    images = "test" if _spec(log).split == "test" else "holdout"
    seeds, fewer = _seeds(log)
    title = f"{spec.dataset}: {images} accuracy in %, mean ± std over {seeds}; differences paired, 95 %"
    console.print(f"\n{title}", highlight=False)
    console.print(_shown(log).on_terminal(console.width))
    for line in filter(None, [fewer, *_component_lines(log)]):
        console.print(line, highlight=False, soft_wrap=True)
    for job in log.jobs.values():
        if job.reason and job.status != Status.FINISHED:
            console.print(f"{job.id} {status_word(job.status)}: {job.reason}", markup=False, soft_wrap=True)
    console.print(f"results: {folder}", soft_wrap=True, highlight=False)
    if log.tracking is not None:
        print_mlflow(log.tracking, folder, console)


def markdown(log: SweepLog) -> str:
    """Return the table in markdown."""
    fewer = _seeds(log)[1]
    return "\n\n".join(filter(None, [_shown(log).markdown(), fewer, *_component_lines(log)]))


def _shown(log: SweepLog) -> Table:
    """Return the table as people read it, the rows of a group under its heading."""
    rows: list[list[str]] = []
    for group, members in itertools.groupby(table(log), key=lambda row: row["group"]):
        rows += [[group]] if group else []
        rows += [[f"  {row['row']}" if group else row["row"], *_cells(log, row)] for row in members]
    return Table(["", *(Shown(column.heading, right=True) for column in _catalogue(log).columns)], rows)


def _seeds(log: SweepLog) -> tuple[str, str]:
    """Return in words over how many seeds the table is, and which variants have fewer, if any."""
    spec, done = _spec(log), {variant: len(_finished(log, variant)) for variant in _variants(log)}
    most = max(done.values())
    words = f"{most}{f' of {spec.seeds}' if most < spec.seeds else ''} seed{'s' if spec.seeds > 1 else ''}"
    if min(done.values()) == most:
        return words, ""
    fewer = ", ".join(f"{variant} {number}" for variant, number in done.items() if number < most)
    return f"at most {words}", f"seeds of the variants that have fewer so far: {fewer}"


def _cells(log: SweepLog, row: Mapping[str, Any]) -> list[str]:
    return [
        _difference(row.get(column.key)) if column.difference else spread(row.get(column.key))
        for column in _catalogue(log).columns
    ]


def _difference(gap: Mapping[str, float] | None) -> str:
    if gap is None:
        return "-"
    return f"{100 * gap['mean']:+.1f} ± {100 * gap['half_width']:.1f}"


def csv_text(log: SweepLog) -> str:
    """Return the table as CSV, one line per row and seed, fractions in [0, 1]."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["variant", "group", "row", "repeat", *MAIN])
    for row in table(log):
        for position, repeat in enumerate(row["repeats"]):
            values = [row[m]["values"][position] if m in row else "" for m in MAIN]
            writer.writerow([row["variant"], row["group"], row["row"], repeat, *values])
    return text.getvalue()


def _run_variants(study: Study) -> Iterator[list[Job]]:
    spec = _spec(study.log)
    jobs = []
    for variant in _variants(study.log):
        for repeat in range(spec.seeds):
            config = variant_config(spec, variant, repeat)
            jobs.append(study.job(Kind.VARIANT, f"{variant} {repeat}", config, repeat=repeat, variant=variant))
    yield leaders_first(jobs)


def leaders_first(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs with those in front that train a slow learner no earlier job trains.

    Variants that share it then find it finished, instead of waiting for the run beside them.
    """
    from safe.sharing.stages import sharing_key  # brings torch

    keys = [sharing_key(validate(job.config), 1) for job in jobs]
    leading = [key not in keys[:position] for position, key in enumerate(keys)]
    return [job for wanted in (True, False) for job, leads in zip(jobs, leading, strict=True) if leads == wanted]


def _summarise(recorder: Recorder, ledger: Ledger, folders: Folders) -> None:
    log = ledger.log
    spec = _spec(log)
    tables = folders.sweep / "tables"
    tables.mkdir(exist_ok=True)
    (tables / f"{spec.catalogue}.md").write_text(markdown(log) + "\n", "utf-8")
    (tables / f"{spec.catalogue}.csv").write_text(csv_text(log), "utf-8")
    images = "test" if _spec(log).split == "test" else "holdout"
    title = f"{spec.catalogue.capitalize()} on {spec.dataset}, {images} accuracy in percent."
    recorder.log_metrics(spec.name, headline(log), step=sum(len(job.sessions) for job in log.jobs.values()))
    recorder.set_description(spec.name, f"{title}\n\n{markdown(log)}")
    recorder.log_directory(spec.name, tables, "tables")


def _finished(log: SweepLog, variant: str) -> list[JobLog]:
    return [job for job in log.of_kind(Kind.VARIANT) if job.variant == variant and job.status == Status.FINISHED]


def _variants(log: SweepLog) -> list[str]:
    """The variants of an ablation in the order of its catalogue, in which they may have been added in any."""
    return [variant for variant in _catalogue(log).variants if variant in _spec(log).variants]


def _catalogue(log: SweepLog) -> Catalogue:
    return CATALOGUES[_spec(log).catalogue]


def _spec(log: SweepLog) -> AblationSpec:
    assert isinstance(log.spec, AblationSpec)
    return log.spec
