"""Tags of the surroundings, and telemetry."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tracking import environment, environment_tags, telemetry_off
from tracking.environment import commit_of, git_tags, reach_directly, told_tags


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text("a = 1\n")
    git(tmp_path, "init")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--no-gpg-sign", "-m", "first")
    return tmp_path


def test_versions_without_the_host() -> None:
    tags = environment_tags()
    assert tags["version.mlflow"] == importlib.metadata.version("mlflow")
    assert tags["version.python"] == platform.python_version()
    assert all(isinstance(value, str) and value for value in tags.values())
    assert platform.node() not in tags.values()


def test_commit_and_dirty(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nonexistent")  # as inside a hook of another checkout
    clean = git_tags(checkout)
    monkeypatch.delenv("GIT_DIR")
    assert clean == {"git.commit": git(checkout, "rev-parse", "HEAD"), "git.dirty": "false"}
    (checkout / "new.txt").write_text("untracked")
    assert git_tags(checkout) == clean
    (checkout / "code.py").write_text("a = 2\n")
    assert git_tags(checkout) == clean | {"git.dirty": "true"}


def test_no_commit_is_invented(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (checkout / "site-packages").mkdir()
    assert git_tags(checkout / "site-packages") == {}, "a package inside an unrelated checkout"
    assert git_tags(tmp_path_factory.mktemp("plain")) == {}
    assert git_tags(checkout / "absent") == {}


def test_a_commit_that_is_told_gives_the_tags_of_the_checkout(checkout: Path) -> None:
    assert told_tags(commit_of(checkout)) == git_tags(checkout)
    (checkout / "code.py").write_text("a = 2\n")
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD") + "-dirty"
    assert told_tags(commit_of(checkout)) == git_tags(checkout)
    assert told_tags(commit_of(checkout / "absent")) == {}


def test_a_checkout_knows_its_commit_better_than_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.setenv("SAFE_COMMIT", "1234-dirty")
    told = {"git.commit": "1234", "git.dirty": "true"}
    assert environment_tags().items() >= (git_tags(root) or told).items()
    monkeypatch.setattr("tracking.environment.git_tags", lambda checkout: {})
    assert environment_tags().items() >= told.items()


def test_git_missing(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_tags(checkout) == {}


def test_telemetry_is_off_unless_decided_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "false")
    telemetry_off()
    assert (os.environ["MLFLOW_DISABLE_TELEMETRY"], os.environ["DO_NOT_TRACK"]) == ("true", "false")


@pytest.mark.parametrize(
    ("uri", "upper", "lower", "expected"),
    [
        ("http://127.0.0.1:5000", None, None, "127.0.0.1"),
        ("http://user:word@localhost:5000/p", "corp.example", None, "corp.example,localhost"),
        ("http://127.0.1.1", "left.out", "a,127.0.1.1", "a,127.0.1.1"),
        ("http://[::1]:5000", None, None, "::1,[::1]"),
        ("http://127.0.0.1", None, "*", "*"),
        ("https://mlflow.example:5000", None, "a", "a"),
        ("http://", None, "a", "a"),
    ],
)
def test_only_servers_of_this_machine_are_reached_directly(
    monkeypatch: pytest.MonkeyPatch, uri: str, upper: str | None, lower: str | None, expected: str
) -> None:
    for name, value in (("NO_PROXY", upper), ("no_proxy", lower)):
        monkeypatch.setenv(name, value or "")
    reach_directly(uri)
    reach_directly(uri)
    assert os.environ["no_proxy"] == expected
    if "example" in uri or uri == "http://":
        return
    from requests.utils import should_bypass_proxies

    assert should_bypass_proxies(uri, None)
    assert urllib.request.proxy_bypass(urlsplit(uri).netloc.rpartition("@")[2])


def test_importing_tracking_imports_nothing_heavy() -> None:
    heavy = ("mlflow", "pandas", "ray", "torch", "safe", "sweeps")
    code = f"import sys, tracking; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_run_has_a_source_and_a_user_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    source = {"mlflow.source.name": "python -m sweeps run", "mlflow.source.type": "LOCAL"}
    monkeypatch.setattr(environment.getpass, "getuser", lambda: "ada")
    assert environment.source_tags("python -m sweeps run") == {**source, "mlflow.user": "ada"}
    monkeypatch.setattr(environment.getpass, "getuser", nobody)
    assert environment.source_tags("python -m sweeps run") == source
