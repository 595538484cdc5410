"""What is looked at before a cluster starts, with an engine that exists only here."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from safe.errors import UserError
from sweeps.cluster import commands
from sweeps.cluster.__main__ import main
from sweeps.cluster.compose import Compose
from sweeps.cluster.machine import GIB, IMAGE_BYTES, LAYER_BYTES, Machine, is_free, look, problems


class Engine:
    """Answers `docker` commands; `answers` replaces the good ones by the first words of the command."""

    def __init__(self, info: dict[str, Any] | None = None, answers: dict[str, tuple[int, str]] | None = None) -> None:
        good = {"ServerVersion": "27.0.1", "MemTotal": 16 * GIB, "DockerRootDir": "/", "Name": socket.gethostname()}
        self.answers = {
            "docker info": (0, json.dumps({**good, **(info or {})})),
            "docker compose version": (0, "v2.26.1\n"),
            "docker buildx version": (0, "v0.13"),
            **(answers or {}),
        }

    def __call__(self, words: Sequence[str]) -> tuple[int, str]:
        line = " ".join(words)
        return next(answer for command, answer in self.answers.items() if line.startswith(command))


def test_a_good_engine_tells_its_memory_folder_and_gpus() -> None:
    assert look(Engine()) == Machine(16 * GIB, Path("/"), gpus=False)
    assert look(Engine({"Runtimes": {"runc": {}, "nvidia": {}}})).gpus
    # What the engine calls its folder lies on another machine: its disk cannot be seen from here.
    assert look(Engine({"Name": "far away"})).folder is None


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (Engine(answers={"docker info": (127, "docker: not found")}), ["not installed", "docs.docker.com/engine"]),
        (
            Engine(answers={"docker info": (1, "Cannot connect to the Docker daemon at unix:///var/run/docker.sock")}),
            ["Cannot connect", "systemctl start docker"],
        ),
        # The client of some versions ends with 0 and puts the cause here.
        (Engine({"ServerVersion": "", "ServerErrors": ["Cannot connect"]}), ["Cannot connect", "start it"]),
        (
            Engine(answers={"docker info": (1, "permission denied while trying to connect")}),
            ["permission denied", "usermod -aG docker"],
        ),
        (Engine({"ServerVersion": "19.03.15"}), ["Docker Engine 19.03.15 is too old", "20.10"]),
        (Engine(answers={"docker compose version": (1, "unknown command")}), ["no compose plugin", "docs.docker.com"]),
        (Engine(answers={"docker compose version": (0, "1.29.2")}), ["docker compose 1.29.2 is too old", "2.21"]),
        (Engine(answers={"docker buildx version": (1, "")}), ["buildx", "docs.docker.com"]),
    ],
)
def test_an_engine_that_will_not_do_is_named_with_the_remedy(engine: Engine, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        look(engine)
    assert all(word in str(error.value) for word in words), str(error.value)


def _problems(**changes: Any) -> list[str]:
    facts: dict[str, Any] = {
        "machine": Machine(16 * GIB, Path("/"), gpus=False),
        "workers": 2,
        "has_image": False,
        "gpu": False,
        "ports": {"MLFLOW_PORT": 5000, "DASHBOARD_PORT": 8265},
        "free_disk": lambda path: 100 * GIB,
        "port_free": lambda port: True,
    }
    facts |= changes
    return problems(facts.pop("machine"), **facts)


def test_a_machine_with_room_has_no_problem() -> None:
    assert _problems() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"machine": Machine(3 * GIB, Path("/"), False)}, ["2 workers", "4 GiB of memory", "has 3.0", "WORKERS=1"]),
        ({"free_disk": lambda path: IMAGE_BYTES - 1}, ["20 GiB under /", "docker system prune"]),
        ({"port_free": lambda port: port != 5000}, ["port 5000", "MLFLOW_PORT=5001"]),
        ({"gpu": True}, ["GPU=1", "NVIDIA container toolkit"]),
    ],
)
def test_what_is_missing_is_named_with_the_remedy(changes: dict[str, Any], words: list[str]) -> None:
    (line,) = _problems(**changes)
    assert all(word in line for word in words), line


def test_all_problems_are_told_at_once() -> None:
    small = Machine(GIB, Path("/"), gpus=False)
    assert len(_problems(machine=small, free_disk=lambda path: 0, gpu=True, port_free=lambda port: False)) == 5


def test_an_image_that_is_there_needs_a_layer_only_and_a_far_disk_is_not_judged() -> None:
    assert _problems(has_image=True, free_disk=lambda path: LAYER_BYTES) == []
    assert _problems(machine=Machine(16 * GIB, None, False), free_disk=lambda path: 0) == []


def test_memory_grows_with_the_workers() -> None:
    machine = Machine(4 * GIB, None, gpus=False)
    assert _problems(machine=machine, workers=2) == []
    assert len(_problems(machine=machine, workers=3)) == 1


def test_a_taken_port_is_seen() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)


def test_the_command_line_ends_with_2_and_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no docker there
    for words in (["up"], ["status"], ["logs"], ["stop", "demo"], ["down"], ["submit", "run"]):
        assert main(words) == 2, words
        assert "docker is not installed" in capsys.readouterr().err
    assert main(["up", "--workers", "0"]) == 2
    assert "WORKERS must be at least 1" in capsys.readouterr().err


def test_a_database_whose_password_is_lost_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "secrets": {"postgres_password": {"file": str(tmp_path / "postgres_password")}},
        "volumes": {"postgres": {"name": "safe_postgres"}},
    }
    monkeypatch.setattr(commands.machine, "run_command", lambda words: (0, "the volume exists"))
    with pytest.raises(UserError, match=r"safe_postgres was made with a password.*cluster-down"):
        commands.secrets(settings)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(commands.machine, "run_command", lambda words: (1, "no such volume"))
    commands.secrets(settings)
    assert (tmp_path / "postgres_password").exists()


FAILED_BUILD = """\
#1 [internal] load build definition from Dockerfile
#1 DONE 0.0s
#12 [stage-1 5/9] RUN pip install --requirement requirements.txt --constraint constraints.txt
#12 11.20 Collecting gdown<7,>=6.5
#12 11.22 The conflict is caused by:
#12 11.22     The user requested (constraint) soupsieve==4.1.2
#12 11.31 ERROR: ResolutionImpossible: for help visit https://pip.pypa.io
#12 ERROR: process "/bin/sh -c pip install" did not complete successfully: exit code: 1
------
 > [stage-1 5/9] RUN pip install --requirement requirements.txt --constraint constraints.txt:
11.31 ERROR: ResolutionImpossible: for help visit https://pip.pypa.io
------
Dockerfile:20
--------------------
  20 | >>> RUN pip install
--------------------
failed to solve: process "/bin/sh -c pip install" did not complete successfully: exit code: 1
"""


def test_a_build_that_fails_ends_with_what_pip_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "said").write_text(FAILED_BUILD)
    (tmp_path / "docker").write_text(f"#!/bin/sh\ncat {tmp_path}/said >&2\nexit 17\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(commands.machine, "look", lambda: None)
    with pytest.raises(UserError) as refused:
        commands.build(Compose(), "safe-sweeps:local", before="sha256:0")
    assert str(refused.value).splitlines() == [
        "the image could not be built:",
        "Collecting gdown<7,>=6.5",
        "The conflict is caused by:",
        "    The user requested (constraint) soupsieve==4.1.2",
        "ERROR: ResolutionImpossible: for help visit https://pip.pypa.io",
    ]
    (tmp_path / "said").write_text("no space left on device\n")
    with pytest.raises(UserError, match=r"^the image could not be built:\nno space left on device$"):
        commands.build(Compose(), "safe-sweeps:local", before="sha256:0")
