"""The options that say what a sweep is, for the commands that run one or plan it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from sweeps.cli.common import add_dataset, add_imports, add_results
from sweeps.spec.marks import Group, options
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


def placeholder(field: str) -> str:
    """Return what stands for the value of a field's option in the help: its choices, where there is a fixed list."""
    kind = SweepSpec.model_fields[field].annotation
    if get_origin(kind) is Literal:
        return f"{{{','.join(get_args(kind))}}}"
    return {int: "N", float: "X", Path: "FILE"}.get(reader(field), field.split("_")[0].upper())


OPTIONS = options(SweepSpec)


def add_asking(command: argparse.ArgumentParser) -> None:
    """Give a command the options of a sweep, its settings and the results folder."""
    command.usage = "%(prog)s [options] [key=value ...]"
    add_dataset(command)
    headings = {group: command.add_argument_group(group) for group in Group}
    for field, option in OPTIONS.items():
        if (kind := reader(field)) is None:
            headings[option.group].add_argument(flag(field), action="store_true", help=option.help)
        else:
            headings[option.group].add_argument(flag(field), type=kind, metavar=placeholder(field), help=option.help)
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
