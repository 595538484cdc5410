"""The variables that Ray reads when it is imported; they are set before the first import, wherever that happens."""

from __future__ import annotations

import os

# Ray's output is ours to show; nothing is reported to anyone. Without the capability named after Windows and OSX, Ray
# listens on the loopback address only. Whoever else is on this machine needs the token, which lives in the environment
# of this process and its workers, not in the home folder.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_THRESHOLD_S": "60",
    # Tune asks what resources there are for its own messages alone, and waits long where Ray is gone.
    "TUNE_STATE_REFRESH_PERIOD": "1e9",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Tune's own record of the experiment is never read, ours is the ledger; writing it takes longer with every trial.
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
    # With every checkpoint Tune would keep the whole result of its session, in the driver and to the end.
    "TUNE_ONLY_STORE_CHECKPOINT_SCORE_ATTRIBUTE": "1",
}
# A Ray that others have started has decided these for itself.
_NOT_OURS = ("RAY_AUTH_MODE", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
# How long to wait for the reason when a process is lost: Ray's own second is over before a dead node is known as such.
_WHERE_NODES_DIE = {"RAY_timeout_ms_task_wait_for_death_info": "120000"}


def prepare_ray(*, joins: bool) -> None:
    """Set the environment of Ray; to be called before whatever imports Ray first, because Ray reads it only once.

    Args:
        joins: whether this process joins a Ray that runs already.
    """
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if not (joins and name in _NOT_OURS)})
    if joins:
        os.environ.update(_WHERE_NODES_DIE)
