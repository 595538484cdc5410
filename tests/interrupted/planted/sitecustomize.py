"""Faults for the tests. Python imports a module of this name when it starts: so every process of a sweep has it.

FAULTS in the environment is a JSON list, FAULTS_FOLDER a folder that remembers what has happened already, because a
process that was killed cannot:

    {"at": "batch", "job": "trial-00", "nth": 3, "do": "kill", "times": 1}

`at` is one of PLACES or `write`; `job` a pattern of job ids, by default every job; `nth` says which call there it
is, counted in one process from 1; `times` how often it happens in all processes together, by default once. For
`do` see `_happen`. Of several faults at one call the first happens.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

# What stands before a place happens before the call; where the call is to be over, the place ends in `-done`.
PLACES = {
    # in a worker
    "job": ("sweeps.worker.trainable", "SafeTrainable.step"),
    "batch": ("safe.training.steps", "GradientSteps.terms"),
    "state": ("safe.states.checkpoint", "save_state"),
    "files-done": ("sweeps.worker.trainable", "keep_session"),
    "checkpoint": ("sweeps.worker.trainable", "SafeTrainable.save_checkpoint"),
    "checkpoint-done": ("sweeps.worker.trainable", "SafeTrainable.save_checkpoint"),
    # in the driver
    "parent": ("sweeps.engine.study", "start_parent"),
    "flush-done": ("tracking.journal", "JournalRecorder.flush"),
    "ray": ("ray._private.services", "start_raylet"),
    "session": ("sweeps.engine.bookkeeper", "Bookkeeper.session"),
    "summary": ("sweeps.studies.sweep", "log_final_model"),
    "end": ("sweeps.engine.study", "_finish"),
    # in the process that delivers
    "delivered": ("tracking.delivery", "Delivery._save"),
}
FAULTS: list[dict[str, Any]] = json.loads(os.environ.get("FAULTS", "[]"))
FOLDER = Path(os.environ.get("FAULTS_FOLDER", "/nowhere"))
IS_DRIVER = "sweeps" in sys.orig_argv

_calls: Counter[int] = Counter()  # by the fault's position
_job = ""  # of this worker


def _due(position: int, fault: dict[str, Any], job: str) -> bool:
    """Return whether a fault happens at this call."""
    if not fnmatch(job, fault.get("job", "*")):
        return False
    _calls[position] += 1
    if _calls[position] < fault.get("nth", 1):
        return False
    for time_ in range(fault.get("times", 1)):
        try:
            (FOLDER / f"{position}-{time_}").touch(exist_ok=False)
        except FileExistsError:
            continue
        return True
    return False


def _happen(do: str) -> None:
    match do:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "terminate":  # as a scheduler does
            os.kill(os.getpid(), signal.SIGTERM)
        case "interrupt":  # as a terminal does on Ctrl-C: every process of its group
            os.killpg(os.getpgrp(), signal.SIGINT)
        case "raise":
            raise ValueError("broken on purpose")
        case "memory":
            raise MemoryError("no memory, on purpose")
        case "fill":  # takes memory until it is ended for it
            taken = []
            while len(taken) < 100:
                taken.append(b"x" * 2**26)
                time.sleep(0.02)
            time.sleep(10)
            raise AssertionError("nobody minds")
        case "hang":
            while True:
                time.sleep(3600)
        case "back" | "ahead":  # the wall clock jumps for this process
            now, seconds = time.time, {"back": -3600, "ahead": 86400}[do]
            time.time = lambda: now() + seconds
        case "wait":  # until the test goes on
            (FOLDER / "waiting").touch()
            while not (FOLDER / "go-on").exists():
                time.sleep(0.05)
        case "nan":
            pass  # of the value, see `_faulty`
        case _:
            raise AssertionError(f"unknown fault {do!r}")


def _tear(do: str) -> None:
    """Let a fault happen while a file is written: half of it is there."""
    fsync = os.fsync

    def torn(handle: int) -> None:
        os.ftruncate(handle, os.fstat(handle).st_size // 2)
        os.fsync = fsync
        _happen(do)

    os.fsync = torn  # type: ignore[assignment]


def _faulty(place: str, original: Callable[..., Any]) -> Callable[..., Any]:
    faults = [(position, fault) for position, fault in enumerate(FAULTS) if fault["at"] == place]

    @functools.wraps(original)
    def called(*arguments: Any, **options: Any) -> Any:
        global _job
        if place == "job":
            _job = arguments[0].job["id"]
        job = arguments[1] if place == "session" else _job
        here = [
            (position, fault)
            for position, fault in faults
            if place != "state" or str(arguments[1]).endswith(fault["file"])
        ]
        if place.endswith("-done"):  # asked afterwards: what happens within the call comes first
            value = original(*arguments, **options)
        do = next((fault["do"] for position, fault in here if _due(position, fault, job)), None)
        if do is not None:
            (_tear if place == "state" else _happen)(do)
        if not place.endswith("-done"):
            value = original(*arguments, **options)
        if do == "nan":
            value = {name: (weight, term * float("nan")) for name, (weight, term) in value.items()}
        return value

    return called


def _plant(module: ModuleType) -> None:
    for place, (name, path) in PLACES.items():
        if module.__name__ == name and any(fault["at"] == place or place == "job" for fault in FAULTS):
            *owners, last = path.split(".")
            owner = functools.reduce(getattr, owners, module)
            setattr(owner, last, _faulty(place, getattr(owner, last)))


class _Planting(importlib.abc.MetaPathFinder):
    """Finds the modules of PLACES as usual, and changes them once they are loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in {module for module, _ in PLACES.values()}:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def load_and_plant(module: ModuleType) -> None:
            load(module)
            _plant(module)

        spec.loader.exec_module = load_and_plant  # type: ignore[method-assign]
        return spec


# ---------------------------------------------------------------- any moment of the driver

_WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "fcntl.flock", "subprocess.Popen"}


def _count_writes(position: int, fault: dict[str, Any]) -> None:
    """Let a fault happen at the nth time that the driver writes: a file, a folder, a lock, a process.

    `count` names a file that is told how many times there were until the work began, and in all.
    """
    fsync, counted, within = os.fsync, dict[str, int](), False

    def step(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal within
        if within:  # what the fault itself writes is no write of the driver
            return
        within = True
        try:
            take(event, arguments)
        finally:
            within = False

    def take(event: str, arguments: tuple[Any, ...]) -> None:
        opened_to_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE
        if (event in _WRITES or opened_to_write) and _due(position, fault, ""):
            _happen(fault["do"])
        if event == "os.mkdir" and str(arguments[0]).endswith("/ray"):  # Ray is there, the work begins
            counted.setdefault("begun", _calls[position])
        counted["ended"] = _calls[position]

    def synced(handle: int) -> None:
        step("os.truncate", ())
        fsync(handle)
        step("os.truncate", ())

    os.fsync = synced  # type: ignore[assignment]
    sys.addaudithook(step)
    if "count" in fault:
        import atexit

        atexit.register(lambda: Path(fault["count"]).write_text(json.dumps(counted)))


sys.meta_path.insert(0, _Planting())
if IS_DRIVER:
    for _position, _fault in enumerate(FAULTS):
        if _fault["at"] == "write":
            _count_writes(_position, _fault)
