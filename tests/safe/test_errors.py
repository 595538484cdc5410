"""What a person reads for a wrong word."""

from __future__ import annotations

from safe.errors import EXIT_USER_ERROR, NonFiniteLossError, UserError, choices, nearest


def test_nearest_names_the_closest_word_or_nothing() -> None:
    assert nearest("fast.epoch", ["slow.epochs", "fast.epochs"]) == " Did you mean 'fast.epochs'?"
    assert nearest("zzzz", ["slow.epochs"]) == ""
    assert nearest("x", []) == ""


def test_choices_lists_everything_and_the_nearest() -> None:
    message = choices("adpter", (kind for kind in ("adapter", "ssf")), "PET kind")
    assert message == "unknown PET kind 'adpter'; choose one of: adapter, ssf. Did you mean 'adapter'?"


def test_kinds_of_errors() -> None:
    assert EXIT_USER_ERROR == 2
    assert not issubclass(NonFiniteLossError, UserError)
    assert not issubclass(UserError, ValueError | RuntimeError)
