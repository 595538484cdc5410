"""`python -m sweeps.cluster`: a cluster of containers on this machine; needs Docker and nothing installed beside it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from safe.errors import command_line
from sweeps.cluster import commands


@command_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0, 1 (something does not answer), 2 (bad input) or 130 (interrupted)."""
    parser = argparse.ArgumentParser(prog="python -m sweeps.cluster", description=__doc__, allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    up = verbs.add_parser("up", help="build, start, wait until everything answers")
    up.add_argument("--workers", type=int, default=2, help="Ray workers (default: %(default)s)")
    up.add_argument("--gpu", action="store_true", help="give the workers the machine's GPUs")
    verbs.add_parser("status", help="containers, memory, sweeps")
    logs = verbs.add_parser("logs", help="follow the log of a sweep, or of all containers")
    logs.add_argument("name", nargs="?", help="name of a sweep")
    stop = verbs.add_parser("stop", help="end a sweep in order; it can be continued")
    stop.add_argument("name", help="name of the sweep")
    for verb, words in (
        ("add", "put a trial into a sweep: add NAME key=value ..."),
        ("drop", "end one: drop NAME TRIAL"),
    ):
        live = verbs.add_parser(verb, help=words)
        live.add_argument("words", nargs="+", metavar="NAME ...")
    down = verbs.add_parser("down", help="take the cluster away; data stays")
    down.add_argument("-v", "--volumes", action="store_true", help="wipe the data too")
    submit = verbs.add_parser("submit", help="hand a sweep in: submit run --dataset glyphs ...")
    submit.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND ...")
    arguments = parser.parse_args(argv)
    match arguments.verb:
        case "up":
            return commands.up(arguments.workers, arguments.gpu)
        case "status":
            return commands.status()
        case "logs":
            return commands.logs(arguments.name)
        case "stop":
            return commands.stop(arguments.name)
        case "add" | "drop":
            return commands.ask(arguments.verb, arguments.words)
        case "down":
            return commands.down(arguments.volumes)
        case _:
            return commands.submit(arguments.words)


if __name__ == "__main__":
    sys.exit(main())
