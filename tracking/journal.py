"""The recorder of a sweep: everything goes to a local journal first, and from there to MLflow in the background.

So neither training nor its driver waits for a slow server, and nothing is lost when the server or this process goes
away: what MLflow does not have yet lies in the journal and is delivered later, by this process or the next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tracking.delivery import Delivery, tell
from tracking.errors import ConflictError, TrackingError, UnreachableError
from tracking.jsonl import JsonlRecorder
from tracking.mlflow_errors import shown

CONTACT_S = 15.0  # for the first contact, before anything is recorded
DRAIN_S = 30.0  # for at least one more record to be delivered
LONGEST_PAUSE_S = 60.0

R = TypeVar("R")


class JournalRecorder(JsonlRecorder):
    """`Recorder` over the journal `path` and, through it, over an experiment of the MLflow store at `tracking_uri`.

    A call returns once the journal has it. What contradicts the journal raises at once; what contradicts the store
    (`ConflictError`: another sweep by this name) raises at the next call, or at `flush`. A folder of artefacts is
    read when it is delivered: it must stay where it is. When the store does not take something, one line says so,
    and another one when it has everything.

    Args:
        path: journal, made when absent; one process at a time writes it.
        tracking_uri: as in `MlflowRecorder`.
        experiment: name of the experiment.
        delivery: makes what delivers the journal, of its path and what follows; `DeliveryProcess.delivery` does it
            in a process of its own.
        pause_s: seconds before the first repetition of what failed; each further one waits twice as long, at most
            LONGEST_PAUSE_S.

    Attributes:
        new: whether the journal was empty.

    Raises:
        TrackingError: the journal or the store cannot be used. A store that does not answer is no error.
    """

    def __init__(
        self,
        path: Path,
        tracking_uri: str,
        experiment: str,
        *,
        delivery: Callable[[Path, str, str], Delivery] = Delivery,
        pause_s: float = 1.0,
    ) -> None:
        super().__init__(path, experiment=experiment)
        self.new = not self.runs
        self.tracking_uri = tracking_uri
        self.experiment_name = experiment
        try:
            self._delivery = delivery(self.path, tracking_uri, experiment)
            self._delivery.load()
        except TrackingError:
            super().close()
            raise
        self._pause_s = pause_s
        self._changed = threading.Condition()
        self._opening = True  # until the first contact has come to a result
        self._closing = False
        self._ended = False  # the thread is over, whatever the reason
        # Attempts to deliver what there is are counted, so that who waits for one can tell it from those before.
        self._begun = 0
        self._failed = 0  # the last one that failed
        self._wanted = 0  # the one that does not wait for the end of a pause
        self._failing = False  # the person was told that something is wrong, and not yet that it is over
        self._fatal: Exception | None = None
        self._raised = False  # the fatal error, to the caller: once, so that the books can still be closed
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()
        with self._changed:
            if not self._changed.wait_for(lambda: not self._opening, CONTACT_S):
                self._opening = False
                self._complain(f"MLflow at {shown(tracking_uri)} has not answered in {CONTACT_S:.0f} s")
        if self._fatal is not None:
            super().close()
            self._raise_fatal()

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the experiment, None while MLflow does not answer."""
        return self._delivery.experiment_id

    @property
    def first_run_id(self) -> str | None:
        """MLflow's id of the run that the journal begins with, None while MLflow does not have it."""
        return self._delivery.first_run_id

    def call(self, function: Callable[..., R], *arguments: object) -> R:
        """Return what a function of a module gives, called where MLflow is loaded, after what is being delivered.

        Arguments and result are such as can be sent to another process. Raises what it raises, and `UnreachableError`
        when that process ends meanwhile.
        """
        return self._delivery.call(function, *arguments)

    def flush(self, timeout_s: float) -> bool:
        """Wait until the store has everything recorded so far, and an outage is told to be over.

        False when the store does not take it, which only an attempt begun after this call can show, or when the time
        is over. Raises what the store contradicts.
        """
        done = self._wait(self._file.size(), timeout_s)
        self._raise_fatal()
        return done

    def drain(self) -> bool:
        """Wait for what is not delivered as long as the store takes one record after another; else as `flush`."""
        done = self._drain()
        self._raise_fatal()
        return done

    def close(self) -> None:
        """See `Recorder.close`. Waits as `drain` does, and raises as it does, unless an earlier call did."""
        if self._closing:
            return
        done = self._drain()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout=DRAIN_S if done else 0.0)
        super().close()
        self._raise_fatal()
        waiting = self._delivery.waiting()
        if waiting and self._fatal is None:
            tell(
                f"{waiting} records for MLflow at {shown(self.tracking_uri)} wait in {self.path}; the next command "
                "that opens the sweep delivers them, as does: python -m tracking deliver"
            )

    def _write(self, method: str, run_key: str, **arguments: object) -> None:
        super()._write(method, run_key, **arguments)
        with self._changed:
            self._changed.notify_all()
        self._raise_fatal()

    def _drain(self) -> bool:
        goal = self._file.size()
        done, before = False, -1
        while not done and self._delivery.offset != before:
            before = self._delivery.offset
            done = self._wait(goal, DRAIN_S)
        return done

    def _wait(self, goal: int, timeout_s: float) -> bool:
        """Have an attempt begin without a pause, and wait for `goal` bytes, a failure of it, or the end of the time."""

        def done() -> bool:
            return self._has(goal) and not self._failing

        with self._changed:
            before = self._begun
            self._wanted = before + 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: done() or self._failed > before or self._ended, timeout_s)
            self._wanted = 0
            return done()

    def _work(self) -> None:
        """Deliver until the end; the body of the background thread."""
        try:
            self._deliver()
            if not self._failing:
                self._delivery.close()
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _deliver(self) -> None:
        pause = self._pause_s
        while not self._closing:
            with self._changed:
                self._begun += 1
            try:
                self._delivery.connect()
                self._opened()
                # What the store has, the journal must still have after a power cut.
                end = self._file.sync()
                self._delivery.run(end, self._moved)
            except Exception as error:
                if not self._take_note(error):
                    return
                with self._changed:
                    self._changed.wait_for(lambda: self._closing or self._begun < self._wanted, pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                pause = self._pause_s
                with self._changed:
                    self._succeeded(end)
                    self._changed.wait_for(lambda: self._closing or not self._has(self._file.size()))

    def _opened(self) -> None:
        with self._changed:
            self._opening = False
            self._changed.notify_all()

    def _moved(self) -> bool:
        with self._changed:
            self._changed.notify_all()
        return not self._closing

    def _take_note(self, error: Exception) -> bool:
        """Take note of a failed attempt and return whether to try again."""
        with self._changed:
            if self._closing:  # what is not delivered is told there
                return False
            refused = self._opening and not isinstance(error, UnreachableError)
            passing = isinstance(error, TrackingError) and not isinstance(error, ConflictError) and not refused
            if not passing:
                self._fatal = error
            elif not self._failing:
                self._complain(str(error))
            self._opening = False
            self._failed = self._begun
            self._changed.notify_all()
        return passing

    def _succeeded(self, end: int) -> None:
        if self._failing and self._has(end):  # else it was stopped on the way, by the end of the recorder
            tell(f"MLflow at {shown(self.tracking_uri)} has everything again")
            self._failing = False
        self._changed.notify_all()

    def _complain(self, problem: str) -> None:
        self._failing = True
        tell(f"{problem}. The work goes on: what it records is kept in {self.path} and delivered later")

    def _has(self, goal: int) -> bool:
        return self._delivery.offset >= goal

    def _raise_fatal(self) -> None:
        if self._fatal is not None and not self._raised:
            self._raised = True
            raise self._fatal
