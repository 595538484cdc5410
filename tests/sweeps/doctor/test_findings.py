"""The doctor: what it sees on this machine, and what it says of reports made by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import ViewType

from safe.config import load_config
from safe.errors import UserError
from sweeps.cli import main
from sweeps.doctor import examine
from sweeps.doctor import findings as doctor
from sweeps.doctor.examine import Node, Report, ThisMachine, Wants, code_digest, look_again
from sweeps.doctor.findings import GIB, Finding, diagnose, findings, grouped, healthy
from tracking.mlflow_backend import connect

DIGEST = "f" * 64


def _wants(results: Path | str = "/shared/results", device: str = "auto", uri: str = "sqlite:////nowhere.db") -> Wants:
    return replace(Wants.of(load_config("digits"), Path(results), uri), device=device)


def _report(name: str, *, runs: bool = True, everybody: Sequence[str] = ("head", "one", "two")) -> Report:
    return Report(
        Node(name, runs),
        versions={"python": "3.11.9", "torch": "2.9.0", "this project's code": "abc"},
        facts={"free": 9 * GIB, "data": DIGEST, "weights": DIGEST, "shared memory": GIB, "mlflow": "a test run"},
        seen=list(everybody),
    )


def _cluster() -> list[Report]:
    return [_report("head", runs=False), _report("one"), _report("two")]


def _bad(diagnosis: Sequence[Finding]) -> list[tuple[str, str]]:
    return [(finding.check, finding.node) for finding in diagnosis if finding.state == "bad"]


def test_a_cluster_that_agrees_is_healthy() -> None:
    diagnosis = findings(_wants(), _cluster())
    assert healthy(diagnosis)
    # The head takes no runs, so nobody asks for its GPU.
    assert [finding.node for finding in diagnosis if finding.check == "GPU"] == ["one", "two"]
    assert {finding.state for finding in diagnosis if finding.check == "GPU"} == {"note"}


def _no_data(report: Report) -> None:
    del report.facts["data"]
    report.errors["data"] = "digits is not there"


BREAK: dict[str, tuple[Callable[[Report], Any], str, str]] = {
    "another torch": (lambda r: r.versions.update(torch="2.8.0"), "versions", "torch 2.8.0, driver 2.9.0"),
    "a package less": (lambda r: r.versions.pop("torch"), "versions", "torch missing, driver 2.9.0"),
    "a package more": (lambda r: r.versions.update(timm="1.0"), "versions", "timm 1.0, driver missing"),
    "read-only storage": (lambda r: r.errors.update(storage="Read-only file system"), "storage", "Read-only"),
    "a folder of its own": (lambda r: setattr(r, "seen", ["two"]), "storage", "written by head, one"),
    "a full disk": (lambda r: r.facts.update(free=GIB), "free disk", "1.0 GiB"),
    "no data": (_no_data, "data", "digits is not there"),
    "other data": (lambda r: r.facts.update(data="e" * 64), "data", "digest eeeeeeeeeeee, elsewhere ffffffffffff"),
    "other weights": (lambda r: r.facts.update(weights="e" * 64), "weights", "digest eeeeeeeeeeee"),
    "a wrong clock": (lambda r: setattr(r, "skew", 3.04), "clock", "3.0 s off"),
    "docker's default shm": (lambda r: r.facts.update({"shared memory": 64 * 2**20}), "shared memory", "64 MiB"),
    "no way to MLflow": (lambda r: r.errors.update(mlflow="Invalid Host header"), "MLflow", "Invalid Host header"),
    "a lost node": (lambda r: r.errors.update(reach="ActorDiedError"), "reach", "ActorDiedError"),
}


@pytest.mark.parametrize("name", BREAK)
def test_one_broken_node_is_the_only_bad_line_and_has_a_remedy(name: str) -> None:
    damage, check, words = BREAK[name]
    reports = _cluster()
    damage(reports[2])
    diagnosis = findings(_wants(), reports)
    assert _bad(diagnosis) == [(check, "two")]
    (line,) = (finding for finding in diagnosis if finding.state == "bad")
    assert words in line.observation
    assert line.remedy


@pytest.mark.parametrize(
    ("device", "gpus", "bad"),
    [
        ("auto", {}, []),
        ("auto", {"one": ["A"]}, [("GPU", "two")]),
        ("auto", {"one": ["A"], "two": ["A"]}, []),
        ("cpu", {"one": ["A"]}, []),
        ("cuda", {}, [("GPU", "one"), ("GPU", "two")]),
        ("cuda:1", {"one": ["A"]}, [("GPU", "two")]),
    ],
)
def test_gpus_are_asked_for_where_runs_are_placed(
    device: str, gpus: dict[str, list[str]], bad: list[tuple[str, str]]
) -> None:
    reports = _cluster()
    for report in reports:
        report.gpus = gpus.get(report.node.name, [])
    assert _bad(findings(_wants(device=device), reports)) == bad


def test_what_is_the_same_on_several_nodes_is_one_line() -> None:
    reports = _cluster()
    reports[1].facts["free"] = GIB
    lines = {(one.check, one.state): nodes for one, nodes in grouped(findings(_wants(), reports))}
    assert lines["versions", "ok"] == "all 3"
    assert lines["free disk", "ok"] == "head, two"
    assert lines["free disk", "bad"] == "one"


class Cluster:
    """Two nodes in this process; the second has a clock and a folder that may be wrong, or is lost."""

    nodes = (Node("head", runs=False), Node("worker"))

    def __init__(self, *, ahead: float = 0.0, lost: bool = False, other_folder: Path | None = None) -> None:
        self.ahead, self.lost, self.other = ahead, lost, other_folder

    def call(self, node: Node, function: Callable[..., Any], *arguments: Any) -> Any:
        if node.name == "head":
            return function(*arguments)
        if self.lost:
            raise ConnectionError("gone")
        if self.other is not None:
            arguments = tuple(
                str(self.other) if isinstance(argument, str) and doctor.PROBES in argument else argument
                for argument in arguments
            )
        given = function(*arguments)
        return (given[0], given[1] + self.ahead) if function is look_again else given


@pytest.mark.parametrize(
    ("cluster", "bad"),
    [
        (Cluster(), []),
        (Cluster(ahead=60.0), [("clock", "worker")]),
        (Cluster(ahead=-60.0), [("clock", "worker")]),
        (Cluster(lost=True), [("reach", "worker")]),
    ],
)
def test_diagnosis_of_two_nodes(tmp_path: Path, cluster: Cluster, bad: list[tuple[str, str]]) -> None:
    diagnosis = diagnose(_wants(tmp_path / "results"), cluster)
    assert _bad(diagnosis) == bad
    assert list((tmp_path / "results").iterdir()) == []  # nothing is left on the storage


def test_a_node_with_another_folder_at_the_same_path_is_found(tmp_path: Path) -> None:
    diagnosis = diagnose(_wants(tmp_path / "results"), Cluster(other_folder=tmp_path / "other"))
    assert _bad(diagnosis) == [("storage", "head"), ("storage", "worker")]


def test_storage_that_cannot_be_written_is_bad(tmp_path: Path) -> None:
    (tmp_path / "results").write_bytes(b"a file where the folder should be")
    diagnosis = diagnose(_wants(tmp_path / "results"), ThisMachine())
    assert _bad(diagnosis) == [("storage", "this machine")]


def test_absent_data_and_weights_are_bad_and_say_where_they_belong(tmp_path: Path) -> None:
    wants = replace(_wants(tmp_path), dataset="cub200", data_root=str(tmp_path), weights=str(tmp_path / "none.pth"))
    diagnosis = diagnose(wants, ThisMachine())
    assert _bad(diagnosis) == [("data", "this machine"), ("weights", "this machine")]
    (data,) = (finding for finding in diagnosis if finding.check == "data")
    assert str(tmp_path) in data.observation
    assert "safe.data fetch cub200" in data.remedy


def test_an_mlflow_server_that_is_not_there_is_bad(tmp_path: Path) -> None:
    diagnosis = diagnose(_wants(tmp_path, uri="http://127.0.0.1:9"), ThisMachine())
    assert _bad(diagnosis) == [("MLflow", "this machine")]


def test_a_store_of_the_results_is_tried_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "working").mkdir()
    monkeypatch.chdir(tmp_path / "working")
    uri = f"sqlite:///{tmp_path}/results/mlflow.db"
    client = connect(uri)
    (finding,) = (
        one for one in diagnose(_wants(tmp_path / "results", uri=uri), ThisMachine()) if one.check == "MLflow"
    )
    assert (finding.state, finding.observation) == ("ok", "a test run was logged and deleted")
    assert [run.info.lifecycle_stage for run in client.search_runs(["0"], run_view_type=ViewType.ALL)] == ["deleted"]
    assert client.get_experiment("0").artifact_location == f"{(tmp_path / 'results' / 'mlartifacts').as_uri()}/0"
    assert not list((tmp_path / "working").iterdir())


def test_the_code_digest_follows_every_byte_of_the_sources(tmp_path: Path) -> None:
    (tmp_path / "safe").mkdir()
    (tmp_path / "safe" / "a.py").write_text("x = 1", "utf-8")
    before = code_digest(tmp_path)
    (tmp_path / "safe" / "notes.txt").write_text("not code", "utf-8")
    assert code_digest(tmp_path) == before
    (tmp_path / "safe" / "a.py").write_text("x = 2", "utf-8")
    assert code_digest(tmp_path) != before


def test_the_skew_is_only_what_is_certain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow answer says nothing about the clock: the driver's two readings enclose the node's."""

    class Slow(Cluster):
        def call(self, node: Node, function: Callable[..., Any], *arguments: Any) -> Any:
            given = super().call(node, function, *arguments)
            if function is look_again:
                monkeypatch.setattr(time, "time", lambda now=time.time: now() + 100.0)  # the way back takes 100 s
            return given

    assert _bad(diagnose(_wants(tmp_path), Slow())) == []


def test_the_command_prints_json_and_tells_by_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(["doctor", "--json", "--results", str(tmp_path)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["ok"] is True
    assert {line["check"] for line in shown["findings"]} >= {"versions", "storage", "data", "weights", "MLflow"}
    assert main(["doctor", "--results", str(tmp_path), "runtime.device=cuda:99"]) == 1
    printed = capsys.readouterr().out
    assert "not ready" in printed
    assert "runtime.device=cpu" in printed  # the remedy
    assert main(["doctor", "--results", str(tmp_path), "no.setting=1"]) == 2


def test_user_errors_of_a_node_keep_their_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(wants: Wants) -> dict[str, Any]:
        raise UserError("the file is damaged; fetch it again\nsecond line")

    monkeypatch.setattr(examine, "_weights", refuse)
    diagnosis = diagnose(_wants(tmp_path), ThisMachine())
    (line,) = (finding for finding in diagnosis if finding.state == "bad")
    assert line.observation == "the file is damaged; fetch it again"
