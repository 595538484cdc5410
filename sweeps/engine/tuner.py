"""Jobs through Ray Tune: a local Ray, and one Tune experiment whose trials are a study's jobs."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safe.io.sources import own_folders
from sweeps.engine.bookkeeper import Bookkeeper
from sweeps.engine.heartbeat import Heartbeat
from sweeps.engine.job_queue import JobQueue
from sweeps.engine.packing import Packing
from sweeps.engine.private import private_folder, scratch, scratch_parent
from sweeps.engine.processes import private_processes
from sweeps.engine.ray_environment import prepare_ray
from sweeps.engine.spent import Spent
from sweeps.ledger.jobs import INTERRUPTED
from sweeps.search.early import Early
from sweeps.spec.machine import GpusPerTrial
from sweeps.worker.worker_environment import passed
from tracking.recorder import Status

if TYPE_CHECKING:
    from ray import tune

_OBJECT_STORE_BYTES = 100 * 2**20  # jobs travel by value and states over files: the smallest store is enough


def check_local() -> None:
    """Raise `UserError` where `local_ray` would, before anything is begun."""
    scratch_parent()
    passed(os.environ)


def _load_ray() -> None:
    """Load Ray and Tune, which read their environment only once."""
    root = str(Path(__file__).resolve().parents[2])
    prepare_ray(joins=False)
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Workers take it over: they import this checkout, also when it is not installed.
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, [root, *paths, *own_folders()])))
    import sweeps.engine.driver
    import sweeps.engine.tune_adapters
    import sweeps.worker.trainable  # noqa: F401


@contextmanager
def local_ray(cpus: int, meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Run the block with a Ray of its own on this machine.

    Args:
        meanwhile: what to do while it gets ready.

    Raises:
        RayLost: a process of it that nothing goes on without is gone; see `sweeps.engine.compat`.
    """
    _load_ray()
    import ray

    from sweeps.engine.compat import check_answer, check_processes, silent_workers, start

    with scratch() as folder, private_processes(), silent_workers():
        try:
            start(
                folder,
                meanwhile,
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                logging_level=logging.CRITICAL,
                log_to_driver=False,
            )
            if ray.util.get_node_ip_address() != "127.0.0.1":
                raise RuntimeError("Ray was imported before its environment was set; it would be open to the network")
            for name in ("ray", "ray.tune", "ray.train", "ray.data"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
            yield
        except Exception:
            check_processes()  # what is raised for want of them says nothing
            check_answer()
            raise
        finally:
            ray.shutdown()


def run_work(
    queue: JobQueue,
    books: Bookkeeper,
    *,
    storage: Path,
    stop: Path,
    threads: int,
    gpus_per_trial: GpusPerTrial = None,
    use_gpus: bool = False,
    trial_timeout: float | None = None,
    early: Early | None = None,
    trainable: type[tune.Trainable] | None = None,
) -> None:
    """Run the jobs of `rounds` to their end, all in one Tune experiment; needs a running Ray.

    The first interrupt lets the running jobs write a checkpoint, the second ends everything at once.

    Args:
        storage: folder for Tune's own files, seen by every worker.
        stop: the file of `Job.stop`, which asks running jobs to pause.
        threads: CPUs of a job.
        use_gpus: whether jobs take GPUs where there are any.
        trial_timeout: seconds after which a job that gives no sign is ended as FAILED.
        early: ends trials early; None lets all of them go on.
        trainable: what runs a job, by default `sweeps.worker.trainable.SafeTrainable`.

    Raises:
        KeyboardInterrupt: the user interrupted, or Ray is gone; open jobs are recorded as KILLED.
        UserError, AllFailedError: no job of a round has a result; with the first cause.
        Exception: what the bookkeeper or the work raised; open jobs are recorded as KILLED.
    """
    import ray
    from ray import tune

    from sweeps.engine.compat import causes, every_error_is_a_trials, restrained_tune
    from sweeps.engine.driver import Driver
    from sweeps.engine.tune_adapters import JobScheduler, JobSearcher
    from sweeps.worker.trainable import SafeTrainable

    gpus = ray.cluster_resources().get("GPU", 0.0) if use_gpus else 0.0
    packing = Packing(gpus_per_trial, gpus, queue.concurrency)
    spent = Spent(storage)
    driver = Driver(queue, books, packing, Heartbeat(trial_timeout), early, stop, spent)

    def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{"CPU": threads, "GPU": config["job"]["gpus"]}])

    private_folder(storage)
    stop.unlink(missing_ok=True)
    tuner = tune.Tuner(
        tune.with_resources(trainable or SafeTrainable, resources),
        tune_config=tune.TuneConfig(
            num_samples=-1,
            search_alg=JobSearcher(driver),
            scheduler=JobScheduler(queue.concurrency),
            max_concurrent_trials=queue.concurrency,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"{trial.config['job']['id']}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name=f"{datetime.now():%Y%m%d-%H%M%S-%f}",
            storage_path=str(storage),
            callbacks=[driver],
            stop=driver,
            # Retries and old checkpoints are ours: a job tried again may need another checkpoint, or more memory.
            failure_config=tune.FailureConfig(max_failures=0),
            # The driver says after each session whether anything goes on from there.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    before = signal.getsignal(signal.SIGINT)
    try:
        with causes(driver.raised), every_error_is_a_trials(), restrained_tune():
            tuner.fit()
        if driver.error is not None:
            raise driver.error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
        stop.unlink(missing_ok=True)
        spent.close()
        books.close_open(Status.KILLED, INTERRUPTED)
    if driver.interrupts:
        raise KeyboardInterrupt
