"""`python -m sweeps.cluster.gpus COMMAND ...`: start a Ray worker with GPUs of its own, where several share a machine.

GPU_MODE=one (default): the worker claims one GPU that no other worker of this machine has. A claim is a lock on a file
of the shared volume; the lock is handed to the command and ends with it, whatever ends it.
GPU_MODE=shared: every worker uses all GPUs it sees, so that each GPU holds as many runs at a time as there are workers.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from safe.errors import UserError, command_line
from safe.io.opening import open_own

CLAIMS = Path("/srv/safe/gpus")


@command_line()
def main(words: Sequence[str]) -> int:
    """Take the command's GPUs, then become the command."""
    added = options(os.environ.get("GPU_MODE", "one"), visible_gpus(), CLAIMS)
    return os.execvp(words[0], [*words, *added])


def options(mode: str, gpus: Sequence[str], claims: Path) -> list[str]:
    """Return what is added to `ray start`; with mode one also sets CUDA_VISIBLE_DEVICES to the claimed GPU.

    Raises:
        UserError: no GPU is visible or free, or an unknown mode.
    """
    if not gpus:
        raise UserError("this worker sees no GPU; look at nvidia-smi on the host, or leave GPU=1 out")
    if mode == "shared":
        return [f"--num-gpus={len(gpus)}"]
    if mode != "one":
        raise UserError(f"GPU_MODE is one or shared, got {mode!r}")
    os.environ["CUDA_VISIBLE_DEVICES"] = claim(gpus, claims)
    return ["--num-gpus=1"]


def claim(gpus: Sequence[str], claims: Path) -> str:
    """Return the first GPU that nobody holds, held from now on by this process and what it becomes."""
    claims.mkdir(parents=True, exist_ok=True)
    for gpu in gpus:
        descriptor = open_own(claims / gpu, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        os.set_inheritable(descriptor, True)
        os.truncate(descriptor, 0)
        os.write(descriptor, socket.gethostname().encode())
        return gpu
    raise UserError(
        f"all {len(gpus)} GPUs are claimed by other workers; start at most {len(gpus)}, or use GPU_MODE=shared"
    )


def visible_gpus() -> list[str]:
    """Return the unique names (UUIDs) of the GPUs that this container sees, none where there is no driver."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return listed.stdout.split()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
