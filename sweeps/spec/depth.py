"""Which settings act from session 1 on: trials that differ in one of them share no training."""

from __future__ import annotations

from safe.config import setting_names
from safe.config.described import acts


def acts_in_session_1(name: str) -> bool:
    """Return whether a setting, by dotted name, changes what is trained in session 1.

    What is no setting of a run is staged search's choice among whole slow settings, which do.
    """
    return name not in setting_names() or acts(name).in_session_1
