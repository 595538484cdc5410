"""MLflow's UI behind a password: what others on the machine are refused, and where the password is."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from safe.errors import UserError
from sweeps.cli import main
from sweeps.engine.accounts import ask_for_password
from tracking.mlflow_backend import connect

ROOT = Path(__file__).resolve().parents[3]
API = "/api/2.0/mlflow"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a results folder whose store has a registered model."""
    folder = tmp_path_factory.mktemp("results")
    client = connect(f"sqlite:///{folder}/mlflow.db")
    client.create_registered_model("safe-digits")
    client.create_model_version("safe-digits", str(folder))
    client.set_registered_model_alias("safe-digits", "champion", "1")
    return folder


class Ui:
    """`python -m sweeps ui --auth` in a process of its own."""

    def __init__(self, results: Path) -> None:
        words = [sys.executable, "-m", "sweeps", "ui", "--auth", "--port", "18600", "--results", str(results)]
        self.log = (results / "ui.log").open("w+")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
        self.process = subprocess.Popen(
            words,
            env=environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.password = results / "ui-auth" / "password"

    def said(self) -> str:
        return Path(self.log.name).read_text()

    def ask(self, method: str, path: str, body: object = None, password: str | None = None) -> int:
        """Return the status of a request; 0 where nothing answers."""
        address = next((word for word in self.said().split() if word.startswith("http://127.0.0.1:")), None)
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{address}{path}", data, {"Content-Type": "application/json"}, method=method)
        if password is not None:
            userinfo = base64.b64encode(f"admin:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {userinfo}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


@pytest.fixture(scope="module")
def ui(results: Path) -> Iterator[Ui]:
    """Give the UI, once it answers."""
    started = Ui(results)
    try:
        while "http://" not in started.said() or not started.ask("GET", "/health"):
            assert started.process.poll() is None, started.said()
            time.sleep(0.1)
        yield started
    finally:
        os.killpg(started.process.pid, signal.SIGTERM)
        started.process.wait(timeout=60)
        started.log.close()


MODEL = {"name": "safe-digits"}
REQUESTS = [
    ("GET", "/", None),
    ("POST", f"{API}/experiments/search", {"max_results": 1}),
    ("DELETE", f"{API}/registered-models/delete", MODEL),
    ("DELETE", f"{API.replace('/api', '/ajax-api')}/registered-models/delete", MODEL),
    ("DELETE", f"{API}/registered-models/alias?name=safe-digits&alias=champion", None),
    ("POST", f"{API}/registered-models/alias", MODEL | {"alias": "champion", "version": "1"}),
    ("GET", "/model-versions/get-artifact?path=MLmodel&name=safe-digits&version=1", None),
    ("POST", "/graphql", {"query": "{__typename}"}),
    ("POST", f"{API}/users/create", {"username": "other", "password": "a-long-password"}),
]


@pytest.mark.parametrize("password", [None, "not the password"])
@pytest.mark.parametrize("request_", REQUESTS, ids=[f"{method} {path[:60]}" for method, path, _ in REQUESTS])
def test_nobody_else_reads_or_changes_anything(
    ui: Ui, request_: tuple[str, str, object], password: str | None, results: Path
) -> None:
    assert ui.ask(*request_, password=password) == 401
    client = connect(f"sqlite:///{results}/mlflow.db")
    assert str(client.get_model_version_by_alias("safe-digits", "champion").version) == "1"


def test_who_may_read_the_file_may_use_it(ui: Ui) -> None:
    assert f"user admin, password in {ui.password}\n" in ui.said()
    password = ui.password.read_text().strip()
    assert len(password) == 32
    assert ui.ask("POST", f"{API}/experiments/search", {"max_results": 1}, password) == 200
    assert ui.ask("PATCH", f"{API}/registered-models/update", MODEL | {"description": "mine"}, password) == 200


def test_the_password_is_in_one_file_of_its_owner_and_in_no_command(ui: Ui, results: Path) -> None:
    assert stat.S_IMODE(ui.password.stat().st_mode) == 0o600
    assert stat.S_IMODE(ui.password.parent.stat().st_mode) == 0o700
    password = ui.password.read_text().strip()
    holding = [file for file in results.rglob("*") if file.is_file() and password.encode() in file.read_bytes()]
    assert holding == [ui.password]
    commands = [words for file in Path("/proc").glob("[0-9]*/cmdline") if (words := _read(file))]
    assert any(b"basic-auth" in words for words in commands)
    assert not any(password.encode() in words for words in commands)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # it has ended
        return b""


def test_the_password_stays_and_a_lost_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG_PATH", "ADMIN_USERNAME", "ADMIN_PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_AUTH_{name}", "")  # what is set is put back afterwards
    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "")
    file = ask_for_password(tmp_path / "50% off")
    password = file.read_text()
    assert os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"] == password.strip()
    settings = ConfigParser()  # as MLflow reads it
    settings.read(os.environ["MLFLOW_AUTH_CONFIG_PATH"])
    assert settings["mlflow"]["database_uri"] == f"sqlite:///{file.with_name('accounts.db')}"
    assert ask_for_password(tmp_path / "50% off").read_text() == password
    file.with_name("accounts.db").touch()
    file.unlink()
    with pytest.raises(UserError, match=f"put the file back, or make a new account: remove {file.parent}"):
        ask_for_password(tmp_path / "50% off")


def test_a_server_elsewhere_is_its_owner_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["ui", "--auth", "--results", str(tmp_path)]) == 2
    assert "--auth protects a server that this command starts" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
