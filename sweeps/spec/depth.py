"""Which settings act from session 1 on: trials that differ in one of them share no training."""

from __future__ import annotations

from safe.sharing.depths import EVALUATION, EXTRACTION, HEADS, PREDICTION, SESSION_2

_LATER = {*SESSION_2, *HEADS, *EVALUATION, *PREDICTION, *EXTRACTION}


def acts_in_session_1(name: str) -> bool:
    """Return whether a setting, by dotted name, changes what is trained in session 1."""
    return name not in _LATER
