"""The command line of sweeps, a module a command or a few that belong together. Heavy imports wait until needed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

import safe
from safe.cli.parser import Parser
from safe.errors import command_line, print_notices_once
from safe.io.sources import import_own
from sweeps.cli.common import KNOWN, Run
from tracking.errors import TrackingError

# In the order of the help; the module of a command is called after it, unless it is named here.
COMMANDS = (
    "run", "plan", "resume", "extend", "add", "drop", "stop", "ablation", "variants", "orders", "audit-claim", "show",
    "report", "compare", "list", "export", "predict", "serve", "prune", "ui", "doctor", "completion",
)  # fmt: skip
MODULES = {
    "resume": "run", "extend": "run", "add": "live", "drop": "live", "stop": "live", "variants": "ablation",
    "orders": "ablation", "compare": "report", "list": "show",
}  # fmt: skip


@command_line(TrackingError)
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0, 1 (failed), 2 (bad input) or 130 (interrupted)."""
    words = sys.argv[1:] if argv is None else argv
    alone = [command for command in COMMANDS[:-1] if command in words[:1]]  # the last one tells of all
    try:
        arguments = parser(alone or COMMANDS).parse_args(words)
    except SystemExit as exit:  # argparse has printed its message
        return int(exit.code or 0)
    print_notices_once()
    import_own(getattr(arguments, "imports", ()))  # they may bring what else is asked for
    run: Run = arguments.run
    return run(arguments)


def parser(among: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """Return the parser of some commands, which has the function of the one that is asked for as `run`."""
    top = Parser(prog="python -m sweeps", description="Search, record and show sweeps of SAFE.")
    top.add_argument("--version", action="version", version=f"sweeps {safe.__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in among:
        import_module(f"{__name__}.{MODULES.get(name, name.replace('-', '_'))}")
        command = commands.add_parser(name, help=KNOWN[name].help)
        for add_options in KNOWN[name].options:
            add_options(command)
        command.set_defaults(run=KNOWN[name].run, commands=commands.choices)
    return top
