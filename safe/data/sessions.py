"""How many sessions a stream has, before any image is read."""

from __future__ import annotations

from safe.config import Config
from safe.data.registry import DOMAINS, class_count, require_dataset
from safe.data.split import session_sizes


def session_count(config: Config) -> int:
    """Return the number of sessions of a configuration's stream.

    Raises:
        UserError: the data set is not there, or the first session asks for more classes than it has.
    """
    data = config.data
    if require_dataset(config.dataset, data.root).kind == "domains" and data.scenario == "auto":
        return len(DOMAINS)
    return len(session_sizes(class_count(config.dataset, data.root), data.init_classes, data.increment))
