"""The command line of sweeps: `run`, `show`, `list`, `ui`. Heavy imports wait until a command needs them."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from safe.cli.parser import Parser
from safe.errors import EXIT_USER_ERROR, UserError, nearest
from sweeps import spec as specs
from sweeps.ablation import ARMS, ablation_outcome, build_ablation, run_ablation, show_ablation
from sweeps.campaign import Folders
from sweeps.ledger import SweepLog, has_ledger, read_ledger
from sweeps.results import final_summary, outcome, show, status_of
from tracking.errors import TrackingError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
ABLATION_SEEDS = 5
UI_PORT = 5000
UI_PORTS_TRIED = 50

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0, 1 (failed), 2 (bad input) or 130 (interrupted)."""
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as exit:  # argparse has printed its message
        return int(exit.code or 0)
    try:
        command: Command = arguments.command
        return command(arguments)
    except (UserError, TrackingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Return the parser; each subcommand registers itself with its function as `command`."""
    top = Parser(prog="python -m sweeps", description="Search, record and show sweeps of SAFE.")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for register in (_register_run, _register_ablation, _register_show, _register_list, _register_ui):
        register(commands)
    return top


def _add_results(command: argparse.ArgumentParser) -> None:
    default = os.environ.get("RESULTS") or "results"
    command.add_argument("--results", type=Path, default=Path(default), help="results folder (default: %(default)s)")


def _register_run(commands: argparse._SubParsersAction[Parser]) -> None:
    run = commands.add_parser("run", help="run, continue or extend a sweep")
    run.add_argument("--dataset", default="digits", help="name of the data set (default: %(default)s)")
    run.add_argument("--trials", type=int, default=specs.DEFAULT_TRIALS, help="configurations to train")
    run.add_argument("--name", help="name of the sweep (default: data set and time)")
    run.add_argument("--seeds", type=int, default=specs.DEFAULT_SEEDS, help="final runs of the chosen configuration")
    run.add_argument("--space", type=Path, help="search space in YAML (default: the preset)")
    run.add_argument("--search", default="random", help="how trials are proposed: random")
    run.add_argument("--concurrency", type=int, help="trials at the same time (default: one per GPU, else per core)")
    run.add_argument("--selection", default="holdout", help="holdout, or test (only to reproduce papers)")
    run.add_argument("settings", nargs="*", metavar="key=value", help="settings of every trial: fast.epochs=3")
    _add_results(run)
    run.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    spec = specs.build_spec(
        name=arguments.name,
        dataset=arguments.dataset,
        overrides=arguments.settings,
        trials=arguments.trials,
        seeds=arguments.seeds,
        search=arguments.search,
        selection=arguments.selection,
        space_file=arguments.space,
        concurrency=arguments.concurrency,
    )
    from sweeps.sweep import run_sweep

    return _carry_out(lambda: run_sweep(spec, arguments.results), spec.name, _again(arguments, spec.name), arguments)


def _carry_out(work: Callable[[], SweepLog], name: str, again: str, arguments: argparse.Namespace) -> int:
    """Do the work and show what it gave; after an interrupt show what there is and how to continue."""
    from sweeps.tuner import AllFailedError

    folder = Folders(arguments.results, name).sweep
    try:
        log = work()
    except KeyboardInterrupt:
        if has_ledger(folder):
            _print_log(read_ledger(folder), folder)
        print(f"interrupted; continue with: {again}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except AllFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    _print_log(log, folder)
    if not log.finished:
        print(f"error: some runs failed; repeat what is missing with: {again}", file=sys.stderr)
    return 0 if log.finished else EXIT_FAILED


def _print_log(log: SweepLog, folder: Path) -> None:
    (show if isinstance(log.spec, specs.SweepSpec) else show_ablation)(log, folder, Console())


def _python() -> str:
    """Return this interpreter as a person would type it here."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _again(arguments: argparse.Namespace, name: str) -> str:
    """Return the command that continues an interrupted sweep."""
    words = [_python(), "-m", "sweeps", "run", "--dataset", arguments.dataset, "--name", name]
    words += ["--trials", str(arguments.trials), "--seeds", str(arguments.seeds), "--selection", arguments.selection]
    words += ["--results", str(arguments.results)]
    words += ["--space", str(arguments.space)] if arguments.space else []
    return shlex.join([*words, *arguments.settings])


def _register_ablation(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser("ablation", help="run SAFE beside its baselines and bounds, on the test images")
    command.add_argument("--dataset", default="digits", help="name of the data set (default: %(default)s)")
    command.add_argument("--seeds", type=int, default=ABLATION_SEEDS, help="runs of every arm (default: %(default)s)")
    command.add_argument("--name", help="name of the ablation (default: <data set>-ablation)")
    command.add_argument("--arms", default="", help=f"comma-separated, of {', '.join(ARMS)} (default: all)")
    command.add_argument("--concurrency", type=int, help="runs at the same time (default: one per GPU, else per core)")
    command.add_argument("settings", nargs="*", metavar="key=value", help="settings of every arm: fast.epochs=3")
    _add_results(command)
    command.set_defaults(command=_ablation)


def _ablation(arguments: argparse.Namespace) -> int:
    spec = build_ablation(
        dataset=arguments.dataset,
        seeds=arguments.seeds,
        name=arguments.name,
        arms=[arm for arm in arguments.arms.split(",") if arm],
        overrides=arguments.settings,
        concurrency=arguments.concurrency,
    )
    words = [_python(), "-m", "sweeps", "ablation", "--dataset", arguments.dataset, "--name", spec.name]
    words += ["--seeds", str(spec.seeds), "--arms", ",".join(spec.arms), "--results", str(arguments.results)]
    again = shlex.join([*words, *arguments.settings])
    return _carry_out(lambda: run_ablation(spec, arguments.results), spec.name, again, arguments)


def _register_show(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser("show", help="print what a sweep gave")
    command.add_argument("name")
    command.add_argument("--json", action="store_true", help="one object for programs, fractions in [0, 1]")
    _add_results(command)
    command.set_defaults(command=_show)


def _show(arguments: argparse.Namespace) -> int:
    folder = arguments.results.absolute() / "sweeps" / specs.checked_name(arguments.name)
    if not has_ledger(folder):
        names = _names(arguments.results)
        known = f"known: {', '.join(names)}.{nearest(arguments.name, names)}" if names else "there is none yet"
        raise UserError(f"no sweep is called {arguments.name!r} in {arguments.results}; {known}")
    log = read_ledger(folder)
    if arguments.json:
        found = outcome(log) if isinstance(log.spec, specs.SweepSpec) else ablation_outcome(log)
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        _print_log(log, folder)
    return 0


def _names(results: Path) -> list[str]:
    sweeps = results / "sweeps"
    return sorted(folder.name for folder in sweeps.iterdir() if has_ledger(folder)) if sweeps.is_dir() else []


def _register_list(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser("list", help="list the sweeps of the results folder")
    _add_results(command)
    command.set_defaults(command=_list)


def _list(arguments: argparse.Namespace) -> int:
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "data set", "selection", "state", "test accuracy"):
        table.add_column(heading, no_wrap=True)
    names = _names(arguments.results)
    for name in names:
        try:
            log = read_ledger(arguments.results / "sweeps" / name)
        except UserError:
            table.add_row(name, "-", "-", "damaged", "-")
            continue
        summary = final_summary(log) if isinstance(log.spec, specs.SweepSpec) else None
        accuracy = f"{100 * summary['test/accuracy']['mean']:.1f} %" if summary else "-"
        table.add_row(name, log.spec.dataset, log.spec.selection, status_of(log), accuracy)
    Console().print(table if names else f"no sweep in {arguments.results}")
    return 0


def _register_ui(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser("ui", help="open MLflow's UI on 127.0.0.1")
    command.add_argument("--port", type=int, default=UI_PORT, help="first port to try (default: %(default)s)")
    _add_results(command)
    command.set_defaults(command=_ui)


def _ui(arguments: argparse.Namespace) -> int:
    from tracking.environment import telemetry_off

    folders = Folders(arguments.results, "")
    uri = folders.tracking_uri()
    if uri.startswith("http"):
        print(f"MLflow UI: {uri}")
        return 0
    if uri.startswith("sqlite") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise UserError(f"nothing is recorded in {arguments.results} yet; run a sweep first, or name it with --results")
    telemetry_off()
    port = free_port(arguments.port)
    print(f"MLflow UI: http://127.0.0.1:{port}  (Ctrl-C ends it)", flush=True)
    words = ["mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", uri, "--default-artifact-root", str(folders.results / "mlartifacts")]
    # MLflow's own job queues, eight more processes, serve features that nothing here uses.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    # Taking this process's place, the server gets its signals.
    return os.execv(sys.executable, [sys.executable, "-m", *words])


def free_port(first: int) -> int:
    """Return the first free port of 127.0.0.1 from `first` on; `UserError` when none of the next ones is free."""
    for port in range(first, min(first + UI_PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except (OSError, OverflowError):
                continue
            return port
    raise UserError(f"no free port from {first} on; choose another one with --port")
