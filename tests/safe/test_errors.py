"""What a person reads for a wrong word, and for what is only worth knowing."""

from __future__ import annotations

import errno
import subprocess
import sys
import warnings

import pytest

from safe.errors import (
    EXIT_USER_ERROR,
    NonFiniteLossError,
    Notice,
    UserError,
    choices,
    command_line,
    nearest,
    print_notices_once,
    tell,
)


def test_nearest_names_the_closest_word_or_nothing() -> None:
    assert nearest("fast.epoch", ["slow.epochs", "fast.epochs"]) == " Did you mean 'fast.epochs'?"
    assert nearest("zzzz", ["slow.epochs"]) == ""
    assert nearest("x", []) == ""
    composed, apart = "caf\u00e9", "cafe\u0301"  # a folder copied from another system may have the other one
    assert nearest(apart, [composed]) == r" 'caf\xe9' looks the same and is encoded otherwise: 'cafe\u0301' was given."


def test_choices_lists_everything_and_the_nearest() -> None:
    message = choices("adpter", (kind for kind in ("adapter", "ssf")), "PET kind")
    assert message == "unknown PET kind 'adpter'; choose one of: adapter, ssf. Did you mean 'adapter'?"


def test_kinds_of_errors() -> None:
    assert EXIT_USER_ERROR == 2
    assert not issubclass(NonFiniteLossError, UserError)
    assert not issubclass(UserError, ValueError | RuntimeError)


def test_a_notice_is_printed_once_as_a_line_and_other_warnings_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    usual = warnings.formatwarning(UserWarning("own"), UserWarning, "file.py", 7)
    print_notices_once()
    print_notices_once()
    notices = [Notice("3 files of this test are passed over"), Notice("another")]
    printed = [warnings.formatwarning(notice, Notice, "file.py", 7) for notice in [*notices, *notices]]
    assert printed == ["note: 3 files of this test are passed over\n", "note: another\n", "", ""]
    assert warnings.formatwarning(UserWarning("own"), UserWarning, "file.py", 7) == usual
    with pytest.warns(Notice, match="^told$"):
        tell("told")


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (UserError("no such thing"), 2, "error: no such thing\n"),
        (LookupError("of another package"), 2, "error: of another package\n"),
        (OSError(errno.ENAMETOOLONG, "too long", "x"), 2, "error: too long: x; give another path\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
    ],
)
def test_a_command_line_tells_what_stopped_it_in_a_line(
    raised: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @command_line(LookupError, stopped="stopped")
    def main(words: list[str]) -> int:
        raise raised

    assert main([]) == code
    assert capsys.readouterr() == ("", told)


SEARCHED = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 10_000))  # the last to be called
from safe.errors import command_line
print(command_line()(lambda: gc.get_threshold()[0])())
"""


def test_a_command_line_looks_seldom_for_garbage_and_not_when_it_ends() -> None:
    assert subprocess.check_output([sys.executable, "-c", SEARCHED], text=True) == "10000\nTrue\n"


@pytest.mark.parametrize("bug", [ValueError("a bug"), BrokenPipeError(errno.EPIPE, "nobody reads"), LookupError("x")])
def test_a_bug_and_what_a_command_line_does_not_know_pass(bug: Exception) -> None:
    @command_line()
    def main() -> int:
        raise bug

    with pytest.raises(type(bug)):
        main()


def test_a_command_line_that_ends_by_itself_has_its_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line()(lambda: 7)() == 7
    assert capsys.readouterr() == ("", "")
