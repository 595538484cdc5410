"""Jobs through Ray Tune: a local Ray, one Tune trial per job, and Tune's events handed to the bookkeeper."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sweeps.bookkeeper import Bookkeeper

# Ray reads these when it is imported or started. Its output is ours to show; nothing is reported to anyone. Without
# the capability named after Windows and OSX, Ray listens on the loopback address only. Whoever else is on this machine
# needs the token, which lives in the environment of this process and its workers, not in the home folder.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_THRESHOLD_S": "60",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}
_OBJECT_STORE_BYTES = 100 * 2**20  # jobs travel by value and states over files: the smallest store is enough


class AllFailedError(RuntimeError):
    """No run of a kind came to its end, so there is nothing to go on with."""


@dataclass(frozen=True)
class Job:
    """One training run: what it is called, its flat configuration, what is scored, and where its states go.

    Attributes:
        predictions: settings to score after every session; empty for a run whose prediction is settled.
        states: folder for the inference state of every session.
        resume_from: checkpoint folder to continue from.
    """

    id: str
    kind: str
    title: str
    config: Mapping[str, Any]
    predictions: list[dict[str, Any]]
    states: str
    resume_from: str | None = None


@contextmanager
def local_ray(cpus: int) -> Iterator[None]:
    """Run the block with a Ray of its own on this machine."""
    root = str(Path(__file__).resolve().parents[1])
    os.environ.update(_ENVIRONMENT)
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Workers inherit the environment: they import this checkout, also when it is not installed.
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, [root, *paths])))
    import ray

    # Sockets live below this folder and may have 107 characters, hence the short path; it holds Ray's logs only.
    scratch = tempfile.mkdtemp(prefix="sweep-", dir="/tmp" if os.access("/tmp", os.W_OK) else None)
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            logging_level=logging.CRITICAL,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=scratch,
        )
        if ray.util.get_node_ip_address() != "127.0.0.1":
            raise RuntimeError("Ray was imported before its environment was set; it would be open to the network")
        for name in ("ray", "ray.tune", "ray.train", "ray.data"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def run_jobs(
    jobs: Sequence[Job],
    books: Bookkeeper,
    *,
    storage: Path,
    concurrency: int,
    threads: int,
    gpus_per_job: float = 0,
) -> None:
    """Run every job to its end, as many at a time as `concurrency` says; needs a `local_ray`.

    A job that fails is tried once more from its last checkpoint, then recorded as FAILED; the others go on.

    Args:
        storage: folder for Tune's own files, seen by every worker.

    Raises:
        KeyboardInterrupt: the user interrupted; open jobs are recorded as KILLED.
        UserError, AllFailedError: no job has a result; with the first cause.
        Exception: what the bookkeeper raised; open jobs are recorded as KILLED.
    """
    from ray import tune

    from sweeps.callback import TuneCallback
    from sweeps.trainable import SafeTrainable

    if not jobs:
        return
    bridge = TuneCallback(books)
    storage.mkdir(parents=True, exist_ok=True, mode=0o700)
    tuner = tune.Tuner(
        tune.with_resources(SafeTrainable, {"cpu": threads, "gpu": gpus_per_job}),
        param_space={"job": tune.grid_search([asdict(job) for job in jobs])},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=concurrency,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.config["job"]["id"]),
        ),
        run_config=tune.RunConfig(
            name=f"{jobs[0].kind}-{datetime.now():%Y%m%d-%H%M%S-%f}",
            storage_path=str(storage),
            callbacks=[bridge],
            stop=bridge.stopper,
            failure_config=tune.FailureConfig(max_failures=1),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1, checkpoint_frequency=1),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
        if bridge.error is not None:
            raise bridge.error
    finally:
        books.close_open("KILLED", "interrupted")
    logs = [books.ledger.log.jobs[job.id] for job in jobs if job.id in books.ledger.log.jobs]
    statuses = {log.status for log in logs}
    if len(logs) < len(jobs) or "KILLED" in statuses:  # Tune returns in order after an interrupt
        raise KeyboardInterrupt
    if statuses == {"FAILED"}:
        raise bridge.user_error or AllFailedError(f"every {jobs[0].kind} run failed; {logs[0].id}: {logs[0].reason}")
