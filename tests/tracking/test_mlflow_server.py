"""A real MLflow server on loopback: killed in mid-stream, behind credentials, with artefacts of its own."""

from __future__ import annotations

import base64
import http.client
import http.server
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tracking import JournalRecorder, MlflowRecorder, Point, Status, TrackingError, load_sweep, sqlite_uri

Observe = Callable[[str, str], dict[str, Any]]
SECRET = "s3cret-word"


@pytest.fixture(scope="module")
def server(template: Path, tmp_path_factory: pytest.TempPathFactory, make_server: Callable[..., Any]) -> Any:
    folder = tmp_path_factory.mktemp("server")
    server = make_server(folder, Path(shutil.copy(template, folder / "mlflow.db")))
    server.start()
    return server


class Gate(http.server.ThreadingHTTPServer):
    """Stands before the server and lets through who brings the right `Authorization`; `status` refuses everybody."""

    def __init__(self, server: Any, authorization: str) -> None:
        super().__init__(("127.0.0.1", 0), GateHandler)
        self.behind = server
        self.authorization = authorization
        self.status: int | None = None


class GateHandler(http.server.BaseHTTPRequestHandler):
    server: Gate

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/health":
            self._answer(200, b"OK", "text/plain")
        elif self.server.status is not None:
            self._answer(self.server.status, b"<html>no</html>", "text/html")
        elif self.headers.get("Authorization") != self.server.authorization:
            self._answer(401, b"You are not authenticated", "text/html")
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.server.behind.port)
            kept = {name: value for name, value in self.headers.items() if name not in ("Host", "Transfer-Encoding")}
            connection.request(self.command, self.path, body, kept)
            answer = connection.getresponse()
            self._answer(answer.status, answer.read(), answer.headers.get("Content-Type", ""))
            connection.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def gate(server: Any, request: pytest.FixtureRequest) -> Iterator[Gate]:
    gate = Gate(server, request.param)
    threading.Thread(target=gate.serve_forever, args=(0.05,), daemon=True).start()
    yield gate
    gate.shutdown()
    gate.server_close()


BASIC = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
TOKEN = f"Bearer {SECRET}"


def begin(recorder: Any, files: Path) -> None:
    recorder.start("demo", {"seed": 0}, {"kind": "sweep"}, name="Demo")
    recorder.start("demo/trial-00", {"lr": 0.1}, {"kind": "trial"}, parent="demo")
    recorder.log_input("demo/trial-00", "digits", "abc", "train")
    recorder.log_points("demo/trial-00", [Point("val/accuracy", 0.5, 1), Point("train/slow/ce", 1 / 3, 1)])
    recorder.log_directory("demo/trial-00", files, "checkpoints")


def go_on(recorder: Any, files: Path) -> None:
    recorder.log_points("demo/trial-00", [Point("val/accuracy", 0.25, 2), Point("train/slow/ce", 1 / 7, 2)])
    recorder.finish("demo/trial-00", Status.FINISHED)
    for trial in ("demo/trial-01", "demo/trial-02"):
        recorder.start(trial, {"lr": 0.2}, {"kind": "trial"}, parent="demo")
        recorder.log_points(trial, [Point("val/accuracy", 0.75, step) for step in (1, 2)])
        recorder.log_directory(trial, files)
        recorder.finish(trial, Status.FINISHED)
    recorder.finish("demo", Status.FINISHED)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "files" / "deep").mkdir(parents=True)
    (tmp_path / "files" / "deep" / "state ä.pt").write_bytes(bytes(range(256)))
    return tmp_path / "files"


def test_a_server_killed_in_mid_stream_ends_with_the_same_database(
    server: Any,
    database: Path,
    tmp_path: Path,
    files: Path,
    observe: Observe,
    capfd: pytest.CaptureFixture[str],
) -> None:
    undisturbed = MlflowRecorder(sqlite_uri(database), "killed")
    begin(undisturbed, files)
    go_on(undisturbed, files)

    recorder = JournalRecorder(tmp_path / "journal.jsonl", server.uri, "killed", pause_s=0.05)
    capfd.readouterr()
    begin(recorder, files)
    server.kill()
    go_on(recorder, files)
    assert not recorder.flush(300)
    server.start()
    assert recorder.flush(300)
    recorder.close()
    captured = capfd.readouterr()
    told = captured.err.splitlines()
    assert (captured.out, len(told)) == ("", 2), told
    assert told[1] == f"tracking: MLflow at {server.uri} has everything again"
    assert observe(server.uri, "killed") == observe(sqlite_uri(database), "killed")

    assert recorder.first_run_id is not None
    client = MlflowRecorder(server.uri, "killed").client
    assert client.get_experiment_by_name("killed").artifact_location.startswith("mlflow-artifacts:/")
    assert len(list(server.artifacts.rglob("state ä.pt"))) == 3
    frame = load_sweep("demo", tracking_uri=server.uri).sessions
    assert frame[["run", "session", "val/accuracy"]].values.tolist() == [
        ["trial-00", 1, 0.5],
        ["trial-00", 2, 0.25],
        *([trial, step, 0.75] for trial in ("trial-01", "trial-02") for step in (1, 2)),
    ]


SWEEPS = """
import os, sys
from pathlib import Path
import mlflow
from tracking import JournalRecorder, Status, journal
journal.CONTACT_S = journal.DRAIN_S = 300.0
uri, folder = sys.argv[1:]
other = os.fork()
name = "one" if other else "two"
recorder = JournalRecorder(Path(folder) / f"{name}.jsonl", uri, "shared")
recorder.start(name, {}, {})
for step in range(1, 41):
    recorder.log_metrics(name, {"val/accuracy": step / 40}, step)
    if step == 20:
        assert recorder.flush(300)
        if other:
            print("half", flush=True)
            sys.stdin.readline()
recorder.finish(name, Status.FINISHED)
recorder.close()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) if other else 0)
"""


def test_two_sweeps_and_an_open_ui_on_one_file(server: Any, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    command = [sys.executable, "-c", SWEEPS, sqlite_uri(server.database), str(tmp_path)]
    pipe = subprocess.PIPE
    sweeps = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert sweeps.stdin is not None
    assert sweeps.stdout is not None
    sweeps.stdout.readline()  # one of them is half done
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("shared").experiment_id
    status = {run.info.run_name: run.info.status for run in client.search_runs([experiment])}
    assert status["one"] == "RUNNING", "the UI looks while they write"
    sweeps.stdin.write("\n")
    sweeps.stdin.flush()
    while sweeps.poll() is None:
        client.search_runs([experiment])
    assert (sweeps.returncode, *sweeps.communicate()) == (0, "", ""), "nothing to tell"
    runs = client.search_runs([experiment])
    for run in runs:
        points = client.get_metric_history(run.info.run_id, "val/accuracy")
        assert [(point.step, point.value) for point in points] == [(step, step / 40) for step in range(1, 41)]
    assert sorted((run.info.run_name, run.info.status) for run in runs) == [
        ("one", Status.FINISHED),
        ("two", Status.FINISHED),
    ]


@pytest.mark.parametrize(
    ("gate", "environment", "userinfo"),
    [
        (BASIC, {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": SECRET}, ""),
        (BASIC, {}, f"me:{SECRET}@"),
        (TOKEN, {"MLFLOW_TRACKING_TOKEN": SECRET}, ""),
    ],
    indirect=["gate"],
    ids=["basic", "basic-in-uri", "token"],
)
def test_credentials(
    gate: Gate,
    environment: dict[str, str],
    userinfo: str,
    tmp_path: Path,
    files: Path,
    observe: Observe,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    experiment = tmp_path.name
    uri = f"http://{userinfo}127.0.0.1:{gate.server_port}"
    recorder = JournalRecorder(tmp_path / "journal.jsonl", uri, experiment, pause_s=0.01)
    begin(recorder, files)
    assert recorder.flush(300)
    for status in (503, 401, 403):
        gate.status = status
        recorder.set_tags("demo", {"status": str(status)})
        assert not recorder.flush(300)
        gate.status = None
        assert recorder.flush(300)
    go_on(recorder, files)
    recorder.close()
    captured = capfd.readouterr()
    # A password that the log shows is one that must be changed.
    kept = "".join(path.read_text("utf-8") for path in tmp_path.glob("journal*"))
    assert SECRET not in captured.err + captured.out + kept
    lines = captured.err.splitlines()
    assert len(lines) == 6, lines
    assert "does not answer as it should" in lines[0]
    assert "does not accept the credentials (401)" in lines[2]
    assert "does not permit this to the account (403)" in lines[4]
    seen = observe(gate.behind.uri, experiment)
    assert {key: run["status"] for key, run in seen.items()} == dict.fromkeys(seen, Status.FINISHED)
    assert seen["demo/trial-00"]["artefacts"] == {"checkpoints/deep/state ä.pt": bytes(range(256))}


@pytest.mark.parametrize("gate", [TOKEN], indirect=True)
@pytest.mark.parametrize(
    ("status", "message"),
    [
        (None, r"does not accept the credentials \(401\); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (403, r"does not permit this to the account \(403\)"),
        (404, r"refused: .*404"),
    ],
)
def test_a_server_that_refuses_at_first_contact_is_an_error(
    gate: Gate, status: int | None, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gate.status = status
    uri = f"http://me:{SECRET}@127.0.0.1:{gate.server_port}"
    with pytest.raises(TrackingError, match=message) as caught:
        JournalRecorder(tmp_path / "journal.jsonl", uri, "sweeps")
    assert f"http://me:***@127.0.0.1:{gate.server_port}" in str(caught.value)
    assert caught.value.__cause__ is None
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_server_that_is_away_at_first_contact_is_told_without_secrets(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound but not listening: refuses, and nobody else takes the port
        uri = f"http://me:{SECRET}@127.0.0.1:{held.getsockname()[1]}"
        recorder = JournalRecorder(tmp_path / "journal.jsonl", uri, "sweeps")
        recorder.start("demo", {}, {})
        recorder.close()
    told = capfd.readouterr().err
    assert "no MLflow server answers at http://me:***@" in told
    assert SECRET not in told
    assert len(told.splitlines()) == 2


@pytest.mark.parametrize("spared", ["", "example.com"])
def test_a_server_on_this_machine_is_reached_past_a_proxy(
    server: Any, files: Path, observe: Observe, monkeypatch: pytest.MonkeyPatch, spared: str
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # a proxy that refuses everything
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{held.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", spared)
        recorder = MlflowRecorder(server.uri, f"proxy {spared}")
        begin(recorder, files)
        seen = observe(server.uri, f"proxy {spared}")
    assert seen["demo/trial-00"]["metrics"]["val/accuracy"] == {1: 0.5}
    assert list(seen["demo/trial-00"]["artefacts"]) == ["checkpoints/deep/state ä.pt"]
