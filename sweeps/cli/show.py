"""`python -m sweeps show`: print what a sweep gave; `list`: the sweeps of a results folder."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from typing import Any

from rich.console import Console

from safe.errors import UserError
from safe.io.tables import Column, Table
from sweeps.cli.common import add_name, add_results, command, named_sweep, print_log
from sweeps.ledger.known import sweep_names
from sweeps.ledger.ledger import FILE_NAME, SweepLog, read_ledger
from sweeps.ledger.lines import OtherFormatError
from sweeps.ledger.lock import is_held
from sweeps.report.terminal import on_test
from sweeps.results.summary import final_summary, status_of, sweep_summary
from sweeps.spec.specs import SweepSpec

COLUMNS = (
    Column("name"),
    Column("data set", rank=2),
    Column("selection", rank=4),
    Column("state", rank=1),
    Column("trials", rank=3),
    Column("test accuracy"),
    Column("when", rank=1),
)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one object for programs, fractions in [0, 1]")


@command("show", "print what a sweep gave", _options, add_name)
def _show(arguments: argparse.Namespace) -> int:
    log, folder = named_sweep(arguments)
    if arguments.json:
        print(json.dumps(_summary(log), indent=2, allow_nan=False))
    else:
        print_log(log, folder)
    return 0


def _summary(log: SweepLog) -> dict[str, Any]:
    if isinstance(log.spec, SweepSpec):
        return sweep_summary(log)
    from sweeps.studies.ablation import ablation_summary

    return ablation_summary(log)


@command("list", "list the sweeps of the results folder", add_results)
def _list(arguments: argparse.Namespace) -> int:
    rows, unread = [], []
    for name in sweep_names(arguments.results):
        folder = arguments.results / "sweeps" / name
        when = f"{datetime.fromtimestamp((folder / FILE_NAME).stat().st_mtime):%Y-%m-%d %H:%M}"
        try:
            log = read_ledger(folder)
        except UserError as error:
            state = f"{error.age} format" if isinstance(error, OtherFormatError) else "damaged"
            rows.append([name, "-", "-", state, "-", "-", when])
            unread.append(str(error))
            continue
        state = "running" if is_held(folder) else status_of(log)
        rows.append([name, log.spec.dataset, log.spec.selection, state, _trials(log), _accuracy(log), when])
    console = Console(markup=False, emoji=False)
    console.print(Table(COLUMNS, rows).on_terminal(console.width) if rows else f"no sweep in {arguments.results}")
    for words in unread:
        console.print(words, soft_wrap=True, highlight=False)
    return 0


def _trials(log: SweepLog) -> str:
    if not isinstance(log.spec, SweepSpec):
        return "-"
    return f"{sum(job.over for job in log.trials().values())} of {log.spec.trials}"


def _accuracy(log: SweepLog) -> str:
    summary = final_summary(log) if isinstance(log.spec, SweepSpec) else None
    return f"{on_test(summary, 'accuracy')} %" if summary else "-"
