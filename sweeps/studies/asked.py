"""Sweeps from Python: run one, or load one, and have what it gave. The command line calls the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from safe.config.loading import ORDER, with_kept_order
from safe.errors import UserError, choices
from sweeps.engine.display import Detail
from sweeps.engine.helpers import Helpers
from sweeps.ledger.folders import FILE_NAME, FOLDER, Folders
from sweeps.ledger.known import known_sweep
from sweeps.ledger.ledger import SweepLog, has_ledger, read_ledger
from sweeps.report.learned import learned_lines
from sweeps.report.terminal import on_test
from sweeps.results.summary import control_summary, final_summary, status_of, sweep_summary
from sweeps.spec.marks import options as options_of
from sweeps.spec.names import checked_name
from sweeps.spec.options import build_spec
from sweeps.spec.space import Space
from sweeps.spec.specs import DEFAULT_DATASET, SweepSpec
from sweeps.spec.titles import short_value
from sweeps.spec.typed import from_here

if TYPE_CHECKING:
    import pandas as pd

    from tracking import SweepTables

OPTIONS = {"imports", "overrides", *options_of(SweepSpec)}


@dataclass(frozen=True)
class Best:
    """The chosen trial.

    Attributes:
        settings: what the search chose: each setting of the space, by dotted name.
        config: the whole flat configuration, as `load_config(dataset, overrides=config)` takes it.
        metric, score: the objective, as it was measured when the trial was chosen.
    """

    trial: str
    settings: dict[str, Any]
    config: dict[str, Any]
    metric: str
    score: float

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={short_value(value)}" for name, value in self.settings.items())
        return f"{self.trial}, {self.metric} {self.score:.4f}: {settings}"


@dataclass(frozen=True)
class Sweep:
    """What a sweep gave so far.

    Attributes:
        log: everything that its ledger holds.
        folder: of its files.
    """

    log: SweepLog
    folder: Path

    @property
    def name(self) -> str:
        """Return the name, under which `run_sweep` continues it."""
        return self.log.spec.name

    @property
    def best(self) -> Best | None:
        """Return the chosen trial, None before the choice."""
        summary = sweep_summary(self.log)
        if (chosen := summary["selected"]) is None:
            return None
        config, metric = chosen["config"], summary["objective"]
        settings = {name: config[name] for name in self.log.sweep_spec.space}
        return Best(chosen["trial"], settings, config, metric, chosen[metric])

    @property
    def trials(self) -> pd.DataFrame:
        """Return a row per trial: trial, status, reason, the settings of the space, and its last session's metrics.

        What a trial does not have, such as metrics before its first session, is NaN.
        """
        import pandas as pd

        space = list(self.log.sweep_spec.space)
        rows = [
            {"trial": trial["id"], "status": trial["status"], "reason": trial["reason"]}
            | {name: trial["config"][name] for name in space}
            | (trial["sessions"][-1] if trial["sessions"] else {})
            for trial in sweep_summary(self.log)["trials"]
        ]
        return pd.DataFrame(rows, columns=None if rows else ["trial", "status", "reason", *space])

    @property
    def final(self) -> dict[str, Any] | None:
        """Return `seeds` and, by metric, `mean`, `std` and `values` of the final runs; None before the first one."""
        return final_summary(self.log)

    @property
    def control(self) -> dict[str, Any] | None:
        """Return the same of the preset over the same seeds; None without such runs."""
        return control_summary(self.log)

    @property
    def report(self) -> Path:
        """Return the file of the HTML report, which is written where it is not there yet."""
        from sweeps.report import write_report

        file = self.folder / FOLDER / FILE_NAME
        return file if file.exists() else write_report(self.log, self.folder)

    @property
    def tables(self) -> SweepTables:
        """Return every point of every run as pandas frames; see `tracking.load_sweep`."""
        from tracking import load_sweep as load_tables

        return load_tables(self.name, self.folder.parents[1])

    def __repr__(self) -> str:
        return "\n  ".join([f"Sweep {self.name!r}", *self._lines()])

    def _repr_html_(self) -> str:
        lines = "<br>".join(map(escape, self._lines()))
        table = self.trials.to_html(index=False, float_format=lambda value: f"{value:.4g}", na_rep="")
        return f"<b>Sweep {escape(self.name)}</b><br>{lines}{table}"

    def _lines(self) -> list[str]:
        spec, best, final = self.log.sweep_spec, self.best, self.final
        lines = [f"{spec.dataset}, {spec.search} search by {spec.selection}, {status_of(self.log)}"]
        if best is not None:
            lines.append(f"best: {best!r}")
        if final is not None:
            lines.append(f"final: test accuracy {on_test(final, 'accuracy')} % over {final['seeds']} seeds")
        return [*lines, *learned_lines(self.log), f"files: {from_here(self.folder)}"]


def run_sweep(
    dataset: str = DEFAULT_DATASET,
    *,
    space: Mapping[str, Any] | Space | Path | str | None = None,
    trials: int | None = None,
    seeds: int | None = None,
    name: str | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    results: Path | str = "results",
    imports: Sequence[str] = (),
    retry_failed: bool = False,
    detail: Detail = "usual",
    **options: Any,
) -> Sweep:
    """Run a sweep, continue the one that has the name, or extend it; return what it gave.

    Progress goes to standard output. Ctrl-C pauses what runs and raises `KeyboardInterrupt`; the same call goes on.

    Args:
        dataset: name, alias or folder.
        space: what trials vary: entries as in a YAML file, a `Space`, or the file; None is the preset's.
        trials: trained configurations; None for those of the sweep so far, else 8 (of a grid all).
        seeds: final runs of the chosen configuration; None for those of the sweep so far, else 3.
        name: of the sweep; None for data set and time.
        overrides: settings of every trial: `{"fast.epochs": 3}` or `["fast.epochs=3"]`.
        results: results folder.
        imports: modules that bring a data set, PET, head or backbone of one's own, for this process and every worker.
        retry_failed: go on with a finished sweep too when some of its runs failed.
        detail: what is shown while it runs: `quiet`, `usual` or `verbose`.
        options: the other options of `python -m sweeps run`, with `_` for `-`: `search="tpe"`, `max_hours=2`,
            `concurrency=1`, `selection="first-k"`, `first_k=2`, `control=False`.

    Raises:
        UserError: something asked for is not valid, the name belongs to other settings or is in use, or the data or
            the results folder is not usable.
        TrackingError: the tracking store cannot be used.
        AllFailedError: no run came to its end.
    """
    asked: dict[str, Any] = {"name": name, "space": space, "trials": trials, "seeds": seeds, "overrides": overrides}
    asked["imports"] = imports
    with Helpers() as helpers:
        spec = sweep_spec(dataset, results=results, **asked, **options)
        if not has_ledger(Folders(Path(results), spec.name).sweep):
            helpers.begin(spec, Path(results))
        from sweeps.studies import sweep  # which takes seconds

        log = sweep.run_sweep(spec, Path(results), helpers, retry_failed=retry_failed, detail=detail)
    return Sweep(log, log.folder)


def load_sweep(name: str, results: Path | str = "results") -> Sweep:
    """Return what the sweep called `name` gave so far, finished or not, running or not.

    Raises:
        UserError: there is none, with the nearest name; it is an ablation; or its ledger cannot be read.
    """
    log, folder = known_sweep(Path(results), name)
    if not isinstance(log.spec, SweepSpec):
        raise UserError(f"{name!r} is an ablation, not a sweep; see python -m sweeps show {name}")
    return Sweep(log, folder)


def sweep_spec(
    dataset: str,
    *,
    results: Path | str,
    name: str | None = None,
    space: Mapping[str, Any] | Space | Path | str | None = None,
    trials: int | None = None,
    seeds: int | None = None,
    search: str | None = None,
    **options: Any,
) -> SweepSpec:
    """Return the specification of a sweep that is asked for; see `run_sweep` for the arguments and what is raised."""
    if unknown := sorted(options.keys() - OPTIONS):
        raise UserError(choices(unknown[0], sorted(OPTIONS), "option of a sweep"))
    so_far = _so_far(name, Path(results))
    if so_far is not None:
        options["overrides"] = with_kept_order(options.get("overrides", ()), lambda: so_far.base[ORDER])
        seeds = so_far.seeds if seeds is None else seeds
        # A grid without trials is all of it, also when its space has grown.
        trials = so_far.trials if trials is None and search != "grid" else trials
    for what, number in {"trials": trials, "seeds": seeds, "concurrency": options.get("concurrency")}.items():
        if number is not None and type(number) is not int:
            raise UserError(f"{what} must be a whole number, got {number!r}")
    try:
        return build_spec(
            name=name,
            dataset=dataset,
            space=space.raw if isinstance(space, Space) else Path(space) if isinstance(space, str) else space,
            trials=trials,
            seeds=seeds,
            search=search,
            **options,
        )
    except ValidationError as error:
        told = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in error.errors()]
        raise UserError("; ".join(told)) from None


def _so_far(name: str | None, results: Path) -> SweepSpec | None:
    """Return the specification of the sweep that has the name already, so that its numbers need not be repeated."""
    if name is None:
        return None
    folder = results.absolute() / "sweeps" / checked_name(name)
    spec = read_ledger(folder).spec if has_ledger(folder) else None
    return spec if isinstance(spec, SweepSpec) else None
