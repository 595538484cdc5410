"""Errors that a person can act on, notices, and what every command line does.

`UserError` carries one message for the person who gave the input; the command lines print it without a
traceback and end with exit code 2. Every other exception is a bug and keeps its traceback. A `Notice` stops nothing.
"""

from __future__ import annotations

import atexit
import difflib
import errno
import functools
import gc
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterable
from typing import ParamSpec

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
# How many objects Python waits for before it looks through them for garbage: with its own 700 (2,000 from 3.13 on) it
# does so some nine hundred times while torch and timm load.
YOUNG_OBJECTS = 10_000
P = ParamSpec("P")
_usual_format = warnings.formatwarning
_told: set[str] = set()


class UserError(Exception):
    """Bad input: says what was given, what is allowed and what to do."""


class Notice(UserWarning):
    """What a person should know about the input, and nothing that stops; the command lines print `note: ...`."""


class NonFiniteLossError(RuntimeError):
    """A loss term became NaN or infinite; the message names session, step and term."""


def tell(sentence: str) -> None:
    """Warn with a `Notice`."""
    warnings.warn(sentence, Notice, stacklevel=2)


def print_notices_once() -> None:
    """From now on print every different `Notice` of this process once, as a line; other warnings stay as they are."""
    warnings.formatwarning = _format


def _format(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    if not issubclass(category, Notice):
        return _usual_format(message, category, filename, lineno, line)
    text = f"note: {message}\n"
    known = text in _told
    _told.add(text)
    return "" if known else text


def nearest(given: str, allowed: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the closest allowed word, or `""` when none is close.

    A word that looks the same, its accents encoded otherwise, is told as that.
    """
    among = list(allowed)
    for word in among:
        if word != given and unicodedata.normalize("NFC", word) == unicodedata.normalize("NFC", given):
            return f" {word!a} looks the same and is encoded otherwise: {given!a} was given."
    matches = difflib.get_close_matches(given, among, n=1, cutoff=0.5)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def shortened(text: str) -> str:
    """Return a text as it is, or the beginning of a long one and how long it is."""
    return text if len(text) <= 200 else f"{text[:190]}... ({len(text)} letters)"


def contrasted(before: object, now: object) -> tuple[str, str]:
    """Return two different values in words; of two long lists how long they are and where they begin to differ."""
    lists = [list(one) for one in (before, now) if isinstance(one, list | tuple)]
    if len(lists) == 2 and max(map(len, lists)) > 10:
        place = next((i for i, (a, b) in enumerate(zip(*lists, strict=False)) if a != b), min(map(len, lists)))
        told = [repr(one[place]) if place < len(one) else "nothing" for one in lists]
        return f"{len(lists[0])} with {told[0]} in place {place + 1}", f"{len(lists[1])} with {told[1]} there"
    return shortened(repr(before)), shortened(repr(now))


def bad_path(error: OSError) -> str:
    """Return the message for a path that no system takes, too long a name or links in a circle; raise other errors."""
    if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
        raise error
    return f"{error.strerror}: {shown(shortened(str(error.filename)))}; give another path"


def shown(name: str) -> str:
    """Return a name as it is, or escaped if it would do something to a terminal other than being read."""
    return name if name.isprintable() else ascii(name)


def choices(given: str, allowed: Iterable[str], what: str) -> str:
    """Return the message for a word outside a fixed list: what was given, what is allowed, the nearest choice."""
    allowed = list(allowed)
    return f"unknown {what} {given!r}; choose one of: {', '.join(allowed)}.{nearest(given, allowed)}"


def command_line(*also: type[Exception], stopped: str = "") -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Decorate the main function of a command line, whose exit code also says what stopped it.

    2 for a `UserError`, one of `also`, and a path that no system takes, told in one line; 130 for Ctrl-C, after the
    line `stopped`. Every other exception is a bug and passes.
    """
    bad_input: tuple[type[Exception], ...] = (UserError, *also)

    def decorate(main: Callable[P, int]) -> Callable[P, int]:
        @functools.wraps(main)
        def told(*arguments: P.args, **options: P.kwargs) -> int:
            look_seldom_for_garbage()
            try:
                return main(*arguments, **options)
            except bad_input as error:
                print(f"error: {error}", file=sys.stderr)
            except OSError as error:
                print(f"error: {bad_path(error)}", file=sys.stderr)
            except KeyboardInterrupt:
                if stopped:
                    print(stopped, file=sys.stderr)
                return EXIT_INTERRUPTED
            return EXIT_USER_ERROR

        return told

    return decorate


@functools.cache
def look_seldom_for_garbage() -> None:
    """Have this process look for garbage in cycles seldom, and not at all when it ends.

    What torch, timm and MLflow bring stays to the end. Python would look through the latest of it while it loads, and
    through all of it after the last line of a program, which takes a second or two.
    """
    gc.set_threshold(YOUNG_OBJECTS)
    atexit.register(gc.freeze)
