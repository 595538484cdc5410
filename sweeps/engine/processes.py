"""The processes of a Ray that a study starts: which variables they get, and which signals reach them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sweeps.worker.worker_environment import UMASK, passed

# Linux kills Ray's processes when this one dies. Elsewhere Ray has a watcher do that, within one process group only.
FATE_IS_SHARED = sys.platform == "linux"


@contextmanager
def private_processes() -> Iterator[None]:
    """Start Ray's processes, within the block, with the variables of `passed`, and so that others cannot read files.

    Each gets a session of its own: what a closing terminal, `timeout` or a scheduler sends to the process group is for
    this process, which ends them when it is done with them.

    Raises:
        UserError: SAFE_WORKER_ENV is no list of names.
    """
    from sweeps.engine.compat import processes

    kept_back = os.environ.keys() - passed(os.environ).keys()
    umask = os.umask(0o077)
    os.umask(umask)

    def adapted(options: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in options["env"].items() if name not in kept_back}
        own = {"env": {**given, UMASK: f"{umask:o}"}, "umask": 0o077, "start_new_session": FATE_IS_SHARED}
        return {**options, **own}

    with processes(adapted):
        yield
