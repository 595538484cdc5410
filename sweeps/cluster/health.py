"""`python -m sweeps.cluster.health PART`: whether a container does its work, asked as a client asks.

It runs every few seconds in every container, hence the standard library alone. Exit code 0 or, with the reason, 1.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import urllib.request
from pathlib import Path
from typing import Any

MLFLOW = "http://mlflow:5000"
DASHBOARD = "http://ray-head:8265"
TIMEOUT_S = 8.0


def main(argv: list[str]) -> int:
    """Check one part: mlflow, head or worker."""
    try:
        {"mlflow": check_mlflow, "head": check_head, "worker": check_worker}[argv[0]]()
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def check_mlflow() -> None:
    """A client's call by the service's name: passes the Host check and reads the database."""
    get(f"{MLFLOW}/api/2.0/mlflow/experiments/search?max_results=1")


def check_head() -> None:
    """The job server answers to the token."""
    get(f"{DASHBOARD}/api/jobs/", token())


def check_worker() -> None:
    """The head counts this node among the living."""
    address = socket.gethostbyname(socket.gethostname())
    if address not in alive(get(f"{DASHBOARD}/nodes?view=summary", token())):
        raise ValueError(f"the head knows no living node {address}")


def alive(summary: dict[str, Any]) -> set[str]:
    """Return the addresses of the living nodes in the dashboard's summary."""
    nodes = summary["data"]["summary"]
    return {node["raylet"]["nodeManagerAddress"] for node in nodes if node["raylet"].get("state") == "ALIVE"}


def token() -> str:
    """Return the token of the cluster."""
    return Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text("utf-8").strip()


def get(url: str, token: str | None = None) -> Any:
    """Return the JSON at `url`; OSError when it is refused, ValueError when it is no JSON."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
