"""The other end of `tracking.delivery_process`: the process that loads MLflow and does what it is asked for."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
import threading
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tracking.compat import load_store
from tracking.delivery import Delivery
from tracking.errors import TrackingError


def temporary_prefix(pid: int) -> str:
    """Return how the name of the folder begins that holds the temporary files of a process which delivers."""
    return f"safe-delivery-{pid}-"


def serve(handle: int) -> None:
    """Do what is asked for over a socket until it closes; the body of the process."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # a scheduler's, to all processes: the driver decides what is done
        signal.signal(number, signal.SIG_IGN)
    tempfile.tempdir = tempfile.mkdtemp(prefix=temporary_prefix(os.getpid()))  # MLflow's too go when this one ends
    served = _Served(Connection(handle))
    threading.Thread(target=served.listen, name="requests", daemon=True).start()
    gc.disable()  # what is loaded stays, and would be looked through for garbage again and again
    load_store()  # before the first request, while the other process does something else
    gc.enable()
    while True:
        served.answer()


class _Served:
    """The other end of the line."""

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._requests = SimpleQueue[tuple[Any, ...]]()
        self._stop = threading.Event()
        self._delivery: Delivery | None = None

    def listen(self) -> None:
        """Take requests, and end the process when no more can come; the body of a thread."""
        code = 1
        try:
            while True:
                request = self._line.recv()
                if request[1] == "stop":
                    self._stop.set()
                else:
                    self._requests.put(request)
        except (EOFError, OSError):
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)
            os._exit(code)

    def answer(self) -> None:
        """Wait for a request and do what it asks for."""
        number, what, *arguments = self._requests.get()
        self._stop.clear()
        try:
            if what == "begin":
                with suppress(Exception):
                    arguments[0](*arguments[1:])
            else:
                self._say("done", number, self._done(what, arguments))
        except Exception as error:
            self._say("failed", number, _portable(error))

    def _done(self, what: str, arguments: list[Any]) -> object:
        if what == "open":
            path, tracking_uri, experiment = arguments
            self._delivery = Delivery(Path(path), tracking_uri, experiment, say=lambda words: self._say("words", words))
            return None
        assert self._delivery is not None, "opened"
        match what:
            case "connect":
                self._delivery.connect()
                self._tell_state()
            case "run":
                self._delivery.run(arguments[0], self._moved)
                self._tell_state()
            case "call":
                return self._delivery.call(*arguments)
            case "close":
                self._delivery.close()
        return None

    def _moved(self) -> bool:
        self._tell_state()
        return not self._stop.is_set()

    def _tell_state(self) -> None:
        assert self._delivery is not None, "opened"
        self._say("state", self._delivery.offset, self._delivery.experiment_id, self._delivery.first_run_id)

    def _say(self, *words: object) -> None:
        with suppress(OSError):  # nobody hears it any more, and `listen` ends the process
            self._line.send(words)


def _portable(error: Exception) -> Exception:
    """Return an error that can be sent, with where it was raised: what is a bug is looked for there."""
    trace = "".join(traceback.format_exception(error))
    if type(error).__module__ not in ("builtins", TrackingError.__module__):  # those of libraries hold what cannot be
        return RuntimeError(trace)
    error.add_note(f"in the process that delivers:\n{trace}")
    return error
