"""Delivery by a process of its own: what MLflow does takes no time from the process that records.

Python runs one thread at a time, and MLflow's client works in Python for most of a call: in a thread of the driver it
would hold up every event of a sweep, and loading it would hold up the start.

The two talk over a pair of sockets. Requests are `open` (a journal), `load`, `connect`, `run`, `call` (a function) and
`close`, each answered by `done` or `failed`, on the way to which come `state`, how far MLflow has got, and `words` for
the person; `begin` (a function) and, during a run, `stop` are not answered. The process lives as long as its socket:
when the one that began it is killed, it ends in the same moment, whatever it is at, and the next one goes on from the
journal.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self, TypeVar

from tracking.compat import load_store
from tracking.delivery import Delivery, tell
from tracking.environment import client_defaults
from tracking.errors import TrackingError, UnreachableError

R = TypeVar("R")
_END_S = 2.0

# Not the folder that a person stands in, whose files others may write: only where this package lies.
_CODE = "import sys; sys.path.append(sys.argv[1]); from tracking.delivery_process import serve; serve(int(sys.argv[2]))"


class DeliveryProcess:
    """A process that delivers, begun at once, so that it loads MLflow meanwhile; another one when it has died.

    Attributes:
        process: None after it has died, until another one is begun, and after `close`.
        serving: the journal's delivery that it was last opened for, None for none.
        asking: held from a request to its last answer; journals are served in turn.
        numbers: of requests, which their answers have too.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.serving: Delivery | None = None
        self._line: Connection | None = None
        self.asking = threading.Lock()
        self.numbers = count(1)
        self._sending = threading.Lock()
        self._changing = threading.Lock()
        self.line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def delivery(self, path: Path, tracking_uri: str, experiment: str) -> Delivery:
        """Return what delivers a journal through this process; see `Delivery`."""
        return _Delegated(self, path, tracking_uri, experiment)

    def begin(self, function: Callable[..., object], *arguments: object) -> None:
        """Have it call a function of a module before it does what it is asked later; whether that works is not told."""
        with suppress(OSError):
            self.send(self.line(), 0, "begin", function, *arguments)

    def send(self, line: Connection, *words: object) -> None:
        """Send words whole, whatever other threads send; OSError when the line is broken."""
        with self._sending:
            line.send(words)

    def line(self) -> Connection:
        """Return the way to talk to the process, which is begun if need be."""
        if self._line is None:
            client_defaults()
            self._line, theirs = Pipe()
            with theirs:
                # In a session of its own Ctrl-C at a terminal does not reach it: what happens then is to be recorded.
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _CODE, str(Path(__file__).resolve().parents[1]), str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
        return self._line

    def lost(self) -> str:
        """Return how the process ended, after its line broke."""
        process = self.process
        if process is None:
            return "closed"
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        self.close()
        code = process.returncode
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def close(self) -> None:
        """End the process, in the middle of its work if need be; one that was asked for nothing at once."""
        with self._changing:
            process, line, served = self.process, self._line, self.serving is not None
            self.process = self.serving = self._line = None
        if process is None or line is None:
            return
        line.close()
        if not served:
            process.kill()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for left in Path(tempfile.gettempdir()).glob(f"{_temporary(process.pid)}*"):  # of one that was killed
            shutil.rmtree(left, ignore_errors=True)


def _temporary(pid: int) -> str:
    """Return how the name of the folder begins that holds the temporary files of a process which delivers."""
    return f"safe-delivery-{pid}-"


class _Delegated(Delivery):
    """Has a journal delivered by another process. What that process has learnt of the store is known here too."""

    def __init__(self, process: DeliveryProcess, path: Path, tracking_uri: str, experiment: str) -> None:
        super().__init__(path, tracking_uri, experiment)
        self._by = process
        self._experiment_id: str | None = None
        self._first_run_id: str | None = None

    @property
    def experiment_id(self) -> str | None:
        return self._experiment_id

    @property
    def first_run_id(self) -> str | None:
        return self._first_run_id

    def load(self) -> None:
        with suppress(UnreachableError):  # `connect` begins another process, and tells when that does not help
            self._ask("load")

    def connect(self) -> None:
        self._ask("connect")

    def run(self, end: int, go_on: Callable[[], bool] = lambda: True) -> None:
        self._ask("run", end, go_on=go_on)

    def call(self, function: Callable[..., R], *arguments: object) -> R:
        return self._ask("call", function, *arguments)

    def close(self) -> None:
        if self._by.serving is self:
            with suppress(UnreachableError):  # what the store has is safe without it
                self._ask("close")

    def _ask(self, what: str, *arguments: object, go_on: Callable[[], bool] = lambda: True) -> Any:
        with self._by.asking:
            line = self._by.line()
            if self._by.serving is not self:
                self._answered(line, go_on, "open", str(self.path), self.tracking_uri, self.experiment)
                self._by.serving = self
            return self._answered(line, go_on, what, *arguments)

    def _answered(self, line: Connection, go_on: Callable[[], bool], *request: object) -> Any:
        number, stopped = next(self._by.numbers), False
        self._send(line, number, *request)
        while True:
            match self._received(line):
                case "state", offset, experiment_id, first_run_id:
                    self.offset, self._experiment_id, self._first_run_id = offset, experiment_id, first_run_id
                    if not stopped and not go_on():
                        stopped = True
                        self._send(line, number, "stop")
                case "words", words:
                    tell(words)
                case "failed", of, error if of == number:  # else of a request whose caller was interrupted
                    raise error
                case "done", of, result if of == number:
                    return result

    def _send(self, line: Connection, *words: object) -> None:
        try:
            self._by.send(line, *words)
        except OSError:
            raise self._lost() from None

    def _received(self, line: Connection) -> Any:
        try:
            return line.recv()
        except (EOFError, OSError):
            raise self._lost() from None

    def _lost(self) -> UnreachableError:
        return UnreachableError(f"the process that brings records to MLflow has ended ({self._by.lost()})")


def serve(handle: int) -> None:
    """Do what is asked for over a socket until it closes; the body of the process."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # a scheduler's, to all processes: the driver decides what is done
        signal.signal(number, signal.SIG_IGN)
    tempfile.tempdir = tempfile.mkdtemp(prefix=_temporary(os.getpid()))  # MLflow's too go when this one ends
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
