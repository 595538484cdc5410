"""`python -m sweeps.cluster.job [--workers N] COMMAND ...`: what a submitted job runs in the cluster.

It waits for the workers, examines every node, and then runs the command of `python -m sweeps` with as many runs at a
time as the cluster takes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from safe.errors import command_line

EXIT_NOT_READY = 1
COMMANDS = ("run", "ablation", "variants")


@command_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; return the command's exit code, or 1 when a node is not ready."""
    parser = argparse.ArgumentParser(prog="python -m sweeps.cluster.job", allow_abbrev=False)
    parser.add_argument("--workers", type=int, default=1, help="nodes that must be there (default: %(default)s)")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND ...")
    arguments = parser.parse_args(argv)
    return carry_out(arguments.workers, arguments.words)


def carry_out(workers: int, words: Sequence[str]) -> int:
    """Do what `main` says; see there."""
    from safe.config import load_config, parse_overrides
    from sweeps import cli
    from sweeps.cli.doctor import print_findings, wanted
    from sweeps.doctor.findings import diagnose, healthy
    from sweeps.doctor.nodes import RayNodes, shape, wait_for_workers
    from sweeps.engine.joining import existing_ray
    from sweeps.spec.machine import ray_address

    words = with_data_root(words)
    arguments = cli.parser().parse_args(words)
    config = load_config(arguments.dataset, overrides=parse_overrides(arguments.settings))
    with existing_ray(ray_address() or "auto"):
        print(f"waiting for {workers} workers ...", flush=True)
        sizes = wait_for_workers(workers)
        diagnosis = diagnose(wanted(arguments), RayNodes())
    print_findings(diagnosis)
    if not healthy(diagnosis):
        return EXIT_NOT_READY
    runs, threads = shape(sizes, config.runtime.threads, gpus=config.runtime.device != "cpu")
    os.environ.setdefault("RAY_ADDRESS", "auto")
    added = [] if arguments.concurrency else ["--concurrency", str(runs)]
    added += [] if config.runtime.threads else [f"runtime.threads={threads}"]
    print(f"{len(sizes)} workers, {arguments.concurrency or runs} runs at a time, {threads} threads a run", flush=True)
    return cli.main([*words, *added])


def with_data_root(words: Sequence[str]) -> list[str]:
    """Return the words of a command with the cluster's data folder (`SAFE_DATA`) unless they name one."""
    root = os.environ.get("SAFE_DATA")
    named = any(word.startswith("data.root=") for word in words)
    return [*words] if named or not root else [*words, f"data.root={root}"]


if __name__ == "__main__":
    sys.exit(main())
