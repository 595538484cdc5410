"""No secret in what is printed, kept, recorded or shown in the list of processes; servers and folders stay private.

A server that asks for credentials, killed and restarted: tests/tracking/test_mlflow_server.py. Secrets of the cluster:
tests/cluster.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from safe.data.fetching.fetch import fetch
from safe.errors import UserError
from sweeps.cli import main

from .sweeping import no_engine, run

SECRET = "s3cr3t-0f-a-t3st"


@pytest.fixture
def refusing() -> Iterator[int]:
    """Run a server that is there and does nothing that it is asked for; return its port."""

    class Refusal(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            health = self.path == "/health"
            self.send_response(200 if health else 500)
            self.end_headers()
            self.wfile.write(b"OK" if health else b'{"error_code": "INTERNAL_ERROR", "message": "not today"}')

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def holders(folder: Path, secret: str) -> list[str]:
    return [str(file) for file in folder.rglob("*") if file.is_file() and secret.encode() in file.read_bytes()]


@pytest.mark.parametrize("where", ["address", "environment"])
def test_credentials_are_in_nothing_that_a_sweep_leaves_or_prints(
    tmp_path: Path, refusing: int, where: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ledger, journal, session records, report, output of the sweep and of the commands that look at it."""
    userinfo = f"me:{SECRET}@" if where == "address" else ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{userinfo}127.0.0.1:{refusing}")
    if where == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    results = tmp_path / "results"
    no_engine(monkeypatch)
    assert run(results) == 0
    place = ["--results", str(results)]
    for words in (["list"], ["show", "demo"], ["show", "demo", "--json"], ["ui"], ["report", "demo"]):
        assert main([*words, *place]) == 0
    (tmp_path / "a.png").touch()
    assert main(["predict", "--model", "models:/safe-digits@champion", str(tmp_path / "a.png"), *place]) == 2
    captured = capfd.readouterr()
    assert SECRET not in captured.out + captured.err
    assert f"127.0.0.1:{refusing}" in captured.out
    assert (results / "sweeps" / "demo" / "report" / "report.html").is_file()
    assert holders(tmp_path, SECRET) == []


def test_the_ui_listens_on_the_loopback_address_and_its_command_holds_no_address_of_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everyone on a machine can read the words of a command; a database's address may hold its password."""
    store = f"postgresql://me:{SECRET}@127.0.0.1/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    called: list[tuple[list[str], dict[str, str]]] = []

    def started(
        words: list[str], address: str, log: Path, environment: dict[str, str], tell: Callable[[], None]
    ) -> int:
        called.append((words, environment))
        tell()
        return 0

    monkeypatch.setattr("sweeps.cli.ui.run_server", started)
    assert main(["ui", "--results", str(tmp_path)]) == 0
    ((words, environment),) = called
    assert words[:4] == [sys.executable, "-m", "mlflow", "ui"]
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert not any(SECRET in word for word in words)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == store
    assert SECRET not in capsys.readouterr().out


def test_the_address_of_a_mirror_may_not_hold_a_password(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must not hold a user name or a password") as error:
        fetch("imagenet_r", tmp_path, mirror=f"https://me:{SECRET}@example.org/data")
    assert SECRET not in str(error.value)
