"""Ray's and Tune's private interfaces and words on which sweeps rest, so that a new Ray's changes show in one place.

Seen with the versions of SEEN_WITH. `tests/sweeps/engine/test_compat.py` names what another version has changed.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import ray
from ray._private import node, services, utils, worker
from ray.air._internal import usage
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError, RpcError
from ray.tune import PlacementGroupFactory
from ray.tune.error import TuneError
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.experiment import trial as trials
from ray.tune.trainable.metadata import _CheckpointManager

from sweeps.engine.polite import put_off

SEEN_WITH = ("2.60.0",)
VITAL = ("raylet", "gcs_server")  # without these nothing goes on
# What starts others of a cluster, Ray's dashboard, and what sends the driver its workers' logs: nobody here asks for
# any of it, and it takes Ray half of its start and most of its end.
SPARE = ("start_monitor", "start_api_server", "start_log_monitor")
TOGETHER_S = 1.0  # within which processes begin to end that are ended together
UNRESOLVED = "_Trial__unresolved_config"  # in which Tune keeps a trial's configuration once more
ANSWER_S = 10.0  # in which a GCS answers that is there, also on a machine with too much to do
# Ray's words for how a process ended; its exceptions have no field that tells.
NODE_DIED = "its node has died"
TERMINATED = "The process receives a SIGTERM"
EXIT_CODE = re.compile(r"exits with an exit code (\d+)")
WITHOUT_A_WORD = "unexpectedly exits with a connection error code"
PID = re.compile(r"^\tpid: (\d+)$", re.MULTILINE)
CRASH = re.compile(r"\*\*\* (SIG[A-Z]+) received")  # in the worker's own log; SIGKILL lets nobody write any
_NO_CHECKPOINTS = _CheckpointManager(None)


class RayLost(KeyboardInterrupt):
    """A process of our own Ray is gone, and the runs with it: as after any interrupt, the study can go on later."""


class LostActorError(RayActorError):
    """An actor is gone, which Ray has told in another exception.

    Attributes:
        cause: that exception.
    """

    def __init__(self, cause: RayError) -> None:
        super().__init__(error_msg=str(cause))
        self.cause = cause


def start(folder: str, meanwhile: Callable[[], object] = lambda: None, **options: Any) -> None:
    """Start a Ray on this machine with the `options` of `ray.init`, which listens on the loopback address alone.

    It consists of what runs tasks, without the processes of SPARE. `ray.shutdown` ends it, also where this fails.

    Args:
        folder: for its logs and sockets.
        meanwhile: what to do while its processes get ready.
    """
    start_head, start_others = node.Node.start_head_processes, node.Node.start_ray_processes

    def head(one: node.Node) -> None:
        worker._global_node = one  # where `ray.shutdown` looks for processes
        start_head(one)

    def others(one: node.Node) -> None:
        start_others(one)
        meanwhile()

    with ExitStack() as stack:
        for name in SPARE:
            stack.enter_context(_replaced(node.Node, name, lambda *_, **__: None))
        # Its agent, without which no raylet runs, then leaves out what the dashboard would show.
        stack.enter_context(_replaced(utils, "get_dashboard_dependency_error", lambda: ImportError("none is wanted")))
        stack.enter_context(_replaced(worker, "connect", put_off()(worker.connect)))  # interrupted, it crashes
        stack.enter_context(_replaced(node.Node, "start_head_processes", head))
        stack.enter_context(_replaced(node.Node, "start_ray_processes", others))
        ray.init(address="local", _node_ip_address="127.0.0.1", _temp_dir=folder, **options)


def check_processes() -> None:
    """Do nothing while the Ray that this process has started lives, or when it has started none.

    Raises:
        RayLost: its raylet or its GCS is gone; says which, and how it ended.
    """
    for kind, process in _vital():
        if (code := process.poll()) is not None:
            raise RayLost(f"Ray's {kind} {_killed(-code) if code < 0 else f'ended with exit code {code}'}")


def check_answer() -> None:
    """Do nothing while the GCS of the Ray that this process has started answers, or when none has been started whole.

    A GCS that was asked to end lives on for a while and takes no more calls. A minute later Ray ends this process.

    Raises:
        RayLost: there was no answer within `ANSWER_S`.
    """
    client = getattr(worker.global_worker, "gcs_client", None)
    if client is None or not _vital():
        return
    try:
        client.check_alive([], timeout=ANSWER_S)
    except RpcError:
        check_processes()
        raise RayLost("Ray's gcs_server does not answer") from None


def _vital() -> list[tuple[str, Any]]:
    known = worker._global_node.all_processes if worker._global_node is not None else {}
    return [(kind, started.process) for kind in VITAL for started in known.get(kind, ())]


@contextmanager
def processes(adapted: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Iterator[None]:
    """Start Ray's processes, within the block, with what `adapted` makes of the options that Ray gives to `Popen`."""

    class Process(services.ConsolePopen):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **adapted(options))

    with _replaced(services, "ConsolePopen", Process):
        yield


def silent_workers() -> AbstractContextManager[None]:
    """Keep Ray from printing, within the block, on top of our display how a worker died: ledger and display say it."""
    return _replaced(worker, "print_to_stdstream", lambda *_, **__: None)


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def restrained_tune() -> Iterator[None]:
    """Keep Tune, within the block, from what nobody here has asked it for.

    It would send the keys of AWS to every node, whose Ray writes them into its logs; and with any variable of their
    own, its workers cannot be those that Ray has started by then. To count which callbacks are in use, which nobody is
    told, it would load those of all services, MLflow's among them. Of every trial it would ask the GCS whether there is
    what it trains, and for it, which is one for all of them; and its worker for what each of its results tells again.
    """

    def take(trial: Trial, actor: Any) -> None:
        trial.temporary_state.ray_actor = actor

    with (
        _replaced(class_cache, "ENV_VARS_TO_PROPAGATE", set()),
        _replaced(class_cache, "DEFAULT_ENV_VARS", {}),
        _replaced(usage, "tag_callbacks", lambda _: False),
        _replaced(trials, "validate_trainable", lambda _: None),
        _replaced(trials, "get_trainable_cls", cache(trials.get_trainable_cls)),
        _replaced(Trial, "set_ray_actor", take),
    ):
        yield


def actor_cache(controller: Any) -> Any:
    """Return what keeps Tune's idle workers, given what a scheduler gets of Tune; None where Tune has changed.

    Its `increase_max` and `decrease_max` take the resources of a worker and a number of them.
    """
    cache = getattr(getattr(controller, "_tune_controller", None), "_actor_cache", None)
    return cache if hasattr(cache, "increase_max") and hasattr(cache, "decrease_max") else None


def kill_worker(trial: Trial) -> None:
    """End the worker of a trial at once, if it has one."""
    if (actor := trial.temporary_state.ray_actor) is not None:
        ray.kill(actor)


def forget(trial: Trial) -> None:
    """Let go of what Tune keeps of a trial to its own end: by a thousand trials that would be much."""
    trial.config = trial.evaluated_params = {}
    vars(trial)[UNRESOLVED] = {}
    known = trial.run_metadata
    known.last_result = {}
    known.metric_analysis.clear()
    known.metric_n_steps.clear()
    known.checkpoint_manager = _NO_CHECKPOINTS
    trial.placement_group_factory = _one(trial.placement_group_factory)


@cache
def _one(place: PlacementGroupFactory) -> PlacementGroupFactory:
    """Return one of all that are equal: every trial has its own."""
    return place


@contextmanager
def causes(raised: dict[str, Exception]) -> Iterator[None]:
    """Collect in `raised`, by Tune's trial id, what trials fail with in the block; as Ray handed it to Tune.

    Tune passes it on to nobody. It pickles it into a file and unpickles that in the end; its text it only copies.
    """
    handle_error = Trial.handle_error

    def kept(trial: Trial, error: Exception | None = None) -> None:
        raised[trial.trial_id] = error or TuneError("Tune gave no reason")
        handle_error(trial, TuneError(str(error)))

    with _replaced(Trial, "handle_error", kept):
        yield


@contextmanager
def every_error_is_a_trials() -> Iterator[None]:
    """Let Tune take every error of Ray about an actor's task, within the block, for the failure of that one trial.

    It does so with two kinds of them only, and ends the whole experiment with any other, such as that a worker was
    ended because memory ran low.

    Raises:
        RayLost: an actor is gone because Ray is. Whoever ends a worker may be ending all of Ray; Tune would now ask the
            GCS for its resources, and where that is gone, Ray waits for a minute and then ends this process.
    """
    task_failed, cleanup = RayActorManager._actor_task_failed, RayActorManager._cleanup_actor

    def failed(manager: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, (RayActorError, RayTaskError)):
            exception = LostActorError(exception)
        task_failed(manager, tracked_actor_task, exception)

    def cleaned(manager: RayActorManager, tracked_actor: Any) -> None:
        if tracked_actor.actor_id in manager._failed_actor_ids:
            until = time.monotonic() + TOGETHER_S
            while _vital() and time.monotonic() < until:
                check_processes()
                time.sleep(TOGETHER_S / 20)
            check_answer()
        cleanup(manager, tracked_actor)

    with (
        _replaced(RayActorManager, "_actor_task_failed", failed),
        _replaced(RayActorManager, "_cleanup_actor", cleaned),
    ):
        yield


def node_died(cause: BaseException) -> bool:
    """Whether a job's process is gone because its whole node is."""
    return isinstance(cause, RayActorError) and NODE_DIED in str(cause)


def in_words(cause: BaseException) -> str | None:
    """Return how a job's process ended; None when the cause is not that it did, or Ray does not tell."""
    told = str(cause)
    if isinstance(cause, OutOfMemoryError):
        return "its process was ended because the machine ran low on memory"
    if not isinstance(cause, RayActorError):
        return None
    if node_died(cause):
        return "the node it ran on is gone"
    if TERMINATED in told:
        return f"its process {_killed(signal.SIGTERM)}"
    if code := EXIT_CODE.search(told):
        return f"its process ended with exit code {code[1]}"
    if WITHOUT_A_WORD in told:
        crash = _crash(told)
        return f"its process crashed with {crash}" if crash else f"its process {_killed(signal.SIGKILL)}"
    return None


def _killed(number: int) -> str:
    return f"was killed by signal {number:d} (the system or a person)"


def _crash(told: str) -> str | None:
    """Return the signal of which a process of our own Ray has written in its log that it dies of it."""
    node, pid = worker._global_node, PID.search(told)
    logs = Path(node.get_logs_dir_path()).glob(f"worker-*-{pid[1]}.err") if node is not None and pid else ()
    for log in logs:
        if signals := CRASH.findall(log.read_text("utf-8", errors="replace")):
            return str(signals[-1])
    return None
