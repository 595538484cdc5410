"""`python -m sweeps add`, `drop` and `stop`: what is asked of a sweep that runs or rests, from another terminal."""

from __future__ import annotations

import argparse
from pathlib import Path

from safe.config import parse_overrides
from safe.errors import UserError
from sweeps.cli.common import add_name, add_results, command, named_sweep
from sweeps.engine.budget import Budget
from sweeps.ledger.known import known_log
from sweeps.ledger.ledger import SweepLog
from sweeps.ledger.lock import is_held, stop_holder
from sweeps.ledger.requests import Requests
from sweeps.spec.space import with_orders
from sweeps.spec.specs import SweepSpec
from sweeps.spec.typed import typed


def _settings(parser: argparse.ArgumentParser) -> None:
    words = "name of the sweep (default: the newest), then settings of the trial; others stay as in the preset"
    parser.add_argument("words", nargs="+", metavar="[NAME] key=value", help=words)


def _trial(parser: argparse.ArgumentParser) -> None:
    words = "name of the sweep (default: the newest), then the trial"
    parser.add_argument("words", nargs="+", metavar="[NAME] TRIAL", help=words)


@command("add", "put a trial of your own into a sweep, running or not", _settings, add_results)
def _add(arguments: argparse.Namespace) -> int:
    from sweeps.studies.live import added_config, outside, repeated

    words = arguments.words
    log, folder = _sweep(arguments, None if "=" in words[0] else words.pop(0))
    if not words:
        raise UserError("say what the trial sets, as key=value, for example: slow.diag_weight=0.1")
    settings = with_orders(parse_overrides(words))
    added_config(log, settings)
    requests = Requests(folder)
    if repeated(log, settings, requests.waiting()):
        raise UserError("this very trial was asked for already and is about to be taken up")
    requests.ask(add=settings)
    for line in outside(log.sweep_spec, log.sweep_spec.parsed_space(), settings):
        print(f"{line}; it can be chosen, and the search is not told of it")
    print(f"added to {log.spec.name}: {' '.join(words)}; {_when(log, folder, arguments, 'trains it')}")
    spec = log.sweep_spec
    if Budget(log, spec.max_sessions, spec.max_hours).spent():
        print("the budget of the search is spent, so it waits for a larger one (--max-sessions, --max-hours)")
    return 0


@command("drop", "end a trial in order; its finished sessions stay, it is not chosen", _trial, add_results)
def _drop(arguments: argparse.Namespace) -> int:
    from sweeps.studies.live import droppable

    *name, trial = arguments.words
    if len(name) > 1:
        raise UserError(f"drop takes a sweep and one trial, got {' '.join(arguments.words)}")
    log, folder = _sweep(arguments, name[0] if name else None)
    requests = Requests(folder)
    id = droppable(log, trial).id
    if any(request.drop == id for request in requests.waiting()):
        raise UserError(f"{id} is about to be dropped already")
    requests.ask(drop=id)
    print(f"{id} of {log.spec.name} ends after its present session; {_when(log, folder, arguments, 'leaves it out')}")
    return 0


def _sweep(arguments: argparse.Namespace, name: str | None) -> tuple[SweepLog, Path]:
    arguments.name = name
    log, folder = named_sweep(arguments)
    if not isinstance(log.spec, SweepSpec):
        raise UserError(f"{log.spec.name!r} is an ablation, which has no trials of a search")
    return log, folder


def _when(log: SweepLog, folder: Path, arguments: argparse.Namespace, does: str) -> str:
    """Return in words when a request is taken up."""
    if not is_held(folder):
        return f"it does not run here: {typed('resume', log.spec.name, results=arguments.results)} {does}"
    if log.race is not None or log.selected is not None:
        return "its search is over, so it takes that up at its end and chooses anew"
    return "it runs and takes that up within seconds"


@command("stop", "stop a running sweep so that it can be continued; twice: at once", add_name)
def _stop(arguments: argparse.Namespace) -> int:
    _, folder = named_sweep(arguments, known_log)
    pid = stop_holder(folder, arguments.name)
    print(f"process {pid} stops {arguments.name} after the epochs that are running; the same again stops it at once")
    print(f"continue with: {typed('resume', arguments.name, results=arguments.results)}")
    return 0
