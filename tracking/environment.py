"""What surrounds a run: package versions, the commit of the code, telemetry switched off, proxies for others only."""

from __future__ import annotations

import getpass
import importlib.metadata
import ipaddress
import os
import platform
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

PACKAGES = ("torch", "timm", "ray", "mlflow", "numpy")

COMMIT = "SAFE_COMMIT"  # the variable that tells the commit where the code comes without its checkout, as in an image
_DIRTY = "-dirty"

_GIT_TIMEOUT_S = 5

# Trying again is the journal's task, which tells it once; MLflow would report every try, and print links and bars.
_CLIENT_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def telemetry_off() -> None:
    """Switch MLflow's usage reports off for this process and its children; call it before mlflow is imported.

    A variable that is already set is left as it is: that is somebody's decision.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")


def client_defaults() -> None:
    """Have MLflow's client, in this process and its children, report nothing to anybody; as `telemetry_off`."""
    telemetry_off()
    for name, value in _CLIENT_DEFAULTS.items():
        os.environ.setdefault(name, value)


def reach_directly(uri: str) -> None:
    """Have this process and its children reach a server on this machine without a proxy, which sees another machine.

    Clients leave out a proxy only for the hosts in `no_proxy`, which need not name this machine's.
    """
    host = urlsplit(uri).hostname or ""
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost" or host.endswith(".localhost")
    spared = (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").strip()  # as clients look for it
    if here and spared != "*":
        names = [host, *([f"[{host}]"] if ":" in host else [])]  # some look for an IPv6 address with its brackets
        os.environ["no_proxy"] = ",".join(dict.fromkeys([*filter(None, spared.split(",")), *names]))


def environment_tags() -> dict[str, str]:
    """Return what may differ when a run is resumed, as tags; nothing in it names the machine or its user.

    `version.<package>` for the installed ones of PACKAGES (read from their metadata, none is imported),
    `version.python`, `platform`, and the tags of `git_tags` for the checkout this file is part of, or else those that
    SAFE_COMMIT tells.
    """
    tags = {"version.python": platform.python_version(), "platform": f"{platform.system()}-{platform.machine()}"}
    for package in PACKAGES:
        try:
            tags[f"version.{package}"] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return tags | (git_tags(Path(__file__).resolve().parents[1]) or told_tags(os.environ.get(COMMIT, "")))


def source_tags(command: str) -> dict[str, str]:
    """Return the tags that MLflow's pages show as a run's source and user; without a user where nobody knows one."""
    tags = {"mlflow.source.name": command, "mlflow.source.type": "LOCAL"}
    try:
        return {**tags, "mlflow.user": getpass.getuser()}
    except (OSError, KeyError, ImportError):  # no account has the number that this process runs under
        return tags


def commit_of(checkout: Path) -> str:
    """Return the commit of `checkout` as SAFE_COMMIT tells it: `-dirty` behind it when it was changed, "" for none."""
    tags = git_tags(checkout)
    return tags["git.commit"] + _DIRTY * (tags["git.dirty"] == "true") if tags else ""


def told_tags(commit: str) -> dict[str, str]:
    """Return the tags of `git_tags` for what `commit_of` gave."""
    if not commit:
        return {}
    return {"git.commit": commit.removesuffix(_DIRTY), "git.dirty": str(commit.endswith(_DIRTY)).lower()}


def git_tags(checkout: Path) -> dict[str, str]:
    """Return `git.commit` and `git.dirty` ("true" when a tracked file was changed) of `checkout`.

    Empty when `checkout` is not the top of a git checkout, has no commit, or git is missing or slow: an installed
    package may lie inside an unrelated checkout, whose commit would be wrong. Never raises.
    """
    try:
        if Path(_git(checkout, "rev-parse", "--show-toplevel")) != checkout.resolve():
            return {}
        commit = _git(checkout, "rev-parse", "HEAD")
        dirty = bool(_git(checkout, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"git.commit": commit, "git.dirty": str(dirty).lower()}


def _git(checkout: Path, *arguments: str) -> str:
    # GIT_DIR and its like (set inside git hooks) would point git elsewhere; optional locks would write to the index.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-C", str(checkout), *arguments],
        env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        text=True,
        timeout=_GIT_TIMEOUT_S,
    )
    return done.stdout.strip()
