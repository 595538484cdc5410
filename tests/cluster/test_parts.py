"""The parts of the cluster that work without one: secrets, GPU claims, the shape of a sweep, what is submitted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from safe.errors import UserError
from sweeps.cluster import gpus, health, passwords
from sweeps.cluster.commands import uploaded
from sweeps.cluster.compose import DOCKER_FOLDER, Compose
from sweeps.cluster.job import with_data_root
from sweeps.cluster.passwords import container_user, write_secrets
from sweeps.cluster.submit import named
from sweeps.doctor.nodes import Size, shape, wait_for_workers
from sweeps.engine.joining import existing_ray
from sweeps.spec.machine import ray_address
from tracking.environment import commit_of

# ----------------------------------------------------------------- secrets


def test_secrets_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert set(write_secrets(folder)) == {"postgres_password", "pgpass", "ray_token", "aws_credentials"}
    first = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert {path.stat().st_uid for path in folder.iterdir()} == {container_user()[0]}
    assert re.fullmatch("[0-9a-f]{64}", first["ray_token"])
    assert first["pgpass"] == f"*:*:*:mlflow:{first['postgres_password']}\n"
    assert first["postgres_password"] != first["ray_token"]
    assert write_secrets(folder) == []
    assert {path.name: path.read_text("utf-8") for path in folder.iterdir()} == first
    (folder / "pgpass").unlink()
    assert write_secrets(folder) == ["pgpass"]
    assert (folder / "pgpass").read_text("utf-8") == first["pgpass"]


@pytest.mark.parametrize(("caller", "user"), [((0, 0), (1000, 1000)), ((1234, 55), (1234, 55))])
def test_containers_never_run_as_root(
    monkeypatch: pytest.MonkeyPatch, caller: tuple[int, int], user: tuple[int, int]
) -> None:
    monkeypatch.setattr(passwords.os, "getuid", lambda: caller[0])
    monkeypatch.setattr(passwords.os, "getgid", lambda: caller[1])
    assert container_user() == user
    assert Compose().environment["USER_ID"] == str(user[0])


# ------------------------------------------------------------- compose files


def test_the_image_is_told_the_commit_of_its_code() -> None:
    root = DOCKER_FOLDER.parent
    assert Compose().environment["SAFE_COMMIT"] == commit_of(root)
    arguments = yaml.safe_load((DOCKER_FOLDER / "compose.yaml").read_text("utf-8"))["services"]["ray-head"]["build"]
    assert arguments["args"]["SAFE_COMMIT"] == "${SAFE_COMMIT:-}"
    assert "ENV SAFE_COMMIT=${SAFE_COMMIT}" in (DOCKER_FOLDER / "Dockerfile").read_text("utf-8")


def test_the_compose_files_publish_on_the_loopback_address_only_and_hold_no_secret() -> None:
    services = yaml.safe_load((DOCKER_FOLDER / "compose.yaml").read_text("utf-8"))["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)
    named_secretly = [
        (service, key)
        for service, part in services.items()
        for key in part.get("environment", {})
        if re.search("PASS|TOKEN|SECRET|CREDENTIAL", key) and not re.search("(_FILE|_PATH)$|^PGPASSFILE$", key)
    ]
    assert named_secretly == []
    assert all(service["restart"] == "unless-stopped" and "mem_limit" in service for service in services.values())
    assert all("healthcheck" in service for service in services.values())


def test_the_gpu_file_changes_workers_only_and_keeps_their_command() -> None:
    services = yaml.safe_load((DOCKER_FOLDER / "compose.gpu.yaml").read_text("utf-8"))["services"]
    assert list(services) == ["ray-worker"]
    assert "command" not in services["ray-worker"]
    assert services["ray-worker"]["entrypoint"][-1] == gpus.__name__


def test_the_image_installs_what_the_project_and_its_extras_ask_for() -> None:
    root = DOCKER_FOLDER.parent
    words = [sys.executable, str(DOCKER_FOLDER / "requirements.py"), str(root / "pyproject.toml")]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {"torch", "mlflow[auth]", "ray[default]", "ray[tune]", "psycopg2-binary"} <= {
        re.split("[<>=]", line)[0] for line in printed
    }
    assert not any("pytest" in line or "ruff" in line for line in printed)


# --------------------------------------------------------------- health checks


def test_only_living_nodes_count() -> None:
    def node(address: str, state: str) -> dict[str, object]:
        return {"raylet": {"nodeManagerAddress": address, "state": state}}

    summary = {
        "data": {
            "summary": [
                node("10.0.0.2", "ALIVE"),
                node("10.0.0.3", "DEAD"),
                {"raylet": {"nodeManagerAddress": "10.0.0.4"}},
            ]
        }
    }
    assert health.alive(summary) == {"10.0.0.2"}


def test_a_check_that_reaches_nobody_fails_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(health, "MLFLOW", "http://127.0.0.1:9")
    assert health.main(["mlflow"]) == 1
    assert "refused" in capsys.readouterr().err


def test_health_checks_and_the_hosts_commands_need_the_standard_library_alone() -> None:
    code = "import sys, sweeps.cluster.__main__, sweeps.cluster.health; print(sorted(sys.modules))"
    words = [sys.executable, "-S", "-c", code]
    root = str(DOCKER_FOLDER.parent)
    done = subprocess.run(words, cwd=root, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------ GPUs


def test_a_claim_is_held_by_the_command_that_follows_and_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, sys; from pathlib import Path; from sweeps.cluster import gpus;"
        "print(gpus.options('one', ['GPU-a', 'GPU-b'], Path(sys.argv[1])), os.environ['CUDA_VISIBLE_DEVICES'],"
        "      flush=True); os.execvp('cat', ['cat'])"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(DOCKER_FOLDER.parent)}
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "['--num-gpus=1'] GPU-a\n"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert gpus.claim(["GPU-a", "GPU-b"], tmp_path) == "GPU-b"
        with pytest.raises(UserError, match="all 2 GPUs are claimed"):
            gpus.claim(["GPU-a", "GPU-b"], tmp_path)
    assert gpus.claim(["GPU-a", "GPU-b"], tmp_path) == "GPU-a"


def test_shared_gpus_are_all_used_by_each_worker(tmp_path: Path) -> None:
    assert gpus.options("shared", ["GPU-a", "GPU-b"], tmp_path) == ["--num-gpus=2"]
    for mode, visible, words in (("one", [], "sees no GPU"), ("half", ["GPU-a"], "one or shared")):
        with pytest.raises(UserError, match=words):
            gpus.options(mode, visible, tmp_path)


# ------------------------------------------------------------ joining a cluster


@pytest.mark.parametrize(("value", "address"), [(None, None), ("", None), ("local", None), ("auto", "auto")])
def test_the_address_decides(monkeypatch: pytest.MonkeyPatch, value: str | None, address: str | None) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if value is not None:
        monkeypatch.setenv("RAY_ADDRESS", value)
    assert ray_address() == address


def test_the_address_of_a_job_server_is_no_cluster_to_join() -> None:
    with pytest.raises(UserError, match=r"sweeps\.cluster\.submit"), existing_ray("http://127.0.0.1:8265"):
        pass


@pytest.mark.parametrize(
    ("sizes", "threads", "gpus", "expected"),
    [
        ([Size(1, 0), Size(1, 0)], 0, True, (2, 1)),
        ([Size(4, 0), Size(2, 0)], 0, True, (6, 1)),
        ([Size(4, 0), Size(2, 0)], 2, True, (3, 2)),
        ([Size(4, 0), Size(2, 0)], 3, True, (1, 3)),
        ([Size(16, 1), Size(16, 1)], 0, True, (2, 16)),
        ([Size(16, 4), Size(8, 1)], 0, True, (5, 4)),
        ([Size(16, 1), Size(16, 0)], 0, True, (1, 16)),  # runs with and without a GPU would not be comparable
        ([Size(16, 1), Size(4, 0)], 0, False, (20, 1)),
        ([Size(2, 4)], 2, True, (1, 2)),
    ],
)
def test_the_shape_of_a_sweep_follows_the_nodes(
    sizes: list[Size], threads: int, gpus: bool, expected: tuple[int, int]
) -> None:
    assert shape(sizes, threads, gpus) == expected


def test_more_threads_than_any_node_has_are_refused() -> None:
    with pytest.raises(UserError, match=r"runtime\.threads=8, but no worker has more than 4 CPUs"):
        shape([Size(4, 0), Size(2, 0)], 8)


def test_waiting_ends_with_the_workers_or_with_their_number() -> None:
    growing = iter([[], [Size(1, 0)], [Size(1, 0), Size(1, 0)]])
    assert wait_for_workers(2, lambda: next(growing), pause_s=0.0) == [Size(1, 0), Size(1, 0)]
    with pytest.raises(UserError, match="1 of 3 workers"):
        wait_for_workers(3, lambda: [Size(1, 0)], timeout_s=0.0, pause_s=0.0)


# --------------------------------------------------------------- what is handed in


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["run", "--dataset", "digits", "--name", "demo"], "demo"),
        (["run", "--dataset", "glyphs"], r"glyphs-\d{8}-\d{6}"),
        (["ablation", "--dataset", "glyphs"], "glyphs-ablation"),
    ],
)
def test_a_sweep_is_named_before_it_is_handed_in(words: Sequence[str], pattern: str) -> None:
    complete, name = named(words)
    assert re.fullmatch(pattern, name)
    assert complete == [*words] if "--name" in words else complete == [*words, "--name", name]


def test_a_name_that_cannot_be_one_is_refused_before_anything_runs() -> None:
    with pytest.raises(UserError, match="cannot name a sweep"):
        named(["run", "--name", "../x"])


@pytest.mark.parametrize("address", ["s3://bucket/results", "gs://bucket/results"])
def test_results_in_an_object_store_are_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    monkeypatch.setenv("RESULTS", address)
    with pytest.raises(SystemExit) as refused:
        named(["run", "--dataset", "digits"])
    assert refused.value.code == 2
    assert f"{address} is no folder; results need one" in capsys.readouterr().err


def test_the_clusters_data_folder_is_used_unless_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAFE_DATA", raising=False)
    assert with_data_root(["run"]) == ["run"]
    monkeypatch.setenv("SAFE_DATA", "/srv/safe/data")
    assert with_data_root(["run"]) == ["run", "data.root=/srv/safe/data"]
    assert with_data_root(["run", "data.root=/mine"]) == ["run", "data.root=/mine"]


def test_the_kuberay_manifest_is_one_rayjob_whose_pods_share_image_storage_and_user() -> None:
    job = yaml.safe_load((DOCKER_FOLDER / "kuberay" / "rayjob.yaml").read_text("utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert len(pods) == 2
    specs = [pod["template"]["spec"] for pod in pods]
    for spec in specs:
        (container,) = spec["containers"]
        assert container["image"] == specs[0]["containers"][0]["image"]
        assert container["volumeMounts"] == [{"name": "storage", "mountPath": "/srv/safe"}]
        assert spec["volumes"][0]["name"] == "storage"
        assert spec["securityContext"]["runAsNonRoot"] is True
    head, worker = pods
    assert head["rayStartParams"]["num-cpus"] == "0"
    words = job["spec"]["entrypoint"].split()
    assert words[:3] == ["python", "-m", "sweeps.cluster.job"]
    assert int(words[words.index("--workers") + 1]) == worker["replicas"]


def test_a_space_and_an_order_of_classes_go_along_with_a_command(tmp_path: Path) -> None:
    written = {}

    class Head:
        def capture(self, *words: str, input: str) -> None:
            written[words[-1].rpartition("cat > ")[2]] = input

    space, names = tmp_path / "space.yaml", tmp_path / "names.txt"
    space.write_text("slow.lr: 0.1\n")
    names.write_text("é\nbee\n", "utf-8")
    words = ["run", "--space", str(space), f"data.class_order={names}", "seed=1"]
    there = "/srv/safe/uploads"
    expected = ["run", "--space", f"{there}/space.yaml", f"data.class_order={there}/names.txt", "seed=1"]
    assert uploaded(Head(), words) == expected  # type: ignore[arg-type]
    assert written == {f"{there}/space.yaml": "slow.lr: 0.1\n", f"{there}/names.txt": "é\nbee\n"}
    for order in ("seeded", "natural", "[é, bee]"):
        assert uploaded(Head(), ["run", f"data.class_order={order}"]) == ["run", f"data.class_order={order}"]  # type: ignore[arg-type]
