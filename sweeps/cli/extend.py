"""`python -m sweeps extend`: more trials, seeds, space or budget for a sweep that is there."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from safe.errors import UserError
from sweeps.cli.asking import flag, placeholder, reader
from sweeps.cli.common import add_detail, add_results, command, go_on
from sweeps.ledger.known import known_sweep
from sweeps.spec.marks import option_words, options
from sweeps.spec.options import check_numbers
from sweeps.spec.space import parse_space, read_space
from sweeps.spec.specs import Spec, SweepSpec

NUMBERS = [name for name, option in options(SweepSpec).items() if option.extends]


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")
    for name in NUMBERS:
        words = f"{option_words(SweepSpec, name)}: more than so far"
        parser.add_argument(flag(name), type=reader(name), metavar=placeholder(name), help=words)
    parser.add_argument("--space", type=Path, help="search space in YAML that holds the present one")


@command("extend", "give a sweep more trials, seeds, space or budget, and run them", _options, add_detail, add_results)
def _extend(arguments: argparse.Namespace) -> int:
    log, _ = known_sweep(arguments.results, arguments.name)
    given = {name: value for name in NUMBERS if (value := getattr(arguments, name)) is not None}
    return go_on(extended(log.spec, given, arguments.space), arguments)


def extended(spec: Spec, numbers: dict[str, Any], space: Path | None) -> Spec:
    """Return the specification with larger numbers and a wider space.

    Raises:
        UserError: nothing is asked for, a number is not larger, or an ablation has no such thing. Whether the space
            holds the present one is checked when the sweep goes on.
    """
    if not numbers and space is None:
        raise UserError("say what to extend: --trials, --seeds, --space, --max-sessions or --max-hours")
    check_numbers(**numbers)
    for name, value in numbers.items():
        option = flag(name)
        if name not in type(spec).model_fields:
            raise UserError(f"{spec.name!r} is an ablation, which has no {option}; it can be given more --seeds")
        now = getattr(spec, name)
        if now is None:
            raise UserError(f"{option} {value}: {spec.name!r} has no such limit")
        if value <= now:
            raise UserError(f"{option} must be more than the {now} that {spec.name!r} has, got {value}")
    changes = dict(numbers)
    if space is not None:
        if not isinstance(spec, SweepSpec):
            raise UserError(f"{spec.name!r} is an ablation, which has no --space; it can be given more --seeds")
        changes["space"] = read_space(space, spec.dataset)
        parse_space(changes["space"], spec.base)
    if isinstance(spec, SweepSpec) and "trials" in numbers:
        from sweeps.spec.combinations import possible  # brings torch

        larger = spec.model_copy(update=changes)
        changes["trials"] = possible(larger.trials, larger.search, larger.parsed_space())
        if changes["trials"] <= spec.trials:
            raise UserError(f"--trials: {spec.name!r} has all trials that its space holds; give it a wider --space")
    return spec.model_copy(update=changes)
