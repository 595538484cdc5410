"""`python -m tracking deliver|reconcile|replay`: upkeep of what sweeps recorded, from their journals alone."""

from __future__ import annotations

import argparse
import difflib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tracking.delivery import deliver, waiting
from tracking.errors import InUseError, TrackingError, UnreachableError
from tracking.journal_file import read_records
from tracking.layout import default_uri, journals
from tracking.mlflow_errors import shown
from tracking.reconcile import reconcile_store

EXIT_UNREACHABLE = 1
EXIT_USER_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0, 1 when the store does not answer, 2 for bad input."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], None] = arguments.command
    try:
        command(arguments)
    except TrackingError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_UNREACHABLE if isinstance(error, UnreachableError) else EXIT_USER_ERROR
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        print(f"error: {error.strerror}: {str(error.filename)[:190]}...; give another path", file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m tracking", description="Upkeep of what sweeps recorded in MLflow.")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    command = commands.add_parser("deliver", help="bring what MLflow does not have yet to it")
    command.add_argument("name", nargs="?", metavar="NAME", help="name of the sweep (default: all)")
    command.set_defaults(command=_deliver)
    command = commands.add_parser("reconcile", help="close runs that a dead process left RUNNING")
    command.add_argument("name", nargs="?", metavar="NAME", help="name of the sweep (default: all)")
    command.set_defaults(command=_reconcile)
    command = commands.add_parser("replay", help="write the whole history of a sweep to another MLflow store")
    command.add_argument("name", metavar="NAME", help="name of the sweep")
    command.add_argument("--to", required=True, metavar="URI", help="sqlite:////folder/mlflow.db or http://host:port")
    command.set_defaults(command=_replay)
    default = Path(os.environ.get("RESULTS") or "results")
    for command in commands.choices.values():
        command.add_argument("--results", type=Path, default=default, help="results folder (default: %(default)s)")
    return top


def _deliver(arguments: argparse.Namespace) -> None:
    uri = default_uri(arguments.results)
    for name, path in _asked(arguments).items():
        left = waiting(path, uri)
        if left:
            try:
                _with_progress(name, path, uri, again=False)
            except InUseError:
                print(f"{name}: is being run, and delivers its {left} records by itself")
                continue
        print(f"{name}: {left or 'no'} records delivered to MLflow at {shown(uri)}")


def _reconcile(arguments: argparse.Namespace) -> None:
    uri = default_uri(arguments.results)
    for name, path in _asked(arguments).items():
        try:
            closed = reconcile_store(path, uri)
        except InUseError:
            print(f"{name}: is being run")
            continue
        print(f"{name}: " + (f"closed {', '.join(closed)}" if closed else "no run was left open"))


def _replay(arguments: argparse.Namespace) -> None:
    (path,) = _asked(arguments).values()
    records = sum(1 for _ in read_records(path))
    _with_progress(arguments.name, path, arguments.to, again=True)
    print(f"{arguments.name}: {records} records replayed to MLflow at {shown(arguments.to)}")


def _with_progress(name: str, path: Path, uri: str, *, again: bool) -> None:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=path.stat().st_size)
        deliver(path, uri, again=again, delivered=lambda offset: progress.update(task, completed=offset))


def _asked(arguments: argparse.Namespace) -> dict[str, Path]:
    """Return the journals asked for, by name."""
    paths = journals(arguments.results)
    if arguments.name is None:
        return paths
    if arguments.name not in paths:
        near = difflib.get_close_matches(arguments.name, paths, n=1)
        known = f"known: {', '.join(paths)}." + (f" Did you mean {near[0]!r}?" if near else "") if paths else "none yet"
        raise TrackingError(f"no sweep called {arguments.name!r} has a journal in {arguments.results}; {known}")
    return {arguments.name: paths[arguments.name]}


if __name__ == "__main__":
    sys.exit(main())
