"""How a training run is shown while it goes on: to programs, or to people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from safe.types import EpochDone, Event, SessionResult

if TYPE_CHECKING:
    from safe.training.trainer import SafeTrainer


class JsonLines:
    """One JSON object a session on standard output, for programs."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, SessionResult):
            line = {"session": event.session, "sessions": event.sessions, **event.as_metrics()}
            print(json.dumps(line), flush=True)

    def close(self) -> None:
        """Nothing is open."""


class Table:
    """One line a session for people, with a progress bar over epochs on a terminal."""

    def __init__(self, trainer: SafeTrainer, epochs_done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        config = trainer.config
        self._console = Console(markup=False, emoji=False)  # a data set may be called anything
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        epochs = config.slow.epochs + (trainer.sessions - 1) * config.fast.epochs
        self._task = self._progress.add_task(f"session {trainer.session + 1}", total=epochs, completed=epochs_done)
        self._console.print(
            f"{config.dataset}: {trainer.sessions} sessions, seed {config.seed}, {config.pet.kind} on "
            f"{config.backbone.name}, {trainer.device}"
        )
        self._console.print(trainer.inputs.network, highlight=False, soft_wrap=True)
        self._console.print("session  classes  accuracy  average  forgetting    slow    fast  (%)  seconds")
        self._progress.start()

    def __call__(self, event: Event) -> None:
        if isinstance(event, EpochDone):
            now = f"session {event.session} of {event.sessions}, {event.phase} learner"
            self._progress.update(self._task, advance=1, description=now)
        else:
            self._row(event)

    def _row(self, result: SessionResult) -> None:
        m = result.metrics
        forgetting = f"{100 * m['forgetting']:10.2f}" if "forgetting" in m else f"{'-':>10}"
        self._console.print(
            f"{result.session:4d}/{result.sessions:<2d}  {result.classes_seen:7d}  {100 * m['accuracy']:8.2f}  "
            f"{100 * m['average_accuracy']:7.2f}  {forgetting}  {100 * m['slow/accuracy']:6.2f}  "
            f"{100 * m['fast/accuracy']:6.2f}       {sum(result.seconds.values()):7.1f}",
            highlight=False,
        )

    def close(self) -> None:
        self._progress.stop()
