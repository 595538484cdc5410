"""The cluster as a whole, in containers; `make test-cluster` (some minutes, needs a Docker engine)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.driving import browser, chromium

from .driving import ROOT, Cluster, outcome

SMALL = ["--dataset", "digits", "--trials", "4", "--seeds", "1", "--search", "random", "--no-control", "--no-audit"]
QUICK = ["slow.epochs=2", "fast.epochs=2", "runtime.threads=1"]
LONGER = ["slow.epochs=6", "fast.epochs=6", "runtime.threads=1"]  # long enough to be caught in mid-trial


@pytest.fixture(scope="module")
def swept(cluster: Cluster) -> dict[str, Any]:
    """What the small sweep found in the cluster, and on which containers its trials ran."""
    handed_in = cluster.begin("run", *SMALL, "--name", "swept", *QUICK)
    busy: set[int] = set()
    while handed_in.poll() is None:
        for number in (1, 2):
            if cluster.trains(number):
                busy.add(number)
        assert "Trainable" not in cluster.processes(cluster.container("ray-head"))
        time.sleep(1.0)
    assert handed_in.stdout is not None
    assert handed_in.returncode == 0, handed_in.stdout.read()[-3000:]
    return {**outcome(cluster.ledger("swept")), "busy": busy}


def test_everything_answers(cluster: Cluster) -> None:
    printed = cluster("status")
    healthy = re.findall(r"safe-test-(\S+)\s+healthy", printed)
    assert sorted(healthy) == ["mlflow-1", "postgres-1", "ray-head-1", "ray-worker-1", "ray-worker-2"]


def test_trials_run_on_both_workers_and_none_on_the_head(swept: dict[str, Any]) -> None:
    assert swept["busy"] == {1, 2}
    assert set(swept["statuses"].values()) == {"FINISHED"}
    assert len(swept["sessions"]) == 5  # four trials and one final run


def test_the_same_sweep_without_containers_gives_the_same_winner_and_numbers(
    swept: dict[str, Any], tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "sweeps", "run", *SMALL, "--name", "swept", "--results", str(tmp_path), *QUICK]
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")}
    subprocess.run(words, cwd=ROOT, env=environment, check=True, capture_output=True)
    text = (tmp_path / "sweeps" / "swept" / "ledger.jsonl").read_text("utf-8")
    here = outcome([json.loads(line) for line in text.splitlines()])
    assert here["selected"] == swept["selected"]
    assert here["sessions"] == swept["sessions"]


def test_mlflow_shows_the_sweep_to_a_client_on_the_host(cluster: Cluster, swept: dict[str, Any]) -> None:
    runs = cluster.runs("digits")
    tags = {run["info"]["run_id"]: {tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in runs}
    children = [run for run in runs if "mlflow.parentRunId" in tags[run["info"]["run_id"]]]
    (parent,) = (run for run in runs if run not in children)
    assert len(children) == 5
    assert {tags[run["info"]["run_id"]]["mlflow.parentRunId"] for run in children} == {parent["info"]["run_id"]}
    assert {run["info"]["status"] for run in runs} == {"FINISHED"}
    by_key = {tags[run["info"]["run_id"]]["safe.run_key"]: run for run in children}
    key = next(key for key in by_key if key.endswith("trial-00"))
    run_id = by_key[key]["info"]["run_id"]
    history = cluster.mlflow(f"mlflow/metrics/get-history?run_id={run_id}&metric_key=val/accuracy")["metrics"]
    expected = {session: metrics["val/accuracy"] for session, (metrics, _) in swept["sessions"]["trial-00"].items()}
    assert {point["step"]: point["value"] for point in history} == expected
    assert by_key[key]["info"]["artifact_uri"].startswith("mlflow-artifacts:/")  # through the server
    final = next(run for key, run in by_key.items() if "final" in key)["info"]["run_id"]
    files = cluster.mlflow(f"mlflow/artifacts/list?run_id={final}").get("files", [])
    assert files, "the final run has artefacts"


def test_a_browser_shows_the_runs(cluster: Cluster, swept: dict[str, Any], tmp_path: Path) -> None:
    if chromium() is None:
        pytest.skip("no Chromium with chromedriver here")
    experiment = cluster.mlflow("mlflow/experiments/get-by-name?experiment_name=digits")["experiment"]["experiment_id"]
    names = {run["info"]["run_name"] for run in cluster.runs("digits") if _key(run).startswith("swept/")}
    assert len(names) == 5
    by_score = "orderByKey=metrics.%60val%2Faverage_accuracy%60&orderByAsc=false"  # so sorted, runs are not nested
    with browser(tmp_path) as window:
        window.open(f"http://127.0.0.1:{cluster.mlflow_port}/#/experiments/{experiment}/runs?{by_score}")
        window.shows(*names)


# ------------------------------------------------------------------------------- safe by default


def test_a_request_without_the_token_is_refused(cluster: Cluster) -> None:
    for headers, code in (({}, 401), ({"Authorization": "Bearer wrong"}, 403)):
        request = urllib.request.Request(f"http://127.0.0.1:{cluster.dashboard_port}/api/jobs/", headers=headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        assert refused.value.code == code


def test_a_driver_without_the_token_does_not_join(cluster: Cluster) -> None:
    code = "import ray; ray.init(address='ray-head:6379')"
    words = ["exec", "-e", "RAY_AUTH_MODE=disabled", "-e", "RAY_AUTH_TOKEN_PATH=", cluster.container("ray-worker")]
    joined = subprocess.run(["docker", *words, "python", "-c", code], capture_output=True, text=True)
    assert joined.returncode != 0
    assert "token" in joined.stderr.lower()


def test_a_client_with_a_wrong_host_header_is_refused(cluster: Cluster) -> None:
    path = "mlflow/experiments/search?max_results=1"
    for host in (f"localhost:{cluster.mlflow_port}", f"127.0.0.1:{cluster.mlflow_port}"):
        assert "experiments" in cluster.mlflow(path, host=host)
    for host in ("evil.example", f"evil.example:{cluster.mlflow_port}", "mlflow"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            cluster.mlflow(path, host=host)
        assert refused.value.code == 403


def test_no_secret_is_in_the_image_in_inspect_or_on_a_command_line(cluster: Cluster, swept: dict[str, Any]) -> None:
    secrets = [(cluster.secrets / name).read_text("utf-8").strip() for name in ("postgres_password", "ray_token")]
    names = cluster.docker("ps", "--all", "--filter", "name=safe-test", "--format", "{{.Names}}").split()
    assert len(names) == 5
    (image,) = set(cluster.docker("inspect", "--format", "{{.Config.Image}}", *names).split()) - {"postgres:15"}
    told = {
        "inspect": cluster.docker("inspect", *names, image),
        "history": cluster.docker("history", "--no-trunc", image),
        "processes": "".join(cluster.processes(name) for name in names),
    }
    for where, text in told.items():
        assert len(text) > 500, where
        for secret in secrets:
            assert secret not in text, where
    users = {name: cluster.docker("exec", name, "id", "-u").strip() for name in names if "postgres" not in name}
    assert "0" not in users.values()


def test_ports_are_open_on_the_loopback_address_only(cluster: Cluster) -> None:
    names = cluster.docker("ps", "--filter", "name=safe-test", "--format", "{{.Names}}").split()
    bound = [line for name in names for line in cluster.docker("port", name).splitlines()]
    assert len(bound) == 2
    assert all("-> 127.0.0.1:" in line for line in bound)


# ------------------------------------------------------------- a Ray that is there already, by its address


def test_a_job_server_takes_a_sweep_with_the_code_of_this_checkout(cluster: Cluster, swept: dict[str, Any]) -> None:
    environment = {
        **os.environ,
        "RAY_ADDRESS": f"http://127.0.0.1:{cluster.dashboard_port}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(cluster.secrets / "ray_token"),
        "RESULTS": "/srv/safe/results",
        "SAFE_DATA": "/srv/safe/data",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    }
    words = [sys.executable, "-m", "sweeps.cluster.submit", "--workers", "2", "run", *SMALL, "--name", "sent", *QUICK]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert _numbers(outcome(cluster.ledger("sent"))) == _numbers(swept)


def test_a_driver_on_a_node_joins_by_address(cluster: Cluster, swept: dict[str, Any]) -> None:
    words = ["exec", "-e", "RAY_ADDRESS=auto", cluster.container("ray-head"), "python", "-m", "sweeps.cluster.submit"]
    cluster.docker(*words, "--workers", "2", "run", *SMALL, "--name", "joined", *QUICK)
    assert _numbers(outcome(cluster.ledger("joined"))) == _numbers(swept)


def _numbers(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: summary[key] for key in ("selected", "sessions", "statuses")}


# --------------------------------------------------------------------------------- what may happen


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster) -> dict[str, Any]:
    """What the longer sweep finds when nothing happens."""
    cluster("submit", "run", *SMALL, "--fresh", "--name", "undisturbed", *LONGER)
    return outcome(cluster.ledger("undisturbed"))


def _settled(cluster: Cluster, name: str, undisturbed: dict[str, Any]) -> None:
    """The sweep called `name` found what the undisturbed one found, and MLflow has every run ended."""
    summary = outcome(cluster.ledger(name))
    assert summary["selected"] == undisturbed["selected"]
    assert summary["sessions"] == undisturbed["sessions"]
    assert set(summary["statuses"].values()) == {"FINISHED"}
    keys: list[str] = []
    for run in cluster.runs("digits"):
        tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
        if tags["safe.run_key"].split("/")[0] == name:
            keys.append(tags["safe.run_key"])
            assert run["info"]["status"] == "FINISHED", tags["safe.run_key"]
    assert len(keys) == len(set(keys)) == 6


@pytest.mark.parametrize("service", ["ray-worker", "mlflow", "postgres", "ray-head"])
def test_a_killed_container_costs_nothing_but_time(cluster: Cluster, undisturbed: dict[str, Any], service: str) -> None:
    name = f"killed-{service}"
    words = ["run", *SMALL, "--fresh", "--retries", "0", "--name", name, *LONGER]
    handed_in = cluster.begin(*words)
    hit = service == "ray-worker"  # then a run must be there that goes down with it
    cluster.until(lambda: cluster.sessions(name) >= 3 and (cluster.trains(1) or not hit), "the sweep is in mid-trial")
    cluster.docker("kill", cluster.container(service))
    if service != "ray-head":
        time.sleep(10.0)  # it stays away for a while
    cluster("up", "--workers", "2")
    printed = handed_in.communicate(timeout=600)[0]
    if service == "ray-head":  # the job was its
        assert handed_in.returncode != 0
        cluster("submit", *words)
    else:
        assert handed_in.returncode == 0, printed[-3000:]
    _settled(cluster, name, undisturbed)
    failures = [record["reason"] for record in cluster.ledger(name) if record.get("status") == "FAILED"]
    assert bool(failures) == hit, failures
    assert all(reason.startswith("the node it ran on is gone") for reason in failures), failures


def test_leaving_and_stopping_are_two_things(cluster: Cluster, undisturbed: dict[str, Any]) -> None:
    name = "stopped"
    handed_in = cluster.begin("run", *SMALL, "--fresh", "--name", name, *LONGER)
    cluster.until(lambda: cluster.sessions(name) >= 1, "the sweep runs")
    os.killpg(handed_in.pid, signal.SIGINT)  # Ctrl-C
    printed = handed_in.communicate(timeout=60)[0]
    assert handed_in.returncode == 130
    assert "the sweep goes on" in printed
    before = cluster.sessions(name)
    cluster.until(lambda: cluster.sessions(name) > before, "it goes on")
    assert "has ended in order" in cluster("stop", name)
    records = cluster.ledger(name)
    assert "RUNNING" not in outcome(records)["statuses"].values()
    assert {run["info"]["status"] for run in cluster.runs("digits")} <= {"FINISHED", "KILLED"}
    assert "does not run" in cluster("stop", name, expect=2)
    cluster("submit", "run", *SMALL, "--fresh", "--name", name, *LONGER)
    _settled(cluster, name, undisturbed)


def test_two_workers_do_the_work_in_two_thirds_of_the_time(cluster: Cluster) -> None:
    def seconds(workers: int) -> float:
        cluster("up", "--workers", str(workers))
        name = f"scaling-{workers}"
        space = ["--dataset", "digits", "--trials", "8", "--seeds", "1", "--search", "random"]
        cluster("submit", "run", *space, "--no-stages", "--no-control", "--no-audit", "--name", name, *LONGER)
        work = [record["work"]["seconds"] for record in cluster.ledger(name) if record["type"] == "session"]
        assert len(work) == 45
        trials = [run["info"] for run in cluster.runs("digits") if _key(run).startswith(f"{name}/trial")]
        assert len(trials) == 8
        begun, ended = min(info["start_time"] for info in trials), max(info["end_time"] for info in trials)
        return float(ended - begun) / 1000

    one, two = seconds(1), seconds(2)
    print(f"8 trials: {one:.0f} s on one worker, {two:.0f} s on two, {one / two:.2f} times as fast")
    assert one / two >= 1.5


def _key(run: dict[str, Any]) -> str:
    return next(str(tag["value"]) for tag in run["data"]["tags"] if tag["key"] == "safe.run_key")


# ------------------------------------------------------------------------------------- the end


def test_down_leaves_nothing_but_the_data(cluster: Cluster, swept: dict[str, Any]) -> None:
    cluster("down")
    filters: dict[str, Callable[[], str]] = {
        "container": lambda: cluster.docker("ps", "--all", "--quiet", "--filter", "name=safe-test"),
        "network": lambda: cluster.docker("network", "ls", "--quiet", "--filter", "name=safe-test"),
        "process": lambda: "\n".join(
            line for line in subprocess.run(["ps", "-ef"], capture_output=True, text=True).stdout.splitlines()
            if re.search(r"raylet|gcs_server|mlflow server", line) and "safe-test" in line
        ),
    }  # fmt: skip
    assert {what: listed() for what, listed in filters.items()} == dict.fromkeys(filters, "")
    assert len(cluster.docker("volume", "ls", "--quiet", "--filter", "name=safe-test").split()) == 3
    assert cluster("status", expect=1).strip() == "no cluster; start one with: make cluster-up"
    cluster("up", "--workers", "2")
    assert outcome(cluster.ledger("swept"))["selected"] == swept["selected"]
    assert "swept" in {_key(run) for run in cluster.runs("digits")}
