"""The Ray of a study: one that runs already, or one of its own.

`RAY_ADDRESS` decides: when it is set, sweeps run on that Ray instead of one of their own. Their storage, the results
folder, must then lie on a path that means the same folder on every node.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from safe.errors import UserError
from sweeps.engine.polite import polite_kill
from sweeps.engine.ray_environment import prepare_ray
from sweeps.engine.tuner import local_ray
from sweeps.spec.machine import ray_address
from sweeps.spec.specs import Spec


@contextmanager
def existing_ray(address: str) -> Iterator[None]:
    """Run the block connected to the Ray at `address` ("auto" or host:port), as a driver on one of its nodes.

    Raises:
        UserError: nothing answers there, this machine is no node of it, or the token is not accepted.
    """
    if "://" in address:
        raise UserError(
            f"RAY_ADDRESS={address} is the address of a job server; hand it the sweep with: python -m "
            "sweeps.cluster.submit run ... , or, on one of its nodes, name the cluster itself: auto, or host:6379"
        )
    prepare_ray(joins=True)
    import ray

    try:
        ray.init(address=address, logging_level=logging.CRITICAL, log_to_driver=False)
    except ray.exceptions.AuthenticationError:
        raise UserError(
            f"the Ray at {address} does not accept the token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the "
            "file that holds it"
        ) from None
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"cannot join the Ray at {address}: {first} Start it, or make this machine a node of it first: "
            f"ray start --address={address} --num-cpus=0"
        ) from None
    try:
        for name in ("ray", "ray.tune", "ray.train", "ray.data"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield
    finally:
        ray.shutdown()


@contextmanager
def ray_of(spec: Spec, meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Run the block with a Ray, which takes SIGTERM for itself when it starts and ends: then that is as it was.

    Args:
        meanwhile: what to do while a Ray of its own gets ready.
    """
    address = ray_address()
    try:
        with ExitStack() as stack:
            with polite_kill():
                try:
                    own = spec.concurrency * spec.threads
                    stack.enter_context(existing_ray(address) if address else local_ray(own, meanwhile))
                except SystemExit:  # Ray's answer to SIGTERM
                    raise KeyboardInterrupt from None
            yield
    finally:
        # Python does not know that Ray's end has taken the system's answer to SIGTERM, which ends the process at once.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
