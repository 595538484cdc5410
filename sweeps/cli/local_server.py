"""A server of MLflow's on this machine: what it says goes to a file, and its address is told once it answers."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from safe.errors import UserError
from safe.io.opening import open_own

HOST = "127.0.0.1"
PORTS_TRIED = 50
FOLDER = "logs"

_EVERY_INTERFACE = ("0.0.0.0", "::")
_LOOK_SECONDS = 0.2
_END_SECONDS = 10.0
_LAST_LINES = 5


def add_address(command: argparse.ArgumentParser, port: int) -> None:
    """Give a command the address of the server that it starts."""
    command.add_argument("--port", type=int, default=port, help="first port to try (default: %(default)s)")
    command.add_argument("--host", default=HOST, help="address to listen on (default: %(default)s, this machine alone)")


def free_port(first: int, host: str = HOST) -> int:
    """Return the first free port of an address from `first` on.

    Raises:
        UserError: it is no port, none of the next PORTS_TRIED is free, or this machine has no such address.
    """
    if not 1 <= first < 65536:
        raise UserError(f"--port must be between 1 and 65535, got {first}")
    try:
        family = socket.getaddrinfo(host, None)[0][0]
    except UnicodeError:
        raise UserError(f"--host {host}: no name of a machine") from None
    except OSError as error:
        raise UserError(f"--host {host}: {error.strerror}") from None
    for port in range(first, min(first + PORTS_TRIED, 65536)):
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise UserError(f"no free port of {host} from {first} on; choose another one with --port")


def address_of(host: str, port: int) -> str:
    """Return the address at which this machine reaches a server that listens on a host."""
    reached = HOST if host in _EVERY_INTERFACE else host
    return f"http://{f'[{reached}]' if ':' in reached else reached}:{port}"


def run_server(
    command: Sequence[str], address: str, log: Path, environment: Mapping[str, str], tell: Callable[[], None]
) -> int:
    """Run a server until it ends or this process is asked to: by Ctrl-C, SIGTERM or a closing terminal.

    Args:
        command: that starts it.
        address: at which it will answer.
        log: file for what the server says, for its owner alone; one of before is replaced.
        environment: variables beside those of this process.
        tell: called once the server answers.

    Returns:
        0, or 1 for a server that ended by itself; its last words are told.
    """
    from sweeps.engine.polite import polite_kill
    from tracking.environment import reach_directly

    reach_directly(address)
    log.parent.mkdir(parents=True, exist_ok=True)
    # MLflow's command looks for its server's beside this interpreter only where that is in the path.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    with open(log, "wb", opener=partial(open_own, mode=0o600)) as output, polite_kill():
        server = subprocess.Popen(
            command,
            env={**os.environ, "PATH": path, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it has processes of its own, which are ended as one group
        )
        try:
            while server.poll() is None and not _answers(address):
                time.sleep(_LOOK_SECONDS)
            if server.poll() is None:
                tell()
            server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _end(server)
    last = log.read_text("utf-8", errors="replace").splitlines()[-_LAST_LINES:]
    print("\n".join([f"error: the server ended; {log} says:", *last]), file=sys.stderr)
    return 1


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/health", timeout=_END_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _end(server: subprocess.Popen[bytes]) -> None:
    """End a server with all its processes, by force where it takes too long."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(_END_SECONDS)
            return
