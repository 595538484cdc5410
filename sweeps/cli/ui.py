"""`python -m sweeps ui`: MLflow's UI on 127.0.0.1, and the page of a sweep in it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from safe.errors import UserError
from sweeps.cli.common import add_name, command, named_sweep
from sweeps.cli.local_server import FOLDER, HOST, add_address, address_of, free_port, run_server
from sweeps.engine.accounts import USER, ask_for_password
from sweeps.ledger.folders import Folders
from sweeps.ledger.known import known_log, sweep_names
from sweeps.report.terminal import page_lines

UI_PORT = 5000


def _options(parser: argparse.ArgumentParser) -> None:
    add_address(parser, UI_PORT)
    parser.add_argument("--auth", action="store_true", help="ask for a password, which is made at the first time")


@command("ui", "open MLflow's UI on 127.0.0.1", _options, add_name)
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
        print("\n".join([f"MLflow UI: {shown(uri)}", *page_lines(_tracking(arguments), shown(uri))]))
        return 0
    if (database := sqlite_path(uri)) is not None and not database.exists():
        raise UserError(f"nothing is recorded in {arguments.results} yet; run a sweep first, or name it with --results")
    if database is not None:
        connect(uri)  # refuses in words what cannot be used, and brings addresses of artefacts up to date
    telemetry_off()
    tracking = _tracking(arguments)
    protected = ask_for_password(folders.results) if arguments.auth else None
    port = free_port(arguments.port, arguments.host)
    address, log = address_of(arguments.host, port), folders.results / FOLDER / f"ui-{port}.log"

    def tell() -> None:
        print("\n".join([f"MLflow UI: {address}  (Ctrl-C ends it)", *page_lines(tracking, address)]))
        if protected:
            print(f"user {USER}, password in {protected}")
        else:
            print(f"{_others(arguments.host)} can change and delete what it shows; --auth asks for a password")
        print(f"what the server says goes to {log}", flush=True)

    words = [sys.executable, "-m", "mlflow", "ui", "--host", arguments.host, "--port", str(port), "--workers", "1"]
    words += ["--default-artifact-root", str(folders.results / "mlartifacts")]
    words += ["--app-name", "basic-auth"] if protected else []
    environment = {
        # Not as a word of the command, which everyone on this machine can read: it may hold a password.
        "MLFLOW_BACKEND_STORE_URI": uri,
        # MLflow's own job queues, eight more processes, serve features that nothing here uses.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return run_server(words, address, log, environment, tell)


def _others(host: str) -> str:
    here = host in (HOST, "localhost", "::1")
    return f"all users of {'this machine' if here else 'machines that reach this one'}"


def _tracking(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Return where MLflow has the sweep that is named, else the newest; empty where there is none."""
    if arguments.name is None and not sweep_names(arguments.results):
        return {}
    return named_sweep(arguments, known_log)[0].tracking or {}
