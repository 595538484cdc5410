"""What several commands of sweeps share."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console

from safe.errors import EXIT_INTERRUPTED
from safe.io.writable import no_room
from safe.numerics import import_own
from sweeps.ledger.folders import Folders
from sweeps.ledger.ledger import SweepLog, has_ledger, read_ledger
from sweeps.report.terminal import show
from sweeps.spec.specs import Spec, SweepSpec
from sweeps.studies.ablation import show_ablation

EXIT_FAILED = 1


def add_results(command: argparse.ArgumentParser) -> None:
    """Give a command the results folder."""
    default = os.environ.get("RESULTS") or "results"
    words = "results folder (default: %(default)s)"
    command.add_argument("--results", type=results_folder, default=default, help=words)


def add_imports(command: argparse.ArgumentParser) -> None:
    """Give a command the modules of a user's own."""
    words = "import a module that brings a data set, PET, head or backbone of your own; may be repeated"
    command.add_argument("--import", dest="imports", action="append", default=[], metavar="MODULE", help=words)


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
    resume = resume_words(name, arguments.results)
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


def go_on(spec: Spec, arguments: argparse.Namespace, *, retry_failed: bool = False) -> int:
    """Carry out what the specification of a known sweep or ablation still lacks."""
    import_own(spec.imports)
    if isinstance(spec, SweepSpec):
        from sweeps.studies.sweep import run_sweep

        work = partial(run_sweep, spec, arguments.results, retry_failed=retry_failed)
    else:
        from sweeps.studies.ablation import run_ablation

        work = partial(run_ablation, spec, arguments.results)
    return carry_out(work, spec.name, arguments)


def resume_words(name: str, results: Path) -> str:
    """Return the command that continues a sweep."""
    return shlex.join([python(), "-m", "sweeps", "resume", name, "--results", str(results)])


def print_log(log: SweepLog, folder: Path) -> None:
    """Print what a sweep or an ablation gave."""
    # Names are shown as they are: what looks like markup in them is none.
    (show if isinstance(log.spec, SweepSpec) else show_ablation)(log, folder, Console(markup=False, emoji=False))


def python() -> str:
    """Return this interpreter as a person would type it here."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
