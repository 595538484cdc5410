"""A server as a child of a command: told once it answers, silent on the screen, ended with the command."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from safe.errors import UserError
from sweeps.cli.local_server import address_of, free_port, run_server

# Says something, takes its time, then answers every request; its own child is of the same group.
SERVER = """
import http.server, subprocess, sys, time
print("starting up", flush=True)
child = subprocess.Popen(["sleep", "600"])
print("child", child.pid, flush=True)
time.sleep(0.5)
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("wish", [signal.SIGINT, signal.SIGTERM])
def test_it_is_told_when_it_answers_and_ends_with_all_its_processes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], wish: signal.Signals
) -> None:
    port = free_port(18_200)
    address, log = address_of("127.0.0.1", port), tmp_path / "logs" / "server.log"
    answers: list[int] = []

    def tell() -> None:
        with urllib.request.urlopen(address) as answer:
            answers.append(answer.status)
        threading.Timer(0.3, os.kill, (os.getpid(), wish)).start()

    assert run_server([sys.executable, "-c", SERVER, str(port)], address, log, {}, tell) == 0
    assert answers == [200]
    said = log.read_text()
    assert said.startswith("starting up\n")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    child = int(said.split("child ")[1].split()[0])
    end = time.monotonic() + 30
    while alive(child):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert free_port(port) == port
    assert capfd.readouterr() == ("", "")


def test_one_that_ends_by_itself_is_an_error_with_its_last_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "server.log"
    code = "import os, sys; print(*range(9), os.environ['GIVEN'], sep='\\n'); sys.exit(3)"

    def tell() -> None:
        raise AssertionError("it never answered")

    assert run_server([sys.executable, "-c", code], "http://127.0.0.1:9", log, {"GIVEN": "on"}, tell) == 1
    assert capsys.readouterr().err == f"error: the server ended; {log} says:\n5\n6\n7\n8\non\n"


def test_addresses() -> None:
    assert address_of("0.0.0.0", 5000) == "http://127.0.0.1:5000"
    assert address_of("::1", 5000) == "http://[::1]:5000"
    assert address_of("box.local", 1) == "http://box.local:1"
    with pytest.raises(UserError, match="--host no such host: "):
        free_port(5000, "no such host")
    for host in ("..", "a" * 70):
        with pytest.raises(UserError, match="no name of a machine"):
            free_port(5000, host)
    for port in (-1, 0, 65_536):
        with pytest.raises(UserError, match=f"--port must be between 1 and 65535, got {port}"):
            free_port(port)


def test_nothing_of_it_stays_when_a_command_is_asked_to_end(tmp_path: Path) -> None:
    """As a scheduler ends it: by SIGTERM to the command's own process alone."""
    port = free_port(18_300)
    script = (
        "import sys; from pathlib import Path; from sweeps.cli.local_server import run_server\n"
        f"sys.exit(run_server([sys.executable, '-c', {SERVER!r}, '{port}'], 'http://127.0.0.1:{port}', "
        "Path(sys.argv[1]), {}, lambda: print('told', flush=True)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "log")], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    assert command.stdout.readline() == "told\n"
    command.terminate()
    assert command.wait(60) == 0
    command.stdout.close()
    assert free_port(port) == port
