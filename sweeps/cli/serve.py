"""`python -m sweeps serve`: a model of MLflow's registry behind an address of this machine.

Only the model's state is taken. The code of this installation answers; code that a model brings never runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import tempfile
import urllib.request
from pathlib import Path

from safe.cli.parser import add_imports, add_network
from safe.io.sources import own_folders
from sweeps.cli.common import add_results, command
from sweeps.cli.local_server import FOLDER, add_address, address_of, free_port, run_server
from sweeps.ledger.folders import Folders

SERVE_PORT = 5050
REQUESTS = "requests"


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", required=True, help="models:/safe-digits@champion, models:/safe-digits/2 or models:/<id of a model>"
    )
    add_network(parser)
    add_imports(parser)
    add_address(parser, SERVE_PORT)


@command("serve", "answer requests for predictions over HTTP, on 127.0.0.1", _options, add_results)
def _serve(arguments: argparse.Namespace) -> int:
    from safe.predictor import load_predictor
    from sweeps.model.fetched import fetch_state
    from sweeps.model.request import write_request
    from sweeps.model.saving import model_of

    folders = Folders(arguments.results, "")
    with tempfile.TemporaryDirectory() as scratch:
        state = fetch_state(arguments.model, folders.tracking_uri(), Path(scratch))
        # What it cannot do is told here in words, not by the server.
        predictor = load_predictor(state, device=arguments.device, weights=arguments.weights)
        name = re.sub(r"\W+", "-", arguments.model.removeprefix("models:")).strip("-")
        request = folders.results / REQUESTS / f"{name}.json"
        picture = write_request(predictor, request)
        classes = len(predictor.classes)
        del predictor
        port = free_port(arguments.port, arguments.host)
        address, log = address_of(arguments.host, port), folders.results / FOLDER / f"serve-{port}.log"

        def tell() -> None:
            print(f"{arguments.model}: {address}  ({classes} classes; Ctrl-C ends it)")
            print(f"predicts {picture}:")
            print(f"  {_curl(address, request)}")
            print(f"what the server says goes to {log}", flush=True)

        from mlflow.pyfunc.scoring_server import SERVING_MODEL_CONFIG

        settings = json.dumps({"device": arguments.device, "weights": arguments.weights})
        model = model_of(state, Path(scratch) / "served", arguments.imports)
        words = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model)]
        words += ["--env-manager", "local", "--workers", "1", "--host", arguments.host, "--port", str(port)]
        paths = os.pathsep.join([*own_folders(), os.environ.get("PYTHONPATH", "")])
        return run_server(words, address, log, {SERVING_MODEL_CONFIG: settings, "PYTHONPATH": paths}, tell)


def _curl(address: str, request: Path) -> str:
    """Return a command that sends a request, past a proxy, which would see another machine as this one."""
    words = ["curl", "-sS", *(["--noproxy", "*"] if "http" in urllib.request.getproxies() else [])]
    words += ["-H", "Content-Type: application/json", "--data", f"@{request}", f"{address}/invocations"]
    return shlex.join(words)
