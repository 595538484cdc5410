"""The argument parser that every command line shares."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from safe.errors import EXIT_USER_ERROR, choices, nearest


def add_imports(command: argparse.ArgumentParser) -> None:
    """Give a command the modules of a user's own."""
    words = "import a module that brings a data set, PET, head or backbone of your own; may be repeated"
    command.add_argument("--import", dest="imports", action="append", default=[], metavar="MODULE", help=words)


def add_network(command: argparse.ArgumentParser) -> None:
    """Give a command that loads a trained state the place of its network."""
    command.add_argument("--weights", metavar="FILE", help="the backbone's weights, where they lie elsewhere by now")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def add_predicting(command: argparse.ArgumentParser) -> None:
    """Give a command the images to predict, and how it prints them."""
    command.epilog = "Exit code 1 if an image could not be read (it is named and skipped), 2 if there is none at all."
    command.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER", help="images, or folders of them")
    command.add_argument("--json", action="store_true", help="print one JSON line an image instead of a table")
    command.add_argument("--top", type=_count, default=1, metavar="K", help="show the K most probable classes")
    add_network(command)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` in which options may stand anywhere and must be written in full.

    A positional with `nargs="*"` or `"+"` takes its words before, between and after options, in the order given; an
    unknown option is refused with the nearest known one. What is wrong is told alone, without all of the usage. The
    parsers of subcommands are of this class too.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """End the process with one message and where to read on."""
        self.exit(EXIT_USER_ERROR, f"error: {message.rstrip('.')}\n{self.prog} --help shows what there is\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            what = str(action.metavar or action.dest).lower()
            raise argparse.ArgumentError(None, choices(str(value), map(str, action.choices), what))

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """Parse; an unknown option ends the process here (exit code 2), where the known ones are at hand."""
        parsed, rest = super().parse_known_args(args, namespace)
        if unknown := [word for word in rest if word.startswith("-") and word != "--"]:
            known = [name for action in self._actions for name in action.option_strings]
            self.error(f"unknown option {unknown[0]}.{nearest(unknown[0].partition('=')[0], known)}")
        # argparse gives such a positional the first unbroken row of words only; what comes later is left over.
        words = [word for word in rest if word != "--"]
        free = [action for action in self._actions if not action.option_strings and action.nargs in ("*", "+")]
        if words and free:
            try:
                later = self._get_values(free[-1], words)
            except argparse.ArgumentError as error:
                self.error(str(error))
            setattr(parsed, free[-1].dest, [*getattr(parsed, free[-1].dest), *later])
            rest = []
        return parsed, rest
