"""The options that say what a sweep is, for the commands that run one or plan it."""

from __future__ import annotations

import argparse
from typing import Any, Literal, get_args, get_origin

from sweeps.cli.common import add_imports, add_results
from sweeps.spec.marks import options
from sweeps.spec.specs import SweepSpec


def flag(field: str) -> str:
    """Return the option of a field: `--first-k`, and `--no-stages` of what is on unless it is switched off."""
    on = SweepSpec.model_fields[field].default is True
    return f"--{'no-' if on else ''}{field.replace('_', '-')}"


def reader(field: str) -> Any:
    """Return what reads the words of a field's option; None of a switch."""
    kinds = [SweepSpec.model_fields[field].annotation]
    for kind in kinds:  # a union adds its members
        kinds += get_args(kind) if get_origin(kind) is not Literal else []
    if bool in kinds:
        return None
    return OPTIONS[field].kind or next((kind for kind in (int, float) if kind in kinds), str)


OPTIONS = options(SweepSpec)


def add_asking(command: argparse.ArgumentParser) -> None:
    """Give a command the options of a sweep, its settings and the results folder."""
    command.add_argument("--dataset", default="digits", help="name of the data set (default: %(default)s)")
    for field, option in OPTIONS.items():
        if (kind := reader(field)) is None:
            command.add_argument(flag(field), action="store_true", help=option.help)
        else:
            command.add_argument(flag(field), type=kind, help=option.help)
    command.add_argument("settings", nargs="*", metavar="key=value", help="settings of every trial: fast.epochs=3")
    add_imports(command)
    add_results(command)


def asked_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options as the keywords of `sweeps.run_sweep`."""
    given: dict[str, Any] = {}
    for field in OPTIONS:
        value = getattr(arguments, flag(field).removeprefix("--").replace("-", "_"))
        if reader(field) is not None:
            given |= {} if value is None else {field: value}
        elif value:
            given[field] = not SweepSpec.model_fields[field].default
    other = {"overrides": arguments.settings, "imports": arguments.imports, "results": arguments.results}
    return {**given, **other, "dataset": arguments.dataset}
