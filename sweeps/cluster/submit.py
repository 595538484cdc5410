"""`python -m sweeps.cluster.submit`: sweeps as jobs of Ray's job server, which outlive the terminal.

    run|ablation|variants ... hand it in, print the job's id, follow its log; what runs already is only followed
    logs NAME                   follow the log of a sweep's newest job
    stop NAME                   end a running sweep in order; handing it in again continues it
    add NAME key=value ...      put a trial into a sweep; drop NAME TRIAL ends one
    list                        the jobs in JSON, the newest first

The server is the one at RAY_ADDRESS (http://host:8265), by default this machine's. A server elsewhere is sent this
checkout's code as well, and the variables in FORWARDED.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shlex
import sys
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from safe.config import parse_overrides
from safe.config.loading import ORDER, with_order
from safe.errors import EXIT_INTERRUPTED, UserError, command_line, nearest
from safe.io.documents import yaml_line
from safe.io.sources import import_own
from sweeps.cluster.job import COMMANDS
from sweeps.cluster.job import main as run_here
from sweeps.spec.machine import ray_address
from tracking.environment import COMMIT, commit_of, reach_directly

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

HERE = "http://127.0.0.1:8265"
SWEEP = "sweep"  # the entry of a job's metadata that names its sweep
IMPORTS = "imports"  # and the one with the modules of a user's own, with commas
FORWARDED = ("RESULTS", "SAFE_DATA", "SAFE_IMAGE_CACHE", "SAFE_IMAGE_CACHE_GIB", "MLFLOW_TRACKING_URI", "HF_HOME")
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
STOP_TIMEOUT_S = 120.0


@command_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code, that of the followed job, 2 (bad input) or 130 (detached or stopped)."""
    parser = argparse.ArgumentParser(prog="python -m sweeps.cluster.submit", allow_abbrev=False)
    parser.add_argument("--workers", type=int, default=1, help="nodes the sweep waits for (default: %(default)s)")
    parser.add_argument("--attached", action="store_true", help="stop following when standard input ends")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND ...")
    arguments = parser.parse_args(argv)
    words = arguments.words
    if words[:1] and words[0] in COMMANDS:
        address = ray_address()
        if address and "://" not in address:  # this machine is a node of the cluster
            return run_here(["--workers", str(arguments.workers), *words])
        return submit(client(), words, arguments.workers, arguments.attached)
    match words:
        case ["logs", name]:
            return follow(client(), newest(client(), name), arguments.attached)
        case ["stop", name]:
            return stop(client(), name)
        case ["add" | "drop", *_]:
            return ask(client(), words)
        case ["list"]:
            print(json.dumps([_row(job) for job in jobs(client())]))
            return 0
    raise UserError(f"unknown command {shlex.join(words)!r}; see python -m sweeps.cluster.submit --help")


def client() -> JobSubmissionClient:
    """Return a client of the job server; `UserError` when none answers or the token is refused."""
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.ERROR)  # it tells when it closes a connection
    address = ray_address() or HERE
    reach_directly(address)
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        first = next(iter(str(error).strip().splitlines()), "")
        raise UserError(f"no Ray job server at {address} takes this: {first}") from None


def submit(server: JobSubmissionClient, words: Sequence[str], workers: int, attached: bool) -> int:
    """Hand a sweep in, unless it runs already, and follow it."""
    words, name = named(with_names(words))
    going = [job for job in jobs(server) if job.metadata.get(SWEEP) == name and job.status not in ENDED]
    if going:
        print(f"the sweep {name} runs already, as job {going[0].submission_id}; following it", flush=True)
        return follow(server, going[0], attached)
    imports = imports_of(words)
    job = server.submit_job(
        entrypoint=shlex.join(["python", "-m", "sweeps.cluster.job", "--workers", str(workers), *words]),
        submission_id=f"{name}-{datetime.now():%Y%m%d-%H%M%S}",
        metadata={SWEEP: name, **({IMPORTS: ",".join(imports)} if imports else {})},
        runtime_env=environment(imports),
    )
    print(f"job {job}: the sweep {name}; Ctrl-C leaves it running", flush=True)
    return follow(server, server.get_job_info(job), attached)


def environment(imports: Sequence[str]) -> dict[str, Any]:
    """Return what a job at a server elsewhere is sent: variables, this checkout's code and a user's own modules.

    Raises:
        UserError: RESULTS is no absolute path, or a password stands in the address of MLflow.
    """
    if not ray_address():
        return {}
    variables = {key: os.environ[key] for key in FORWARDED if key in os.environ}
    if not Path(variables.get("RESULTS", "")).is_absolute():
        raise UserError(
            f"RESULTS={variables.get('RESULTS', '')} must be the absolute path of a folder that every node of "
            "the cluster sees, for example RESULTS=/shared/results"
        )
    parts = urlsplit(variables.get("MLFLOW_TRACKING_URI", ""))
    if parts.username or parts.password:
        raise UserError(
            "MLFLOW_TRACKING_URI must not hold a user name or a password: the job server shows it, and Ray "
            "writes it to logs; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD where the head is started"
        )
    root = Path(__file__).resolve().parents[2]
    modules = (find_spec(module.split(".")[0]) for module in imports)
    own = [Path(spec.origin) for spec in modules if spec is not None and spec.origin is not None]
    own_paths = [str(file.parent if file.name == "__init__.py" else file) for file in own]
    packages = [str(root / package) for package in ("safe", "sweeps", "tracking")]
    return {"env_vars": {**variables, COMMIT: commit_of(root)}, "py_modules": [*packages, *own_paths]}


def ask(server: JobSubmissionClient, words: Sequence[str]) -> int:
    """Run `add` or `drop` where the results lie, as a job of its own, and print what it says.

    It reads the sweep's settings, which need the modules that the sweep was handed in with.
    """
    known = jobs(server)
    of = next((job for job in known if job.metadata[SWEEP] in words), next(iter(known), None))
    imports = of.metadata.get(IMPORTS, "").split(",") if of is not None and IMPORTS in of.metadata else []
    import_own(imports)
    job = server.submit_job(entrypoint=shlex.join(["python", "-m", "sweeps", *words]), runtime_env=environment(imports))
    return follow(server, server.get_job_info(job), attached=False)


def named(words: Sequence[str]) -> tuple[list[str], str]:
    """Return a command with its sweep's name in it, given or chosen, and the name; checks the whole command."""
    from safe.datasets.facts import canonical_name
    from sweeps import cli
    from sweeps.spec.names import checked_name, default_name

    arguments = cli.parser().parse_args([*words])
    import_own(arguments.imports)
    suffix = f"{datetime.now():%Y%m%d-%H%M%S}" if words[0] == "run" else words[0]  # as the commands name themselves
    name = checked_name(arguments.name or default_name(canonical_name(arguments.dataset), suffix))
    return [*words, *([] if arguments.name else ["--name", name])], name


def with_names(words: Sequence[str]) -> list[str]:
    """Return a command in which a file with the order of the classes, which is here alone, is replaced by the names."""
    there = list(words)
    for index, word in enumerate(words):
        if word.partition("=")[0].strip() == ORDER:
            names = with_order(parse_overrides([word]))[ORDER]
            there[index] = f"{ORDER}={yaml_line(names)}"
    return there


def imports_of(words: Sequence[str]) -> list[str]:
    """Return the modules of a user's own that a command names, which a Ray elsewhere is sent too; imports them."""
    from sweeps import cli

    modules: list[str] = cli.parser().parse_args([*words]).imports
    import_own(modules)
    return modules


def follow(server: JobSubmissionClient, job: JobDetails, attached: bool) -> int:
    """Print a job's log until it ends and return its exit code."""
    if attached:
        threading.Thread(target=_leave_with_input, daemon=True).start()
    asyncio.run(_print_log(server, job.submission_id))
    while (ended := server.get_job_info(job.submission_id)).status not in ENDED:
        time.sleep(0.2)
    if ended.status == "STOPPED":
        return EXIT_INTERRUPTED
    return 0 if ended.status == "SUCCEEDED" else (ended.driver_exit_code or 1)


def stop(server: JobSubmissionClient, name: str) -> int:
    """End the running jobs of a sweep in order and wait for their end."""
    job = newest(server, name)
    if job.status in ENDED:
        raise UserError(f"the sweep {name} does not run: its newest job {job.submission_id} has {job.status.lower()}")
    server.stop_job(job.submission_id)
    end = time.monotonic() + STOP_TIMEOUT_S
    while (status := server.get_job_status(job.submission_id)) not in ENDED:
        if time.monotonic() > end:
            raise UserError(f"job {job.submission_id} is still {status.lower()} after {STOP_TIMEOUT_S:.0f} s")
        time.sleep(0.5)
    print(f"the sweep {name} has ended in order; handing it in again under this name continues it")
    return 0


def jobs(server: JobSubmissionClient) -> list[JobDetails]:
    """Return the jobs that carry a sweep, the newest first."""
    carrying = (job for job in server.list_jobs() if job.submission_id and SWEEP in (job.metadata or {}))
    return sorted(carrying, key=lambda job: job.start_time or 0, reverse=True)


def newest(server: JobSubmissionClient, name: str) -> JobDetails:
    """Return the newest job of a sweep; `UserError` with the known names when there is none."""
    all_jobs = jobs(server)
    for job in all_jobs:
        if job.metadata[SWEEP] == name:
            return job
    names = sorted({job.metadata[SWEEP] for job in all_jobs})
    raise UserError(
        f"this cluster ran no sweep called {name!r}; known: {', '.join(names) or 'none'}.{nearest(name, names)}"
    )


def _row(job: JobDetails) -> dict[str, Any]:
    return {
        "sweep": job.metadata[SWEEP],
        "job": job.submission_id,
        "status": str(job.status.value),
        "began": job.start_time,
    }


async def _print_log(server: JobSubmissionClient, job: str) -> None:
    async for text in server.tail_job_logs(job):
        print(text, end="", flush=True)


def _leave_with_input() -> None:
    # Who follows from outside the container is gone when standard input ends; nothing else would tell this process.
    # Read below Python's own buffer, whose lock must not be held when the process ends.
    while os.read(0, 1):
        pass
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
