"""Handing sweeps to a job server that exists only here."""

from __future__ import annotations

import json
import shlex
from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from safe.config import parse_overrides
from safe.errors import UserError
from sweeps.cluster import submit as module
from sweeps.cluster.compose import DOCKER_FOLDER
from sweeps.cluster.submit import ask, follow, main, newest, stop, submit, with_names
from tracking.environment import commit_of


class Status(StrEnum):
    """As Ray's: equal to its word."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"


class Server:
    """Holds jobs; a job ends with `end` once its log is read, or is stopped."""

    def __init__(self, end: Status = Status.SUCCEEDED, code: int = 0) -> None:
        self.jobs: dict[str, SimpleNamespace] = {}
        self.end, self.code = end, code

    def add(self, sweep: str | None, status: Status, began: int) -> str:
        name = f"job-{began}"
        metadata = {} if sweep is None else {"sweep": sweep}
        self.jobs[name] = SimpleNamespace(
            submission_id=name, metadata=metadata, status=status, start_time=began, driver_exit_code=None
        )
        return name

    def submit_job(
        self, *, entrypoint: str, submission_id: str = "asked", metadata: Any = None, runtime_env: Any
    ) -> str:
        self.add((metadata or {}).get("sweep"), Status.RUNNING, 1000 + len(self.jobs))
        self.jobs[submission_id] = self.jobs.pop(f"job-{999 + len(self.jobs)}")
        self.jobs[submission_id].submission_id = submission_id
        self.jobs[submission_id].metadata = metadata or {}
        self.entrypoint, self.environment = entrypoint, runtime_env
        return submission_id

    def list_jobs(self) -> list[SimpleNamespace]:
        return list(self.jobs.values())

    def get_job_info(self, job: str) -> SimpleNamespace:
        return self.jobs[job]

    def get_job_status(self, job: str) -> Status:
        status: Status = self.jobs[job].status
        return status

    def stop_job(self, job: str) -> bool:
        self.jobs[job].status = Status.STOPPED
        return True

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        yield f"log of {job}\n"
        self.jobs[job].status, self.jobs[job].driver_exit_code = self.end, self.code


WORDS = ["run", "--dataset", "digits", "--name", "demo", "fast.epochs=3"]


def test_a_sweep_becomes_a_job_that_is_followed_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    server: Any = Server()
    assert submit(server, WORDS, workers=2, attached=False) == 0
    (job,) = server.jobs.values()
    assert job.metadata == {"sweep": "demo"}
    assert shlex.split(server.entrypoint) == ["python", "-m", "sweeps.cluster.job", "--workers", "2", *WORDS]
    assert server.environment == {}  # the code is in the image
    printed = capsys.readouterr().out
    assert printed.startswith(f"job {job.submission_id}: the sweep demo")
    assert printed.endswith(f"log of {job.submission_id}\n")


def test_a_sweep_that_runs_is_followed_and_not_begun_twice(capsys: pytest.CaptureFixture[str]) -> None:
    server: Any = Server()
    server.add("demo", Status.FAILED, 1)
    running = server.add("demo", Status.RUNNING, 2)
    assert submit(server, WORDS, workers=1, attached=False) == 0
    assert len(server.jobs) == 2
    assert f"runs already, as job {running}" in capsys.readouterr().out
    # Its end frees the name: the same words begin the next job, which continues the sweep.
    assert submit(server, WORDS, workers=1, attached=False) == 0
    assert len(server.jobs) == 3


@pytest.mark.parametrize(
    ("end", "code", "expected"),
    [(Status.SUCCEEDED, 0, 0), (Status.FAILED, 2, 2), (Status.FAILED, 0, 1), (Status.STOPPED, 0, 130)],
)
def test_following_ends_with_the_jobs_own_exit_code(end: Status, code: int, expected: int) -> None:
    server: Any = Server(end, code)
    job = server.get_job_info(server.add("demo", Status.RUNNING, 1))
    assert follow(server, job, attached=False) == expected


def test_a_server_elsewhere_is_sent_the_code_and_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    monkeypatch.setenv("RESULTS", "/shared/results")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.delenv("SAFE_DATA", raising=False)
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("SAFE_IMAGE_CACHE", "/local/disk")
    monkeypatch.delenv("SAFE_IMAGE_CACHE_GIB", raising=False)
    server: Any = Server()
    submit(server, WORDS, workers=1, attached=False)
    assert server.environment["env_vars"] == {
        "RESULTS": "/shared/results",
        "SAFE_IMAGE_CACHE": "/local/disk",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "SAFE_COMMIT": commit_of(DOCKER_FOLDER.parent),
    }
    assert [path.rsplit("/", 1)[1] for path in server.environment["py_modules"]] == ["safe", "sweeps", "tracking"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:s3cr3t@mlflow:5000")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI must not hold a user name or a password") as error:
        submit(server, [*WORDS, "--name", "other"], workers=1, attached=False)
    assert "s3cr3t" not in str(error.value)
    monkeypatch.setenv("RESULTS", "results")
    with pytest.raises(UserError, match="RESULTS=results must be the absolute path"):
        submit(server, [*WORDS, "--name", "other"], workers=1, attached=False)


def test_an_order_of_classes_goes_along_by_its_names(tmp_path: Path) -> None:
    server: Any = Server()
    names = ["7", "0", "tic tac", "it's", "2", "#1", "é 😀"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    submit(server, [*WORDS, f"data.class_order={tmp_path}/names.txt"], workers=1, attached=False)
    word = shlex.split(server.entrypoint)[-1]
    assert parse_overrides([word]) == {"data.class_order": names}
    assert with_names([word, "data.class_order=natural", "seed=1"]) == [word, "data.class_order=natural", "seed=1"]


def test_stopping_ends_the_newest_job_and_refuses_what_does_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    server: Any = Server()
    server.add("demo", Status.SUCCEEDED, 1)
    running = server.add("demo", Status.RUNNING, 2)
    server.add(None, Status.RUNNING, 3)  # somebody else's job
    assert stop(server, "demo") == 0
    assert server.jobs[running].status is Status.STOPPED
    assert server.jobs["job-3"].status is Status.RUNNING
    assert "continues it" in capsys.readouterr().out
    with pytest.raises(UserError, match="does not run: its newest job job-2 has stopped"):
        stop(server, "demo")
    with pytest.raises(UserError, match=r"no sweep called 'demi'; known: demo\. Did you mean 'demo'\?"):
        newest(server, "demi")


def test_a_trial_is_added_and_dropped_where_the_results_lie(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server: Any = Server(code=2, end=Status.FAILED)
    assert ask(server, ["add", "demo", "slow.lr=1e-1"]) == 2, "the command's own exit code"
    assert server.entrypoint == "python -m sweeps add demo slow.lr=1e-1"
    assert server.environment == {}
    assert "log of asked" in capsys.readouterr().out
    with pytest.raises(UserError, match="no sweep called 'demo'"):
        newest(server, "demo")  # it is no sweep of its own
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    monkeypatch.setenv("RESULTS", "/shared/results")
    ask(server, ["drop", "demo", "trial-03"])
    assert server.environment["env_vars"]["RESULTS"] == "/shared/results"


def test_a_trial_is_added_with_the_modules_that_its_sweep_was_handed_in_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "own_parts_of_a_sweep.py"
    own.write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    monkeypatch.setenv("RESULTS", "/shared/results")
    server: Any = Server()
    submit(server, [*WORDS, "--import", own.stem], workers=1, attached=False)
    handed_in = server.environment
    assert str(own) in handed_in["py_modules"]
    submit(server, ["run", "--dataset", "digits", "--name", "other"], workers=1, attached=False)
    assert str(own) not in server.environment["py_modules"]
    for words in (["add", "demo", "slow.lr=1e-1"], ["drop", "demo", "trial-03"]):
        ask(server, words)
        assert server.environment == handed_in
    ask(server, ["add", "slow.lr=1e-1"])
    assert str(own) not in server.environment["py_modules"], "the newest sweep has none"


def test_the_list_is_json_with_the_newest_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server()
    server.add("old", Status.SUCCEEDED, 1)
    server.add("new", Status.RUNNING, 2)
    monkeypatch.setattr(module, "client", lambda: server)
    assert main(["list"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["sweep"], row["status"]) for row in rows] == [("new", "RUNNING"), ("old", "SUCCEEDED")]
    assert main(["go"]) == 2
    assert "unknown command 'go'" in capsys.readouterr().err
    assert main(["run", "--name", "../x"]) == 2
