"""`python -m sweeps ui`: MLflow's UI on 127.0.0.1, and the page of a sweep in it."""

from __future__ import annotations

import argparse
import os
import socket
import sys

from safe.cli.parser import Parser
from safe.errors import UserError
from sweeps.cli.common import add_name, named_sweep
from sweeps.engine.accounts import USER, ask_for_password
from sweeps.ledger.folders import Folders
from sweeps.ledger.known import sweep_names
from sweeps.report.terminal import run_address

UI_PORT = 5000
UI_PORTS_TRIED = 50


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("ui", help="open MLflow's UI on 127.0.0.1")
    command.add_argument("--port", type=int, default=UI_PORT, help="first port to try (default: %(default)s)")
    command.add_argument("--auth", action="store_true", help="ask for a password, which is made at the first time")
    add_name(command)
    command.set_defaults(command=_ui)


def _ui(arguments: argparse.Namespace) -> int:
    from tracking import shown
    from tracking.environment import telemetry_off
    from tracking.mlflow_backend import connect, sqlite_path

    folders = Folders(arguments.results, "")
    uri = folders.tracking_uri()
    if uri.startswith("http"):
        if arguments.auth:
            raise UserError(
                f"--auth protects a server that this command starts, but MLFLOW_TRACKING_URI names one: {shown(uri)}; "
                "its owner decides who may use it"
            )
        print(f"MLflow UI: {shown(uri)}")
        _print_page(arguments, shown(uri))
        return 0
    if (database := sqlite_path(uri)) is not None and not database.exists():
        raise UserError(f"nothing is recorded in {arguments.results} yet; run a sweep first, or name it with --results")
    if database is not None:
        connect(uri)  # refuses in words what cannot be used, and brings addresses of artefacts up to date
    telemetry_off()
    protected = ask_for_password(folders.results) if arguments.auth else None
    port = free_port(arguments.port)
    print(f"MLflow UI: http://127.0.0.1:{port}  (Ctrl-C ends it)")
    _print_page(arguments, f"http://127.0.0.1:{port}")
    print('at the first visit choose "Model training" at the top left: MLflow begins with pages for traces')
    if protected:
        print(f"user {USER}, password in {protected}", flush=True)
    else:
        print("all users of this machine can change and delete what it shows; --auth asks for a password", flush=True)
    words = ["mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--default-artifact-root", str(folders.results / "mlartifacts")]
    words += ["--app-name", "basic-auth"] if protected else []
    # Not as a word of the command, which everyone on this machine can read: it may hold a password.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri
    # MLflow's own job queues, eight more processes, serve features that nothing here uses.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    # Taking this process's place, the server gets its signals.
    return os.execv(sys.executable, [sys.executable, "-m", *words])


def _print_page(arguments: argparse.Namespace, server: str) -> None:
    """Print where a server shows the sweep that is named, else the newest; of a folder without any, nothing."""
    if arguments.name is None and not sweep_names(arguments.results):
        return
    if address := run_address(named_sweep(arguments)[0].tracking or {}):
        print(f"{arguments.name}: {server}{address}")


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
