"""From where on settings act: trials that differ in session 1 share no training, in heads alone all of it."""

from __future__ import annotations

from safe.config import setting_names
from safe.config.described import acts, needs
from safe.config.marks import Acts


def acts_in_session_1(name: str) -> bool:
    """Return whether a setting, by dotted name, changes what is trained in session 1.

    What is no setting of a run is staged search's choice among whole slow settings, which do.
    """
    return name not in setting_names() or acts(name).in_session_1


def acts_on_heads_alone(name: str) -> bool:
    """Return whether a setting, by dotted name, changes the closed forms, of the slow learner by itself too."""
    if name not in setting_names() or acts(name) != Acts.HEADS:
        return False
    return not any(other == "fast.epochs" for condition in needs(name) for other, _ in condition.alternatives)
