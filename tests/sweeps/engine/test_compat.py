"""What sweeps take from inside Ray is still as it was; where not, the failure says which Ray has changed what."""

from __future__ import annotations

import inspect
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray._private import node, services, worker
from ray._raylet import InnerGcsClient
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import (
    ActorDiedError,
    ActorDiedErrorContext,
    ObjectLostError,
    OutOfMemoryError,
    RayTaskError,
    RpcError,
)
from ray.tune import Trainable, tune
from ray.tune.error import TuneError
from ray.tune.execution import class_cache, tune_controller
from ray.tune.experiment import trial
from ray.tune.experiment.trial import Trial, _TemporaryTrialState
from ray.tune.trainable.metadata import _CheckpointManager, _TrainingRunMetadata
from ray.tune.utils.object_cache import _ObjectCache

from sweeps.engine.compat import (
    SEEN_WITH,
    SPARE,
    UNRESOLVED,
    VITAL,
    LostActorError,
    RayLost,
    actor_cache,
    causes,
    check_answer,
    check_processes,
    in_words,
    node_died,
    restrained_tune,
)
from sweeps.engine.compat import every_error_is_a_trials as as_trials
from sweeps.engine.processes import private_processes

KILLED = "was killed by signal 9 (the system or a person)"
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def wrapped(cache: object) -> Any:
    """Return what Tune gives to a scheduler."""
    return tune_controller.TrialRunnerWrapper(SimpleNamespace(_actor_cache=cache), None)


INTERFACES = {
    "the class of which its processes are": lambda: (
        issubclass(services.ConsolePopen, subprocess.Popen)
        and "ConsolePopen(" in inspect.getsource(services.start_ray_process)
    ),
    "what Tune does with the failure of an actor's task": lambda: (
        parameters(RayActorManager._actor_task_failed) == ["self", "tracked_actor_task", "exception"]
        and "self._actor_task_failed(" in inspect.getsource(RayActorManager)
        and parameters(RayActorManager._cleanup_actor) == ["self", "tracked_actor"]
        and all(
            {"self._failed_actor_ids.add(", "self._cleanup_actor("} <= set(re.findall(r"self\.[\w.]+\(", code))
            for code in map(
                inspect.getsource, (RayActorManager._actor_task_failed, RayActorManager._actor_start_failed)
            )
        )
    ),
    "where it keeps the processes that it has started": lambda: (
        {"_global_node", "print_to_stdstream"} <= vars(worker).keys()
        and all(
            f"self.all_processes[ray_constants.PROCESS_TYPE_{kind.upper()}]" in inspect.getsource(node)
            for kind in VITAL
        )
        and "process" in parameters(services.ProcessInfo)
    ),
    "how its GCS is asked whether it is there": lambda: (
        "timeout: Optional[int | float]" in str(InnerGcsClient.check_alive.__doc__)
        and "worker.gcs_client = " in inspect.getsource(worker.connect)
    ),
    "what it prints of workers": lambda: (
        parameters(worker.print_to_stdstream) == ["data", "ignore_prefix"]
        and "print_to_stdstream(" in inspect.getsource(worker.listen_error_messages)
    ),
    "the options that say where it listens and writes": lambda: all(
        f'kwargs.pop("{option}", None)' in inspect.getsource(worker.init)
        for option in ("_node_ip_address", "_temp_dir")
    ),
    "how its agent knows what there is": lambda: (
        "utils.get_dashboard_dependency_error() is not None:\n" in inspect.getsource(services.start_raylet)
    ),
    "how it connects": lambda: re.search(r"^    connect\($", inspect.getsource(worker.init), re.MULTILINE) is not None,
    "what it starts that nobody here asks for": lambda: all(
        re.search(rf"^ +self\.{name}\(", inspect.getsource(node.Node), re.MULTILINE) for name in SPARE
    ),
    "which variables Tune sends to every node": lambda: all(
        part in inspect.getsource(class_cache._ActorClassCache.get)
        for part in ("in ENV_VARS_TO_PROPAGATE:", "DEFAULT_ENV_VARS.copy()")
    ),
    "where it counts callbacks": lambda: "air_usage.tag_callbacks(callbacks)\n" in inspect.getsource(tune),
    "where it asks for its trainable": lambda: all(
        part in inspect.getsource(Trial)
        for part in ("    validate_trainable(trainable_name)\n", " = self.get_trainable_cls()\n")
    ),
    "what it does with a trial's worker": lambda: (
        re.findall(r"^ +(self\.\w+[.\w]* = .*)", inspect.getsource(Trial.set_ray_actor), re.MULTILINE)
        == [
            "self.temporary_state.ray_actor = ray_actor",
            "self._default_result_or_future = ray_actor.get_auto_filled_metrics.remote(",
        ]
    ),
    "where Tune keeps idle workers": lambda: (
        "self._actor_cache = _ObjectCache(" in inspect.getsource(tune_controller.TuneController.__init__)
        and actor_cache(wrapped(_ObjectCache())) is not None
        and parameters(_ObjectCache.increase_max) == ["self", "key", "by"]
        and parameters(_ObjectCache.decrease_max) == ["self", "key", "by"]
    ),
    "what Tune does with a trial's error": lambda: (
        parameters(Trial.handle_error) == ["self", "exc"]
        and "trial.handle_error(exception)" in inspect.getsource(tune_controller)
    ),
    "where Tune keeps a trial's worker": lambda: _TemporaryTrialState().ray_actor is None,
    "what Tune keeps of a trial": lambda: (
        _TrainingRunMetadata().metric_analysis == _TrainingRunMetadata().metric_n_steps == {}
        and {"last_result", "checkpoint_manager"} <= vars(_TrainingRunMetadata()).keys()
        and UNRESOLVED in vars(Trial("stub", stub=True))
        and type(Trial("stub", stub=True).run_metadata.checkpoint_manager) is type(_CheckpointManager(None))
    ),
    "where it keeps the logs of workers": lambda: parameters(node.Node.get_logs_dir_path) == ["self"],
}


@pytest.mark.parametrize("what", INTERFACES)
def test_the_inside_of_ray_is_as_it_was(what: str) -> None:
    try:
        same = INTERFACES[what]()
    except (AttributeError, TypeError, OSError):
        same = False
    assert same, (
        f"Ray {ray.__version__} has changed {what}; sweeps/engine/compat.py was seen with {', '.join(SEEN_WITH)}"
    )


def test_the_version_that_is_installed_has_been_seen() -> None:
    assert ray.__version__ in SEEN_WITH, (
        "run tests/interrupted with it, then add it to SEEN_WITH in sweeps/engine/compat.py"
    )


def test_tunes_workers_can_be_those_that_wait_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with restrained_tune():
        actor = class_cache._ActorClassCache().get(type("Anything", (Trainable,), {}))
    assert actor._default_options["runtime_env"] == {}, "with a variable, Ray starts others"


def test_a_trial_takes_a_worker_without_asking_it_and_knows_what_it_trains_without_asking_the_gcs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = list[str]()
    monkeypatch.setattr(trial, "get_trainable_cls", lambda name: asked.append(name) or Trainable)
    with restrained_tune():
        trials = [Trial("Anything") for _ in range(3)]
        assert {one.get_trainable_cls() for one in trials} == {Trainable}
        for one in trials:
            one.set_ray_actor(worker := SimpleNamespace())  # which answers nothing
            assert one.temporary_state.ray_actor is worker
            assert one.last_result == {"trial_id": one.trial_id}
    assert asked == ["Anything"]


PARENT = f"""
import os, signal, sys
from ray._private import services
from sweeps.engine.processes import private_processes
with private_processes():
    child = services.start_ray_process({SLEEP!r}, "raylet", fate_share=True).process
print(child.pid, os.getsid(child.pid), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Ray's own watcher ends them")
def test_rays_processes_have_a_session_of_their_own_and_die_with_a_driver_that_is_killed() -> None:
    parent = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True)
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    child, session = map(int, parent.stdout.split())
    assert session == child
    deadline = time.monotonic() + 10
    while alive(child):
        assert time.monotonic() < deadline, "it outlives its driver"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("kind", VITAL)
@pytest.mark.parametrize(
    ("end", "words"), [("process.kill()", KILLED), ("process.terminate()", "15 (the"), ("", "ended with exit code 3")]
)
def test_a_process_that_is_gone_is_told_with_how_it_ended(
    kind: str, end: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = SLEEP if end else [sys.executable, "-c", "raise SystemExit(3)"]
    with private_processes():
        info = services.start_ray_process(command, kind, fate_share=sys.platform == "linux")
    monkeypatch.setattr(worker, "_global_node", SimpleNamespace(all_processes={kind: [info]}))
    try:
        if end:
            check_processes()
            getattr(info.process, end.removeprefix("process.").removesuffix("()"))()
        info.process.wait(10)
        with pytest.raises(RayLost, match=f"^Ray's {kind} ") as lost:
            check_processes()
    finally:
        info.process.kill()
    assert words in str(lost.value)


def test_a_ray_of_others_and_none_at_all_are_never_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    for known in (None, SimpleNamespace(all_processes={})):
        monkeypatch.setattr(worker, "_global_node", known)
        check_processes()
        check_answer()


@pytest.mark.parametrize("gone", ["at once", "a little later", "answers no more", "never"])
def test_an_actor_that_ends_together_with_ray_asks_the_gcs_for_nothing(
    gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the GCS is gone, Ray would wait in that for a minute and then end the process from C++."""
    given_back: list[Any] = []
    actor = TrackedActor(1)
    resources = SimpleNamespace(free_resources=lambda acquired_resource: given_back.append(acquired_resource))
    manager = RayActorManager(resource_manager=resources)
    manager._live_actors_to_ray_actors_resources[actor] = (None, "a worker's")
    command = [sys.executable, "-c", "import time; time.sleep(0.3)"] if gone == "a little later" else SLEEP
    with private_processes():
        info = services.start_ray_process(command, "gcs_server", fate_share=sys.platform == "linux")
    monkeypatch.setattr(worker, "_global_node", SimpleNamespace(all_processes={"gcs_server": [info]}))

    def alive(nodes: list[Any], timeout: float) -> list[bool]:
        if gone == "answers no more":
            raise RpcError("Timed out while waiting for GCS to become available.")
        return []

    monkeypatch.setattr(worker.global_worker, "gcs_client", SimpleNamespace(check_alive=alive), raising=False)
    try:
        if gone == "at once":
            info.process.kill()
            info.process.wait(10)
        with as_trials():
            if gone == "never":
                manager._actor_task_failed(TrackedActorTask(actor), died(WITHOUT_A_WORD))
            else:
                with pytest.raises(RayLost, match=r"^Ray's gcs_server "):
                    manager._actor_task_failed(TrackedActorTask(actor), died(WITHOUT_A_WORD))
    finally:
        info.process.kill()
    assert given_back == (["a worker's"] if gone == "never" else [])


@pytest.mark.parametrize("exception", [OutOfMemoryError("memory ran low"), ObjectLostError("ab", "", "")])
def test_every_error_of_ray_reaches_the_trial_it_is_about(exception: Exception) -> None:
    seen: list[tuple[str, Exception]] = []
    actor = TrackedActor(1, on_error=lambda _, error: seen.append(("actor", error)))
    task = TrackedActorTask(actor, on_error=lambda _, error: seen.append(("task", error)))
    resources = SimpleNamespace(free_resources=lambda acquired_resource: None)
    manager = RayActorManager(resource_manager=resources)
    manager._live_actors_to_ray_actors_resources[actor] = (None, None)
    with pytest.raises(RuntimeError, match="Caught unexpected exception"):
        manager._actor_task_failed(task, exception)
    with as_trials():
        manager._actor_task_failed(task, exception)
        with pytest.raises(RuntimeError, match="a bug of ours"):
            manager._actor_task_failed(task, ValueError("a bug of ours"))
    assert [what for what, _ in seen] == ["actor", "task"]
    for _, error in seen:
        assert isinstance(error, LostActorError)
        assert error.cause is exception
    with pytest.raises(RuntimeError, match="Caught unexpected exception"):
        manager._actor_task_failed(task, exception)


def test_where_tune_has_changed_idle_workers_are_left_to_it() -> None:
    """The scheduler then does nothing, as it says."""
    for changed in (wrapped(None), wrapped(SimpleNamespace(increase_max=print)), SimpleNamespace(), None):
        assert actor_cache(changed) is None


def test_what_a_trial_fails_with_is_kept_as_it_was_and_tune_gets_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[Exception] = []
    monkeypatch.setattr(Trial, "handle_error", lambda trial, error: handed.append(error))
    before, raised, reason = Trial.handle_error, {}, RayTaskError("f", "a traceback", ValueError("a bug"))
    trial = SimpleNamespace(trial_id="tune-1")
    with causes(raised):
        Trial.handle_error(trial, reason)
        Trial.handle_error(SimpleNamespace(trial_id="tune-2"))
    assert raised["tune-1"] is reason
    assert str(raised["tune-2"]) == "Tune gave no reason"
    assert [type(error) for error in handed] == [TuneError, TuneError]
    assert str(handed[0]) == str(reason)
    assert Trial.handle_error is before


def died(why: str, pid: int = 0) -> ActorDiedError:
    return ActorDiedError(ActorDiedErrorContext(actor_id=bytes(16), error_message=why, pid=pid))


WORKER = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: "
WITHOUT_A_WORD = f"{WORKER}Worker unexpectedly exits with a connection error code 2. End of file. Some common causes"
NODE = "The actor died because its node has died. Node Id: 1234\n\tthe actor's node was terminated"


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (died(WITHOUT_A_WORD), f"its process {KILLED}"),
        (died(f"{WORKER}Worker exits unexpectedly. Worker exits with an exit code 4."), "ended with exit code 4"),
        (
            died(f"{WORKER}Worker exits with an exit code 1. The process receives a SIGTERM."),
            "its process was killed by signal 15 (the system or a person)",
        ),
        (died(NODE), "the node it ran on is gone"),
        (OutOfMemoryError("memory ran low"), "its process was ended because the machine ran low on memory"),
    ],
)
def test_how_a_process_ended_is_said_in_words(cause: Exception, words: str) -> None:
    assert words in (in_words(cause) or "")
    assert node_died(cause) == ("node" in words)


def test_what_is_no_end_of_a_process_has_its_own_words() -> None:
    for cause in (ValueError(NODE), RayTaskError("f", WITHOUT_A_WORD, ValueError()), died("Ray's words have changed")):
        assert in_words(cause) is None
        assert not node_died(cause)


def test_a_crash_that_the_workers_log_tells_is_no_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_global_node", SimpleNamespace(get_logs_dir_path=lambda: str(tmp_path)))
    (tmp_path / "worker-ab-01-41.err").write_text("*** SIGSEGV received at time=1 on cpu 0 ***\n")
    (tmp_path / "worker-ab-01-4.err").write_bytes(b":actor_name:A\n\xff")
    assert in_words(died(WITHOUT_A_WORD, pid=41)) == "its process crashed with SIGSEGV"
    assert in_words(died(WITHOUT_A_WORD, pid=4)) == f"its process {KILLED}"
