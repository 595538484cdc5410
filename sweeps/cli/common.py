"""What several commands of sweeps share."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from safe.errors import EXIT_INTERRUPTED
from safe.io.writable import no_room
from sweeps.ledger.folders import Folders
from sweeps.ledger.known import known_sweep, newest_sweep
from sweeps.ledger.ledger import SweepLog, has_ledger, read_ledger
from sweeps.report.terminal import show
from sweeps.spec.specs import DEFAULT_DATASET, Spec, SweepSpec
from sweeps.spec.typed import typed

EXIT_FAILED = 1

Run = Callable[[argparse.Namespace], int]
"""Does what a command line asks for; returns the exit code."""


@dataclass(frozen=True)
class Command:
    """A command: its words in the help, what gives its parser options, in their order, and what it does."""

    help: str
    options: Sequence[Callable[[argparse.ArgumentParser], None]]
    run: Run


KNOWN: dict[str, Command] = {}  # by name, of the modules that are imported


def command(name: str, help: str, *options: Callable[[argparse.ArgumentParser], None]) -> Callable[[Run], Run]:
    """Make a function the command of a name; see `Command`."""

    def add(run: Run) -> Run:
        KNOWN[name] = Command(help, options, run)
        return run

    return add


def add_dataset(command: argparse.ArgumentParser) -> None:
    """Give a command the data set."""
    command.add_argument("--dataset", default=DEFAULT_DATASET, help="name of the data set (default: %(default)s)")


def add_results(command: argparse.ArgumentParser) -> None:
    """Give a command the results folder."""
    default = os.environ.get("RESULTS") or "results"
    words = "results folder (default: %(default)s)"
    command.add_argument("--results", type=results_folder, default=default, help=words)


def add_detail(command: argparse.ArgumentParser) -> None:
    """Give a command that runs something the options that say how much is shown meanwhile."""
    detail = command.add_mutually_exclusive_group()
    for short, value, words in (
        ("-q", "quiet", "show no progress, only what needs attention and the result"),
        ("-v", "verbose", "show a line per session with its time and loss terms"),
    ):
        detail.add_argument(
            short, f"--{value}", dest="detail", action="store_const", const=value, default="usual", help=words
        )


def add_name(command: argparse.ArgumentParser) -> None:
    """Give a command the name of a sweep, and the results folder."""
    command.add_argument("name", nargs="?", metavar="NAME", help="name of the sweep (default: the newest)")
    add_results(command)


def named_sweep(
    arguments: argparse.Namespace, known: Callable[[Path, str], tuple[SweepLog, Path]] = known_sweep
) -> tuple[SweepLog, Path]:
    """Return the log and the folder of the sweep that is named, else of the newest, which is told.

    Args:
        known: `known_log` for a command that does without its configurations.

    Raises:
        UserError: there is none, or its ledger cannot be read.
    """
    if arguments.name is None:
        arguments.name = newest_sweep(arguments.results)
        print(f"the newest sweep: {arguments.name}", file=sys.stderr)
    log, folder = known(arguments.results, arguments.name)
    gc.freeze()  # it stays to the end of the command, and looking through it for garbage takes longer than reading it
    return log, folder


def results_folder(text: str) -> Path:
    """Return the results folder that was asked for; refuses the address of an object store."""
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{text} is no folder; results need one, in a cluster one that every node sees at the same path (NFS or "
            "the like); an object store can keep MLflow's artefacts only (docs/cluster.md)"
        )
    return Path(text)


def carry_out(work: Callable[[], SweepLog], name: str, arguments: argparse.Namespace) -> int:
    """Do the work and show what it gave; after an interrupt show what there is and how to continue."""
    from sweeps.engine.job_queue import AllFailedError

    folder = Folders(arguments.results, name).sweep
    resume = typed("resume", name, results=arguments.results)
    try:
        log = work()
    except KeyboardInterrupt as interrupt:
        if not has_ledger(folder):
            print("interrupted before anything was begun", file=sys.stderr)
            return EXIT_INTERRUPTED
        print_log(read_ledger(folder), folder)
        why = f": {interrupt}" if str(interrupt) else ""  # of the person who pressed the keys, nothing
        print(f"interrupted{why}; continue with: {resume}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except AllFailedError as error:
        print_log(read_ledger(folder), folder)
        print(f"error: {error}; try again with: {resume}", file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:
        if not no_room(error):
            raise
        where = error.filename or folder
        words = f"{where}: {error.strerror}; what is done is kept: make room, then continue with: {resume}"
        print(f"error: {words}", file=sys.stderr)
        return EXIT_FAILED
    print_log(log, folder)
    if not log.finished:
        print(f"error: some runs failed; repeat what is missing with: {resume}", file=sys.stderr)
    return 0 if log.finished else EXIT_FAILED


def go_on(spec: Spec, arguments: argparse.Namespace, *, lacks: bool = True, retry_failed: bool = False) -> int:
    """Carry out what the specification of a known sweep or ablation still lacks.

    Args:
        lacks: whether there is something: only then what that takes is begun at once.
    """
    from sweeps.engine.helpers import Helpers

    def work() -> SweepLog:
        results, detail = arguments.results, arguments.detail
        with Helpers() as helpers:
            if lacks:
                helpers.begin(spec, results)
            if isinstance(spec, SweepSpec):
                from sweeps.studies.sweep import run_sweep

                return run_sweep(spec, results, helpers, retry_failed=retry_failed, detail=detail)
            from sweeps.studies.ablation import run_ablation

            return run_ablation(spec, results, helpers, detail=detail)

    return carry_out(work, spec.name, arguments)


def print_log(log: SweepLog, folder: Path) -> None:
    """Print what a sweep or an ablation gave."""
    console = Console(markup=False, emoji=False)  # names are shown as they are: what looks like markup in them is none
    if isinstance(log.spec, SweepSpec):
        show(log, folder, console)
    else:
        from sweeps.studies.ablation import show_ablation

        show_ablation(log, folder, console)
