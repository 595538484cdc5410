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

import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self, TypeVar

from tracking.delivery import Delivery, tell
from tracking.delivery_server import temporary_prefix
from tracking.environment import client_defaults
from tracking.errors import UnreachableError

R = TypeVar("R")
_END_S = 2.0

# Not the folder that a person stands in, whose files others may write: only where this package lies.
_CODE = "import sys; sys.path.append(sys.argv[1]); from tracking.delivery_server import serve; serve(int(sys.argv[2]))"


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
        for left in Path(tempfile.gettempdir()).glob(f"{temporary_prefix(process.pid)}*"):  # of one that was killed
            shutil.rmtree(left, ignore_errors=True)


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
