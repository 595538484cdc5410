"""The engine with the real Ray, over a stub that trains nothing."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps.engine.bookkeeper import Bookkeeper
from sweeps.engine.budget import Budget
from sweeps.engine.display import LiveDisplay
from sweeps.engine.job_queue import AllFailedError, JobQueue
from sweeps.engine.private import scratch_parent
from sweeps.engine.tuner import local_ray, run_work
from sweeps.ledger.jobs import BUDGET, DROPPED, OUTRANKED, Job, Kind
from sweeps.ledger.ledger import Ledger, SweepLog
from sweeps.search.asha import Halving
from tracking.memory import MemoryRecorder

pytestmark = pytest.mark.e2e

Make = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[3]
SESSIONS = 4
CORES = 2
SECRET = "s3cr3t-0f-a-w0rk3r"


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD"):
            patch.setenv(name, SECRET)
        with local_ray(CORES):
            patch.syspath_prepend(ROOT)  # where the stub is, which is installed nowhere
            yield


class Engine:
    """Runs stub jobs over one ledger, as often as asked."""

    def __init__(self, folder: Path, make_spec: Make) -> None:
        self.folder = folder
        (folder / "heartbeats").mkdir()
        self.spec = make_spec()
        self.ledger = Ledger.create(folder, self.spec)
        self.recorder = MemoryRecorder()
        self.recorder.start("demo", {}, {})

    def job(self, id: str, kind: str = Kind.TRIAL, accuracy: float = 0.5, **config: Any) -> Job:
        prediction = {"aggregation.kind": "entropy", "aggregation.temperature": 1.0, "head.logit_scale": "learned"}
        files = {"states": str(self.folder / id), "heartbeat": str(self.folder / "heartbeats" / id)}
        stub = {"sessions": SESSIONS, "accuracy": accuracy, **config}
        return Job(
            id, kind, id, stub, [prediction] if kind == Kind.TRIAL else [], stop=str(self.folder / "stop"), **files
        )

    def run(self, *rounds: list[Job], **more: Any) -> SweepLog:
        return self.carry_out(iter(rounds), **more)

    def carry_out(
        self,
        work: Iterator[list[Job]],
        retries: int = 0,
        max_hours: float | None = None,
        incoming: Callable[[], list[Job]] = list,
        **more: Any,
    ) -> SweepLog:
        from benchmarks.stub import StubTrainable

        log = self.ledger.log
        budget = Budget(log, max_hours=max_hours)
        with LiveDisplay(log, (self.folder / "display").open("a")) as display:
            run_work(
                JobQueue(work, log, budget, CORES, retries, incoming=incoming),
                Bookkeeper(self.ledger, self.recorder, display, self.folder / "states", {}),
                storage=self.folder / "ray",
                stop=self.folder / "stop",
                threads=1,
                trainable=StubTrainable,
                **more,
            )
        return log

    def told(self, id: str) -> tuple[str, str | None, int]:
        job = self.ledger.log.jobs[id]
        return job.status, job.reason, len(job.sessions)

    def workers(self) -> set[str]:
        return {record.provenance["pid"] for job in self.ledger.log.jobs.values() for record in job.sessions}


@pytest.fixture
def engine(ray: None, tmp_path: Path, make_spec: Make) -> Engine:
    return Engine(tmp_path, make_spec)


def test_all_rounds_run_in_the_same_workers_and_leave_no_checkpoint(engine: Engine) -> None:
    log = engine.run(
        [engine.job(f"trial-{i}", seconds=0.1) for i in range(4)],
        [engine.job("trial-4")],
        [engine.job(f"final-{i}", Kind.FINAL) for i in range(3)],
    )
    assert {job.status for job in log.jobs.values()} == {"FINISHED"}
    assert {len(job.sessions) for job in log.jobs.values()} == {SESSIONS}
    assert len(engine.workers()) <= CORES
    assert not list(engine.folder.rglob("state.json"))
    assert log.sessions_trained == 5 * SESSIONS
    assert {run.status for key, run in engine.recorder.runs.items() if key != "demo"} == {"FINISHED"}


def test_what_may_go_on_is_saved_after_a_session_and_nothing_else(engine: Engine) -> None:
    engine.run([engine.job("trial-2", seconds=0.4)], max_hours=0.3 / 3600)
    engine.run([engine.job("trial-0"), engine.job("trial-1", faults={"3": "nan"})])
    engine.run(
        [engine.job("trial-3", accuracy=0.9)], [engine.job("trial-4", accuracy=0.1)], early=Halving(engine.ledger.log)
    )
    lines = [json.loads(line) for line in (engine.folder / "ledger.jsonl").read_text().splitlines()]
    saved = {
        job: [line["session"] for line in lines if line["type"] == "checkpoint" and line["job"] == job]
        for job in engine.ledger.log.jobs
    }
    assert engine.told("trial-1")[0] == "FAILED"
    assert engine.told("trial-2")[:2] == ("STOPPED", BUDGET)
    assert engine.told("trial-4")[:2] == ("STOPPED", OUTRANKED)
    assert saved == {"trial-0": [1, 2, 3], "trial-1": [1, 2], "trial-2": [1], "trial-3": [1, 2, 3], "trial-4": []}


def test_ray_is_what_runs_tasks_and_nothing_else(ray: None) -> None:
    from ray._private import worker

    from sweeps.engine.compat import VITAL

    assert set(worker._global_node.all_processes) == set(VITAL)


AFTER_RAY = """
import os, signal, time
from types import SimpleNamespace
from sweeps.engine.joining import ray_of
from sweeps.engine.polite import polite_kill

with polite_kill():
    for end in ("the block", "the end"):
        try:
            with ray_of(SimpleNamespace(concurrency=1, threads=1)):
                if end == "the block":
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(10)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except KeyboardInterrupt:
            print("heard in", end)
"""


def test_a_sigterm_is_heard_while_ray_runs_and_after_it() -> None:
    done = subprocess.run([sys.executable, "-c", AFTER_RAY], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("heard in the block\nheard in the end\n", 0), done.stderr


INTERRUPTED_START = """
from sweeps.engine.tuner import local_ray

for kind in (KeyboardInterrupt, ImportError):
    processes = {}

    def interrupt():
        import psutil
        processes.update({one: one.name() for one in psutil.Process().children(recursive=True)})
        raise kind

    try:
        with local_ray(1, interrupt):
            print("started")
    except kind:
        import psutil
        print({"gcs_server", "raylet"} <= set(processes.values()), psutil.wait_procs(processes, 10)[1])
"""


def test_what_interrupts_rays_start_leaves_none_of_its_processes() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_START], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("True []\n" * 2, 0), done.stderr


def test_tune_keeps_nothing_of_a_job_that_is_over(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray import cloudpickle

    from sweeps.engine.driver import Driver

    over: list[Any] = []
    completed = Driver.on_trial_complete

    def complete(driver: Driver, *, trial: Any, **info: Any) -> None:
        over.append(trial)
        completed(driver, trial=trial, **info)

    monkeypatch.setattr(Driver, "on_trial_complete", complete)
    settings = {f"setting.{i}": i / 7 for i in range(1000)}
    engine.run([engine.job(f"trial-{i}", **settings) for i in range(2)])
    assert len(over) == 2
    for trial in over:
        assert (
            len(cloudpickle.dumps((trial.run_metadata, trial.config, trial.experiment_tag)))
            < 10_000
            < len(cloudpickle.dumps(settings))
        )


def test_failures_are_retried_recorded_and_left_behind(engine: Engine) -> None:
    engine.run(
        [
            engine.job("trial-0", faults={"2": "raise"}),
            engine.job("trial-1", faults={"3": "SIGKILL"}, once=str(engine.folder / "once")),
            engine.job("trial-2", faults={"3": "nan"}),
            engine.job("trial-3"),
        ],
        retries=1,
    )
    status, reason, sessions = engine.told("trial-0")
    assert (status, sessions) == ("FAILED", 1)
    assert reason is not None
    assert reason.startswith("ValueError: broken in session 2 (details: ")
    details = Path(reason.partition("details: ")[2].rstrip(")"))
    assert "in _fail_at" in details.read_text()
    assert details.read_text().endswith("ValueError: broken in session 2\n")
    assert not list(engine.folder.rglob("error.pkl")), "Tune has pickled what it failed with"
    assert engine.told("trial-1") == ("FINISHED", None, SESSIONS)
    assert dict(failures(engine))["trial-1"].startswith(
        "its process was killed by signal 9 (the system or a person) (details: "
    )
    assert engine.told("trial-2") == ("FAILED", "session 3 gave val/accuracy that is not finite", 2)
    assert engine.told("trial-3") == ("FINISHED", None, SESSIONS)
    assert (engine.folder / "once").exists()
    lines = (engine.folder / "ledger.jsonl").read_text().splitlines()
    assert sum('"session"' in line and '"job": "trial-1"' in line and '"grid"' in line for line in lines) == SESSIONS
    runs = engine.recorder.runs
    assert (runs["demo/trial-0"].status, runs["demo/trial-1"].status) == ("FAILED", "FINISHED")


def test_workers_get_no_secret_and_what_ray_writes_is_private_and_holds_none(engine: Engine) -> None:
    import ray
    from ray._private import worker

    engine.run([engine.job("trial-0")])
    look = ray.remote(subprocess.getoutput).options(num_cpus=0).remote("umask; env")
    umask, *variables = ray.get(look).splitlines()
    assert umask == "0077"
    assert {"RAY_AUTH_TOKEN", "PYTHONPATH"} <= {line.partition("=")[0] for line in variables}
    assert SECRET not in "".join(variables)
    session = Path(worker._global_node.get_session_dir_path())
    assert session.parents[1] == scratch_parent()
    assert stat.S_IMODE((session / "logs" / "runtime_env_agent.log").stat().st_mode) == 0o600
    files = [file for file in session.rglob("*") if file.is_file()]
    assert [str(file) for file in files if SECRET.encode() in file.read_bytes()] == []


IN_RAYS_CONNECT = """
import signal, sys
from types import SimpleNamespace
from sweeps.engine.joining import ray_of
from sweeps.engine.polite import polite_kill

def meanwhile():
    import ray._raylet
    make = ray._raylet.CoreWorker
    def made(*words, **options):
        one = make(*words, **options)
        signal.raise_signal(int(sys.argv[1]))
        return one
    ray._raylet.CoreWorker = made

try:
    with polite_kill(), ray_of(SimpleNamespace(concurrency=1, threads=1), meanwhile):
        print("started")
except KeyboardInterrupt:
    print("in order", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_ray_connects_ends_in_order_and_does_not_crash_it(number: int) -> None:
    words = [sys.executable, "-c", IN_RAYS_CONNECT, str(int(number))]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "in order\n"), ended.stderr


def test_a_checkpoint_that_the_ledger_names_elsewhere_is_not_removed(engine: Engine, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "state.json").write_text("[0, 0]")
    job = engine.job("trial-0")
    facts = {"kind": job.kind, "title": job.title, "config": dict(job.config), "predictions": job.predictions}
    engine.ledger.append("job", job=job.id, **facts)
    engine.ledger.append("checkpoint", job=job.id, session=0, path=str(elsewhere))
    engine.run([job])
    assert engine.told("trial-0") == ("FINISHED", None, SESSIONS)
    assert (elsewhere / "state.json").is_file()
    assert not list((engine.folder / "ray").rglob("state.json"))


def test_all_failed_ends_with_the_first_cause(engine: Engine) -> None:
    with pytest.raises(AllFailedError, match="every trial run failed; trial-0: ValueError: broken in session 1"):
        engine.run(
            [engine.job(f"trial-{i}", faults={"1": "raise"}) for i in range(2)], [engine.job("final-0", Kind.FINAL)]
        )
    assert "final-0" not in engine.ledger.log.jobs


def test_a_full_disk_ends_everything_with_the_file_and_is_no_runs_failure(engine: Engine) -> None:
    with pytest.raises(OSError, match="No space left") as error:
        engine.run([engine.job(f"trial-{i}", faults={"2": "full"}) for i in range(2)], [engine.job("trial-2")])
    assert error.value.filename == "/full/session.pt"
    assert {job.status for job in engine.ledger.log.jobs.values()} == {"KILLED"}
    assert [len(job.sessions) for job in engine.ledger.log.jobs.values()].count(1) >= 1, "what was done is kept"
    assert "trial-2" not in engine.ledger.log.jobs
    engine.run([engine.job(f"trial-{i}") for i in range(2)])
    assert [engine.told(f"trial-{i}") for i in range(2)] == [("FINISHED", None, SESSIONS)] * 2


def failures(engine: Engine) -> list[tuple[str, str]]:
    """Return the jobs that failed, in order, with the reasons for it."""
    lines = [json.loads(line) for line in (engine.folder / "ledger.jsonl").read_text().splitlines()]
    return [(line["job"], line["reason"]) for line in lines if line.get("status") == "FAILED"]


def test_workers_that_ray_ends_for_want_of_memory_fail_their_trials_alone_and_fewer_run_at_a_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.exceptions import OutOfMemoryError

    from sweeps.engine.driver import Driver

    resolved, next_job = RayActorManager._actor_task_resolved, Driver.next_job
    ended = [OutOfMemoryError("2 worker(s) were killed due to the node running low on memory.")] * 2
    at_a_time = list[int]()

    def next_is_ended(manager: Any, tracked_actor_task: Any, result: Any) -> None:
        if ended and isinstance(result, dict) and "session" in result:
            manager._actor_task_failed(tracked_actor_task, ended.pop())
        else:
            resolved(manager, tracked_actor_task, result)

    def count(driver: Driver, trial_id: str) -> Job | None:
        if (job := next_job(driver, trial_id)) is not None:
            at_a_time.append(len(driver.queue.running))
        return job

    monkeypatch.setattr(RayActorManager, "_actor_task_resolved", next_is_ended)
    monkeypatch.setattr(Driver, "next_job", count)
    engine.run([engine.job(f"trial-{i}") for i in range(3)], retries=0)
    assert not ended
    for _, reason in failures(engine):
        assert reason.startswith("its process was ended because the machine ran low on memory (details: ")
    assert [engine.told(f"trial-{i}") for i in range(3)] == [("FINISHED", None, SESSIONS)] * 3, "tried again"
    assert at_a_time == [1, 2, 1, 1, 1], "two before, and one from then on"


def test_a_process_that_dies_once_an_interrupt_is_there_has_not_failed(engine: Engine) -> None:
    """Schedulers send their signals to every process, workers too."""
    thread = interrupt_when(engine, lambda: (engine.folder / "heartbeats" / "trial-0").exists(), times=1)
    with pytest.raises(KeyboardInterrupt):
        engine.run([engine.job("trial-0", seconds=1.0, faults={"2": "SIGTERM"})])
    thread.join()
    assert engine.told("trial-0") == ("KILLED", "interrupted", 1)


def test_a_hung_worker_is_killed_and_the_rest_goes_on(engine: Engine) -> None:
    engine.run([engine.job("trial-0", faults={"2": "hang"}), engine.job("trial-1")], trial_timeout=3.0)
    assert engine.told("trial-0") == ("FAILED", "no step within 3 s (trial_timeout)", 1)
    assert engine.told("trial-1") == ("FINISHED", None, SESSIONS)


def test_a_bug_of_the_work_ends_everything_in_order(engine: Engine) -> None:
    def work() -> Iterator[list[Job]]:
        yield [engine.job("trial-0")]
        raise ZeroDivisionError("in the work")

    with pytest.raises(ZeroDivisionError, match="in the work"):
        engine.carry_out(work())
    assert engine.told("trial-0") == ("FINISHED", None, SESSIONS)


def test_halving_stops_the_worse_ones_at_the_first_rung(engine: Engine) -> None:
    accuracies = [0.9, 0.1, 0.2, 0.95, 0.3]
    rounds = [[engine.job(f"trial-{i}", accuracy=a)] for i, a in enumerate(accuracies)]  # one by one: a fixed order
    engine.run(*rounds, early=Halving(engine.ledger.log))
    stopped = ("STOPPED", OUTRANKED, 1)
    finished = ("FINISHED", None, SESSIONS)
    assert [engine.told(f"trial-{i}") for i in range(5)] == [finished, stopped, stopped, finished, stopped]
    run = engine.recorder.runs["demo/trial-1"]
    assert (run.status, run.tags["reason"]) == ("STOPPED", OUTRANKED)
    assert run.metrics["val/accuracy"] == {1: 0.1}
    assert not list(engine.folder.rglob("state.json"))


def test_while_runs_go_on_one_is_added_and_one_dropped(engine: Engine) -> None:
    asked: list[str] = []

    def incoming() -> list[Job]:
        begun = engine.ledger.log.jobs
        if asked or not all(id in begun and engine.told(id)[2] for id in ("trial-0", "trial-1")):
            return []
        asked.append("trial-added-00")
        engine.ledger.append("dropped", request="1", job="trial-1")
        return [engine.job("trial-added-00")]

    log = engine.run(
        [engine.job(f"trial-{index}", seconds=0.8) for index in range(3)], [engine.job("trial-3")], incoming=incoming
    )
    status, reason, sessions = engine.told("trial-1")
    assert (status, reason) == ("STOPPED", DROPPED)
    assert 1 <= sessions < SESSIONS, "what was done is kept, and the session that it was in comes to its end"
    assert engine.told("trial-added-00") == ("FINISHED", None, SESSIONS)
    assert list(log.jobs)[2:] == ["trial-added-00", "trial-2", "trial-3"], "it begins next"
    assert engine.told("trial-0") == engine.told("trial-2") == ("FINISHED", None, SESSIONS)


def test_hours_stop_the_search_after_the_session_and_more_hours_go_on(engine: Engine) -> None:
    rounds = [[engine.job(f"trial-{i}", seconds=0.4) for i in range(3)], [engine.job("final-0", Kind.FINAL)]]
    engine.run(*rounds, max_hours=0.6 / 3600)
    for trial in ("trial-0", "trial-1"):
        status, reason, sessions = engine.told(trial)
        assert (status, reason) == ("STOPPED", BUDGET)
        assert 1 <= sessions < SESSIONS
    assert "trial-2" not in engine.ledger.log.jobs
    assert engine.told("final-0") == ("FINISHED", None, SESSIONS)
    before = engine.told("trial-0")[2]
    lines = (engine.folder / "ledger.jsonl").read_text().count('"grid"')
    engine.run(*rounds, max_hours=1.0)
    assert {job.status for job in engine.ledger.log.jobs.values()} == {"FINISHED"}
    again = (engine.folder / "ledger.jsonl").read_text().count('"grid"') - lines
    assert again == 2 * (SESSIONS - before) + SESSIONS, "it goes on where it was stopped"


def interrupt_when(engine: Engine, begun: Callable[[], bool], times: int) -> threading.Thread:
    def wait() -> None:
        while not begun():
            time.sleep(0.02)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_an_interrupt_pauses_within_the_session_and_the_next_call_goes_on_there(engine: Engine) -> None:
    before = signal.getsignal(signal.SIGINT)
    jobs = [engine.job(f"trial-{i}", seconds=2.0, epochs=20) for i in range(2)] + [engine.job("trial-2")]
    thread = interrupt_when(engine, lambda: len(list((engine.folder / "heartbeats").iterdir())) == 2, times=1)
    with pytest.raises(KeyboardInterrupt):
        engine.run(jobs)
    thread.join()
    for trial in ("trial-0", "trial-1"):
        assert engine.told(trial) == ("KILLED", "interrupted", 0)
        (saved,) = engine.ledger.log.jobs[trial].resumable()
        session, epoch = (int(word) for word in (Path(saved) / "state.json").read_text().strip("[]").split(","))
        assert session == 0
        assert epoch > 0
    assert "trial-2" not in engine.ledger.log.jobs
    assert not (engine.folder / "stop").exists()
    assert signal.getsignal(signal.SIGINT) is before

    quick = [engine.job(f"trial-{i}", seconds=0.0, epochs=20) for i in range(2)] + [engine.job("trial-2")]
    engine.run(quick)
    assert {job.status for job in engine.ledger.log.jobs.values()} == {"FINISHED"}


def test_the_second_interrupt_ends_everything_at_once(engine: Engine) -> None:
    jobs = [engine.job(f"trial-{i}", seconds=300.0) for i in range(2)]
    thread = interrupt_when(engine, lambda: len(list((engine.folder / "heartbeats").iterdir())) == 2, times=2)
    with pytest.raises(KeyboardInterrupt):
        engine.run(jobs)
    thread.join()
    assert {engine.told(job.id) for job in jobs} == {("KILLED", "interrupted", 0)}
