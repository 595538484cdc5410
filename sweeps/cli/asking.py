"""The options that say what a study is, for the commands that run one or plan it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from safe.cli.parser import add_imports
from sweeps.cli.common import add_dataset, add_results
from sweeps.spec.marks import Group, option_help, options
from sweeps.spec.runs import RunsSpec
from sweeps.spec.specs import SweepSpec


def flag(field: str, spec: type[RunsSpec] = SweepSpec) -> str:
    """Return the option of a field: `--first-k`, and `--no-stages` of what is on unless it is switched off."""
    on = spec.model_fields[field].default is True
    return f"--{'no-' if on else ''}{field.replace('_', '-')}"


def reader(field: str, spec: type[RunsSpec] = SweepSpec) -> Any:
    """Return what reads the words of a field's option; None of a switch."""
    kinds = [spec.model_fields[field].annotation]
    for kind in kinds:  # a union adds its members
        kinds += get_args(kind) if get_origin(kind) is not Literal else []
    if bool in kinds:
        return None
    return options(spec)[field].kind or next((kind for kind in (int, float) if kind in kinds), str)


def placeholder(field: str, spec: type[RunsSpec] = SweepSpec) -> str:
    """Return what stands for the value of a field's option in the help: its choices, where there is a fixed list."""
    kind = spec.model_fields[field].annotation
    if get_origin(kind) is Literal:
        return f"{{{','.join(get_args(kind))}}}"
    return {int: "N", float: "X", Path: "FILE"}.get(reader(field, spec), field.split("_")[0].upper())


def add_asking(command: argparse.ArgumentParser, spec: type[RunsSpec] = SweepSpec) -> None:
    """Give a command the options of a study, its settings and the results folder."""
    command.usage = "%(prog)s [options] [key=value ...]"
    add_dataset(command)
    fields = options(spec)
    used = {option.group for option in fields.values()}
    headings = {group: command.add_argument_group(group) for group in Group if group in used}
    for field, option in fields.items():
        name, heading = flag(field, spec), headings[option.group]
        if (kind := reader(field, spec)) is None:
            heading.add_argument(name, action="store_true", help=option_help(spec, field))
        else:
            heading.add_argument(name, type=kind, metavar=placeholder(field, spec), help=option_help(spec, field))
    command.add_argument("settings", nargs="*", metavar="key=value", help="settings of every run: fast.epochs=3")
    add_imports(command)
    add_results(command)


def asked_options(arguments: argparse.Namespace, spec: type[RunsSpec] = SweepSpec) -> dict[str, Any]:
    """Return the options as the keywords of `sweeps.run_sweep`, or of another study."""
    given: dict[str, Any] = {}
    for field in options(spec):
        value = getattr(arguments, flag(field, spec).removeprefix("--").replace("-", "_"))
        if reader(field, spec) is not None:
            given |= {} if value is None else {field: value}
        elif value:
            given[field] = not spec.model_fields[field].default
    other = {"overrides": arguments.settings, "imports": arguments.imports, "results": arguments.results}
    return {**given, **other, "dataset": arguments.dataset}
