"""What ends trials, or a whole search, before their time: `none`, `asha`, `auto`, or `below:session=2,accuracy=0.4`."""

from __future__ import annotations

from dataclasses import dataclass

from safe.errors import UserError, choices
from sweeps.spec.objective import Objective, objectives

KINDS = ("none", "asha", "auto", "below")
BELOW = "below:session=2,accuracy=0.4"  # as an example


@dataclass(frozen=True)
class Hopeless:
    """Trials end after a session where a metric is worse than a value."""

    session: int
    metric: Objective
    value: float

    @property
    def reason(self) -> str:
        """Return in words why such a trial ends; the same for all of them."""
        side = "below" if self.metric.maximise else "above"
        return f"{self.metric.name} {side} {self.value:g} after session {self.session}"


def stopping(text: str) -> str | Hopeless:
    """Return `none`, `asha` or `auto`, or what makes a trial hopeless.

    Raises:
        UserError: the text is none of them.
    """
    kind, _, rest = text.partition(":")
    if kind not in KINDS or (kind != "below" and rest):
        raise UserError(f"{choices(text, (*KINDS[:-1], BELOW), 'stop')}")
    if kind != "below":
        return kind
    words = dict(part.partition("=")[::2] for part in rest.split(","))
    try:
        session, (name, value) = int(words.pop("session")), *words.items()
        limit = float(value)
    except (KeyError, ValueError):
        raise UserError(f"--stop {text}: write a session and one metric with its bound, as in {BELOW}") from None
    if session < 1 or not abs(limit) < float("inf"):
        raise UserError(f"--stop {text}: the session counts from 1, and the bound is a finite number")
    return Hopeless(session, objectives(name)[0], limit)
